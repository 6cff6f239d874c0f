"""The coded images of an AVIF file: boxes, items and where these lie (ISO/IEC 14496-12)."""

import os
from collections.abc import Iterator
from typing import BinaryIO

_CODED = b"av01"
_IN_FILE, _IN_BOX = 0, 1


def boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the kind and content of each box."""
    at = 0
    while at + 8 <= len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        if size < 8 or at + size > len(content):
            return
        yield content[at + 4 : at + 8], content[at + 8 : at + size]
        at += size


def coded_items(file: BinaryIO, meta: bytes) -> Iterator[bytes]:
    """Yield the AV1 bitstream of each coded image, given the content of the box ``meta``.

    Raises IndexError if it is damaged.
    """
    left = file.seek(0, os.SEEK_END)  # parts that overlap could make much of a small file
    found = dict(boxes(meta))
    coded = _coded(found.get(b"iinf", b""))
    for number, where, extents in _locations(found.get(b"iloc", b"")):
        if number not in coded:
            continue
        parts = []
        for start, length in extents:
            if where == _IN_FILE:
                file.seek(start)
                parts.append(file.read(length or -1))  # without a length, up to the end
            else:
                data = found.get(b"idat", b"")
                parts.append(data[start : start + length] if length else data[start:])
            left -= len(parts[-1])
            if left < 0:
                raise IndexError("parts of its images overlap")
        yield b"".join(parts)


class _Numbers:
    """Reads big-endian numbers of some bytes."""

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    def read(self, size: int) -> int:
        if self._at + size > len(self._content):
            raise IndexError("a table of its images is cut off")
        self._at += size
        return int.from_bytes(self._content[self._at - size : self._at], "big")


def _coded(content: bytes) -> set[int]:
    """Return the numbers of the items that are AV1 images, from the box ``iinf``."""
    start = 6 if content[:1] == b"\0" else 8
    coded = set()
    for kind, entry in boxes(content[start:]):
        wide = 4 if entry[:1] == b"\3" else 2
        if kind == b"infe" and entry[6 + wide : 10 + wide] == _CODED:
            coded.add(int.from_bytes(entry[4 : 4 + wide], "big"))
    return coded


def _locations(content: bytes) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
    """Yield each item's number, whether it lies in the file or in a box, and its extents."""
    numbers = _Numbers(content)
    version = numbers.read(1)
    numbers.read(3)
    sizes, more = numbers.read(1), numbers.read(1)
    start_size, length_size, base_size, index_size = sizes >> 4, sizes & 15, more >> 4, more & 15
    for _ in range(numbers.read(2 if version < 2 else 4)):
        number = numbers.read(2 if version < 2 else 4)
        where = numbers.read(2) & 15 if version else _IN_FILE
        numbers.read(2)
        base = numbers.read(base_size)
        extents = []
        for _ in range(numbers.read(2)):
            if version:
                numbers.read(index_size)
            extents.append((base + numbers.read(start_size), numbers.read(length_size)))
        if where in (_IN_FILE, _IN_BOX):
            yield number, where, extents
