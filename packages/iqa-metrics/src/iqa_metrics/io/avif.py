"""The depth, the colours and the frames of an AVIF file, which Pillow does not expose.

Pillow decodes all AVIF files to 8 bits, and scales frames to the size that the file states. See
ISO/IEC 23008-12 (HEIF), 14496-12 (its boxes), and https://aomediacodec.github.io/av1-isobmff/ for
the box av1C.
"""

from collections.abc import Iterator
from typing import BinaryIO

from PIL import features

from iqa_metrics.io.av1 import Av1Error, frame_sizes
from iqa_metrics.io.avif_items import boxes, coded_items
from iqa_metrics.io.errors import ImageError, check_size
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


def check_header(file: BinaryIO, max_pixels: int) -> CodePoints | None:
    """Refuse what Pillow would cut or scale; return the code points of its colours, if any.

    These are files of more than 8 bits, and files whose frames have another size than the file
    says, which it would scale. Raises ImageError.
    """
    check_codec()
    depths: set[int] = set()
    sizes: set[tuple[int, int]] = set()
    cicp = None
    meta = _meta(file)
    for kind, content in _properties(meta):
        if kind == b"av1C" and len(content) >= 4:
            high, twelve = content[2] & 0x40, content[2] & 0x20
            depths.add(12 if high and twelve else 10 if high else 8)
        elif kind == b"ispe" and len(content) >= 12:
            sizes.add((int.from_bytes(content[4:8], "big"), int.from_bytes(content[8:12], "big")))
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
    _check_frames(file, meta, sizes, max_pixels)
    return cicp


def _check_frames(
    file: BinaryIO, meta: bytes, sizes: set[tuple[int, int]], max_pixels: int
) -> None:
    """Refuse images whose frames have too many pixels, or no size that the file states."""
    try:
        for content in coded_items(file, meta):
            for width, height in frame_sizes(content):
                check_size(width, height, max_pixels)
                if (width, height) not in sizes:
                    raise ImageError(
                        f"damaged AVIF image: a frame of {width}x{height}, which is no size that "
                        "the file states"
                    )
    except (Av1Error, IndexError) as error:
        raise ImageError(f"damaged AVIF image: {error}") from error


def _meta(file: BinaryIO) -> bytes:
    """Return the content of the box of descriptions; empty if there is none."""
    for kind, size in _top_boxes(file):
        if kind == b"meta":
            if size > _MOST_META:
                raise ImageError("damaged AVIF image: its header is too long")
            return file.read(size)[_FULL_BOX:]
    return b""


def _properties(meta: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the kind and content of each property of a file's images."""
    for outer, properties in boxes(meta):
        if outer == b"iprp":
            for inner, container in boxes(properties):
                if inner == b"ipco":
                    yield from boxes(container)


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
