"""The frame sizes that an AV1 bitstream states, section 5.5 of its specification.

See https://aomediacodec.github.io/av1-spec/av1-spec.pdf.
"""

_SEQUENCE_HEADER = 1
_MOST_UNITS = 10_000


class Av1Error(ValueError):
    """A bitstream that ends too early, or has no sequence header."""


def frame_sizes(content: bytes) -> set[tuple[int, int]]:
    """Return the largest frame's width and height of each sequence header. Raises Av1Error."""
    found = set()
    at = 0
    for _ in range(_MOST_UNITS):
        if at >= len(content):
            break
        kind, extension, has_size = content[at] >> 3 & 15, content[at] >> 2 & 1, content[at] & 2
        at += 1 + extension
        size = len(content) - at
        if has_size:
            size, at = _leb128(content, at)
        if kind == _SEQUENCE_HEADER:
            found.add(_largest_frame(_Bits(content[at : at + min(size, 1024)])))
        at += size
    if not found:
        raise Av1Error("no sequence header")
    return found


def _leb128(content: bytes, at: int) -> tuple[int, int]:
    value = 0
    for number, byte in enumerate(content[at : at + 8]):
        value |= (byte & 127) << (7 * number)
        if not byte & 128:
            return value, at + number + 1
    raise Av1Error("a length is cut off")


class _Bits:
    """Reads numbers bit by bit."""

    def __init__(self, content: bytes) -> None:
        self._left = 8 * len(content)
        self._value = int.from_bytes(content, "big")

    def read(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise Av1Error("a sequence header is cut off")
        return self._value >> self._left & ((1 << count) - 1)

    def skip_variable(self) -> None:
        """Skip a number in the variable-length code uvlc."""
        zeros = 0
        while not self.read(1):
            zeros += 1
        self.read(zeros if zeros < 32 else 0)


def _largest_frame(bits: _Bits) -> tuple[int, int]:
    bits.read(4)  # profile, still picture
    if bits.read(1):  # reduced header of a still picture
        bits.read(5)
    else:
        _skip_operating_points(bits)
    width_bits, height_bits = bits.read(4) + 1, bits.read(4) + 1
    return bits.read(width_bits) + 1, bits.read(height_bits) + 1


def _skip_operating_points(bits: _Bits) -> None:
    delay_bits = 0
    if bits.read(1):  # timing
        bits.read(64)
        if bits.read(1):
            bits.skip_variable()
        if bits.read(1):  # decoder model
            delay_bits = bits.read(5) + 1
            bits.read(42)
    has_delays = bits.read(1)
    for _ in range(bits.read(5) + 1):
        bits.read(12)
        if bits.read(5) > 7:
            bits.read(1)
        if delay_bits and bits.read(1):
            bits.read(2 * delay_bits + 1)
        if has_delays and bits.read(1):
            bits.read(4)
