"""Read PGM and PPM files with any maximum value, exactly.

Pillow scales other maximum values than 255 and 65535 with rounding, and cuts 16-bit PPM to 8 bits.
See https://netpbm.sourceforge.net/doc/pgm.html and ppm.html.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from iqa_metrics.io.errors import ImageError, check_size

_KINDS = {b"P2": (1, True), b"P3": (3, True), b"P5": (1, False), b"P6": (3, False)}
"""For each magic number the channels, and whether the samples are text."""
_SPACES = b" \t\n\v\f\r"
_MOST_DIGITS = 10
_BLOCK = 2**20
"""Bytes read at a time, between two looks at the clock of a file with a time limit."""


@dataclass(frozen=True)
class Netpbm:
    """A PGM or PPM file, whose header was read.

    Attributes
    ----------
    size
        Width and height.
    peak
        The maximum value.
    """

    size: tuple[int, int]
    peak: int
    _file: BinaryIO
    _channels: int
    _plain: bool

    @classmethod
    def open(cls, file: BinaryIO) -> "Netpbm | None":
        """Read the header at the file's beginning; None if it is no PGM or PPM file."""
        start = file.read(3)
        if start[:2] not in _KINDS or start[2:] not in tuple(bytes([c]) for c in _SPACES + b"#"):
            return None
        file.seek(2)
        channels, plain = _KINDS[start[:2]]
        width, height, peak = (_number(file) for _ in range(3))
        if not 1 <= peak <= 65535:
            raise ImageError(f"PGM or PPM with the maximum value {peak}; expected 1 to 65535")
        return cls((width, height), peak, file, channels, plain)

    @property
    def white(self) -> float:
        """What the samples were divided by: the maximum, or 1 where :meth:`pixels` has integers."""
        return 1.0 if self.peak in (255, 65535) else self.peak

    def pixels(self, max_pixels: int) -> NDArray[Any]:
        """Return ``[H, W]`` or ``[H, W, 3]``: uint8, uint16, or float32 for other maxima."""
        width, height = self.size
        check_size(width, height, max_pixels)
        count = width * height * self._channels
        samples = _text(self._file, count) if self._plain else self._binary(count)
        if len(samples) < count:
            raise ImageError(f"truncated PGM or PPM: {len(samples):,} samples of {count:,}")
        if int(samples.max()) > self.peak:
            raise ImageError(
                f"damaged PGM or PPM: the value {samples.max()} exceeds the maximum {self.peak}"
            )
        if self.peak == 255:
            samples = samples.astype(np.uint8)
        elif self.peak == 65535:
            samples = samples.astype(np.uint16)
        else:
            samples = samples.astype(np.float32) / np.float32(self.peak)
        return samples.reshape((height, width, 3) if self._channels == 3 else (height, width))

    def _binary(self, count: int) -> NDArray[Any]:
        dtype = np.dtype(np.uint8 if self.peak < 256 else ">u2")
        missing, blocks = count * dtype.itemsize, []
        while missing and (block := self._file.read(min(missing, _BLOCK))):
            blocks.append(block)
            missing -= len(block)
        content = b"".join(blocks)
        return np.frombuffer(content, dtype, len(content) // dtype.itemsize)


def _number(file: BinaryIO) -> int:
    """Read a number of the header and the one blank after it."""
    digits = b""
    while len(digits) <= _MOST_DIGITS:
        byte = file.read(1)
        if byte == b"#":
            _skip_comment(file)
            byte = b"\n"
        if byte and byte in _SPACES:
            if digits:
                break
            continue
        if not byte.isdigit():
            raise ImageError(f"damaged header of a PGM or PPM: expected a digit, got {byte!r}")
        digits += byte
    if len(digits) > _MOST_DIGITS:
        raise ImageError("damaged header of a PGM or PPM: a number is too long")
    return int(digits)


def _skip_comment(file: BinaryIO) -> None:
    while (byte := file.read(1)) and byte not in b"\r\n":
        pass


def _text(file: BinaryIO, count: int) -> NDArray[Any]:
    """Read samples that are written as decimal numbers."""
    found: list[NDArray[np.int64]] = []
    missing = count
    for tokens in _tokens(file):
        if max(map(len, tokens)) > _MOST_DIGITS or not b"".join(tokens).isdigit():
            raise ImageError("damaged PGM or PPM: expected decimal numbers of a few digits")
        numbers = np.array(tokens[:missing]).astype(np.int64)
        if numbers.max() > 65535:
            raise ImageError(f"damaged PGM or PPM: the value {numbers.max()} exceeds 65535")
        found.append(numbers.astype(np.uint16))
        missing -= len(numbers)
        if not missing:
            break
    return np.concatenate(found) if found else np.empty(0, np.uint16)


def _tokens(file: BinaryIO) -> Iterator[list[bytes]]:
    """Yield lists of what blanks separate, without comments."""
    rest, in_comment = b"", False
    while block := file.read(_BLOCK):
        text = []
        for number, line in enumerate(block.replace(b"\r", b"\n").split(b"\n")):
            in_comment = in_comment and number == 0
            said, mark, _ = line.partition(b"#")
            text.append(b"" if in_comment else said)
            in_comment = in_comment or bool(mark)
        whole = rest + b"\n".join(text)
        tokens = whole.split()
        rest = b""
        if tokens and whole[-1] not in _SPACES and not in_comment:
            rest = tokens.pop()[: _MOST_DIGITS + 1]
        if tokens:
            yield tokens
    if rest:
        yield [rest]
