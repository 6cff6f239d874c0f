"""The depth and the colours that an AVIF file states, which Pillow does not tell.

Pillow decodes all AVIF files to 8 bits. See ISO/IEC 23008-12 (HEIF), 14496-12 (its boxes), and
https://aomediacodec.github.io/av1-isobmff/ for the box av1C.
"""

from collections.abc import Iterator
from typing import BinaryIO

from PIL import features

from iqa_metrics.io.errors import ImageError
from iqa_metrics.io.stated_colour import CodePoints

_BRANDS = (b"avif", b"avis")
_MOST_META = 2**24
_FULL_BOX = 4  # version and flags
_MOST_BOXES = 100_000


def has_codec() -> bool:
    """Say whether this Pillow decodes AVIF, as most from 11.3 on do."""
    return "avif" in features.modules and bool(features.check("avif"))


def is_avif(head: bytes) -> bool:
    """Say whether a file's first bytes are those of an AVIF file."""
    if head[4:8] != b"ftyp":
        return False
    size = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, size, 4))]
    return any(brand in _BRANDS for brand in brands)


def check_codec() -> None:
    """Raise ImageError if this Pillow can't decode AVIF."""
    if not has_codec():
        raise ImageError(
            "this is an AVIF image, which this Pillow can't decode; install Pillow 11.3 or later, "
            "or convert it to PNG"
        )


def check_depth(file: BinaryIO) -> CodePoints | None:
    """Refuse a file of more than 8 bits; return the code points of its colours, if it has them.

    Raises ImageError.
    """
    check_codec()
    depths: set[int] = set()
    cicp = None
    for kind, content in _properties(file):
        if kind == b"av1C" and len(content) >= 4:
            high, twelve = content[2] & 0x40, content[2] & 0x20
            depths.add(12 if high and twelve else 10 if high else 8)
        elif kind == b"colr" and content[:4] == b"nclx" and len(content) >= 11 and cicp is None:
            values = [int.from_bytes(content[at : at + 2], "big") for at in (4, 6, 8)]
            # The matrix and the range are those of the coded YUV, which Pillow decodes to RGB.
            cicp = values[0], values[1], 0, 1
    if not depths:
        raise ImageError("damaged AVIF image: it does not state its depth")
    if max(depths) > 8:
        raise ImageError(
            f"AVIF with {max(depths)} bits per channel, of which Pillow keeps only 8; convert it "
            "to 16-bit PNG"
        )
    return cicp


def _properties(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Yield the kind and content of each property of a file's images."""
    for kind, size in _top_boxes(file):
        if kind != b"meta":
            continue
        if size > _MOST_META:
            raise ImageError("damaged AVIF image: its header is too long")
        meta = file.read(size)[_FULL_BOX:]
        for outer, properties in _boxes(meta):
            if outer == b"iprp":
                for inner, container in _boxes(properties):
                    if inner == b"ipco":
                        yield from _boxes(container)
        return


def _top_boxes(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yield the kind and length of each box; the file is then at the box's content."""
    file.seek(0)
    at = 0
    for _ in range(_MOST_BOXES):
        head = file.read(8)
        if len(head) < 8:
            return
        size, kind, header = int.from_bytes(head[:4], "big"), head[4:], 8
        if size == 1:
            size, header = int.from_bytes(file.read(8), "big"), 16
        if size == 0:  # up to the end
            size = header + _MOST_META
        if size < header:
            return
        yield kind, size - header
        at += size
        file.seek(at)


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        if size < 8 or at + size > len(content):
            return
        yield content[at + 4 : at + 8], content[at + 8 : at + size]
        at += size
