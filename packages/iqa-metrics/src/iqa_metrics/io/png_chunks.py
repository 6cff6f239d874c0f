"""The chunk of PNG that Pillow does not tell: cICP, of the third edition."""

from typing import BinaryIO

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MOST_CHUNKS = 10_000


def cicp_of_png(file: BinaryIO) -> tuple[int, int, int, int] | None:
    """Return primaries, transfer, matrix and full-range flag of a PNG file, by ITU-T H.273.

    None if it is no PNG file, or has no such chunk before its pixels.
    """
    file.seek(0)
    if file.read(len(_SIGNATURE)) != _SIGNATURE:
        return None
    at = len(_SIGNATURE)
    for _ in range(_MOST_CHUNKS):
        head = file.read(8)
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if len(head) < 8 or kind in (b"IDAT", b"IEND"):
            return None
        if kind == b"cICP" and length == 4:
            content = file.read(4)
            return (content[0], content[1], content[2], content[3]) if len(content) == 4 else None
        at += 12 + length
        file.seek(at)
    return None
