"""Read float TIFF files, of which Pillow knows only grey ones, and not all of them rightly.

Strict: of TIFF 6.0, one image of 16-, 32- or 64-bit IEEE floats, in strips or tiles, interleaved or
in planes, uncompressed or with Deflate, with no predictor or the one for floats (Adobe's TIFF
Technical Note 3). Everything else is refused with the reason.
"""

import struct
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from iqa_metrics.io.errors import ImageError, check_size

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIP_STARTS, _ORIENTATION, _SAMPLES, _STRIP_ROWS, _STRIP_SIZES = 273, 274, 277, 278, 279
_PLANES, _PREDICTOR, _EXTRA, _FORMAT, _ICC = 284, 317, 338, 339, 34675
_TILE_WIDTH, _TILE_HEIGHT, _TILE_STARTS, _TILE_SIZES = 322, 323, 324, 325
_FLOAT, _BLACK_IS_ZERO, _RGB, _SEPARATE = 3, 1, 2, 2
_NONE, _DEFLATE, _FLOAT_PREDICTOR = 1, (8, 32946), 3
_STRAIGHT_ALPHA = 2
_TYPES = {1: "u1", 3: "u2", 4: "u4", 7: "u1"}
_SHORT = {
    _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION, _SAMPLES, _STRIP_ROWS,
    _PLANES, _PREDICTOR, _EXTRA, _FORMAT, _TILE_WIDTH, _TILE_HEIGHT,
}  # fmt: skip
"""Tags of one value, or one per channel."""
_LONG = {_ICC, _STRIP_STARTS, _STRIP_SIZES, _TILE_STARTS, _TILE_SIZES}
_MOST_TAGS, _MOST_CHANNELS, _MOST_VALUES = 4096, 256, 2**24
_BLOCK = 2**20
"""Bytes that are decompressed between two looks at the clock of a file with a time limit."""
_CONVERT = "save it as uncompressed or Deflate-compressed RGB or grey, or pass an array"


class _TruncatedError(ValueError):
    """The values of a tag reach past the end of the file."""


@dataclass(frozen=True)
class _Field:
    """Where the values of a tag are. Many tags may point at the same bytes of a file."""

    dtype: np.dtype[Any]
    length: int
    place: int

    def read(self, file: BinaryIO) -> NDArray[Any]:
        file.seek(self.place)
        size = self.length * self.dtype.itemsize
        content = file.read(size)
        if len(content) < size:
            raise _TruncatedError(f"{len(content):,} bytes of {size:,} in a tag")
        return np.frombuffer(content, self.dtype)


@dataclass(frozen=True)
class FloatTiff:
    """A TIFF file of float samples, whose directory was read.

    Attributes
    ----------
    size
        Width and height, upright.
    icc
        The embedded ICC profile.
    """

    size: tuple[int, int]
    icc: bytes | None
    _file: BinaryIO
    _tags: Mapping[int, Sequence[int]]
    _long: Mapping[int, _Field]
    _order: str
    _more: bool

    @classmethod
    def open(cls, file: BinaryIO) -> "FloatTiff | None":
        """Read the directory; None if the file is no float TIFF, or one for Pillow."""
        start = file.read(8)
        order = {b"II*\0": "<", b"MM\0*": ">"}.get(start[:4])
        if order is None or len(start) < 8:
            return None
        try:
            fields, following = _directory(file, order, struct.unpack(f"{order}I", start[4:])[0])
            tags = {tag: tuple(fields[tag].read(file).tolist()) for tag in _SHORT & fields.keys()}
            if set(tags.get(_FORMAT, (1,))) != {_FLOAT} or _is_for_pillow(tags, order):
                return None
            icc = fields[_ICC].read(file).tobytes() if _ICC in fields else None
        except (struct.error, OSError, ValueError):
            return None  # Pillow says what is wrong with it
        try:
            width, height = tags[_WIDTH][0], tags[_HEIGHT][0]
        except (KeyError, IndexError) as error:
            raise ImageError("damaged TIFF: no size") from error
        if tags.get(_ORIENTATION, (1,))[0] in (5, 6, 7, 8):
            width, height = height, width
        return cls((width, height), icc, file, tags, fields, order, bool(following))

    def pixels(self, max_pixels: int) -> NDArray[Any]:
        """Return ``[H, W, C]`` as stored, upright; C is 1 (grey) or 3, and 2 or 4 with alpha."""
        check_size(*self.size, max_pixels)
        if self._more:
            raise ImageError(
                "more than one frame or page; expected one: extract the one to score", "animated"
            )
        try:
            return np.ascontiguousarray(_upright(self._decoded(), self._one(_ORIENTATION, 1)))
        except (KeyError, IndexError, zlib.error, _TruncatedError) as error:
            raise ImageError(f"damaged float TIFF ({type(error).__name__}: {error})") from error

    def _one(self, tag: int, otherwise: int | None = None) -> int:
        found = self._tags.get(tag)
        if found is None and otherwise is not None:
            return otherwise
        return int(self._tags[tag][0])

    def _decoded(self) -> NDArray[Any]:
        width, height, samples = self._one(_WIDTH), self._one(_HEIGHT), self._one(_SAMPLES, 1)
        self._check(samples)
        dtype = np.dtype(f"{self._order}f{self._one(_BITS) // 8}")
        tiled = _TILE_STARTS in self._long
        if tiled:
            cell_width, cell_height = self._one(_TILE_WIDTH), self._one(_TILE_HEIGHT)
            wanted = _TILE_STARTS, _TILE_SIZES
        else:
            cell_width, cell_height = width, min(self._one(_STRIP_ROWS, height), height)
            wanted = _STRIP_STARTS, _STRIP_SIZES
        # Tiles may reach past the image, but not far.
        if not (0 < cell_width <= width + 4096 and 0 < cell_height <= height + 4096):
            raise ImageError(f"damaged float TIFF: strips or tiles of {cell_width}x{cell_height}")
        planes = samples if self._one(_PLANES, 1) == _SEPARATE else 1
        together = samples // planes
        across, down = -(-width // cell_width), -(-height // cell_height)
        if any(self._long[tag].length != planes * across * down for tag in wanted):
            raise ImageError("damaged float TIFF: the number of its strips or tiles is wrong")
        starts, sizes = (self._long[tag].read(self._file) for tag in wanted)
        found = np.empty((height, width, samples), dtype.newbyteorder("="))
        for number, (start, size) in enumerate(zip(starts, sizes, strict=True)):
            plane, place = divmod(number, across * down)
            top, left = place // across * cell_height, place % across * cell_width
            rows = cell_height if tiled else min(cell_height, height - top)
            cell = self._cell(int(start), int(size), (rows, cell_width, together), dtype)
            part = found[
                top : top + rows,
                left : left + cell_width,
                plane * together : (plane + 1) * together,
            ]
            part[:] = cell[: part.shape[0], : part.shape[1]]
        return found

    def _check(self, samples: int) -> None:
        """Refuse what this reader does not know."""
        bits, extra = tuple(self._tags[_BITS]), tuple(self._tags.get(_EXTRA, ()))
        colours = {_BLACK_IS_ZERO: 1, _RGB: 3}.get(self._one(_PHOTOMETRIC))
        compression, predictor = self._one(_COMPRESSION, 1), self._one(_PREDICTOR, 1)
        if colours is None or samples not in (colours, colours + 1):
            what = f"photometric interpretation {self._one(_PHOTOMETRIC)}, {samples} channels"
        elif samples > colours and extra != (_STRAIGHT_ALPHA,):
            what = "an extra channel that is not unassociated alpha"
        elif len(set(bits)) != 1 or len(bits) not in (1, samples) or bits[0] not in (16, 32, 64):
            what = f"{bits} bits"
        elif compression != _NONE and compression not in _DEFLATE:
            what = f"compression {compression}"
        elif predictor not in (1, _FLOAT_PREDICTOR):
            what = f"predictor {predictor}"
        elif self._one(_PLANES, 1) not in (1, _SEPARATE):
            what = f"planar configuration {self._one(_PLANES)}"
        else:
            return
        raise ImageError(f"float TIFF with {what}, which is not read; {_CONVERT}")

    def _cell(
        self, start: int, size: int, shape: tuple[int, int, int], dtype: np.dtype[Any]
    ) -> NDArray[Any]:
        """Read a strip or a tile."""
        expected = shape[0] * shape[1] * shape[2] * dtype.itemsize
        self._file.seek(start)
        if self._one(_COMPRESSION, 1) == _NONE:
            content = self._file.read(min(size, expected))
        else:
            content = _inflated(self._file, size, expected)
        if len(content) < expected:
            raise ImageError(f"truncated float TIFF: {len(content):,} bytes of {expected:,}")
        if self._one(_PREDICTOR, 1) != _FLOAT_PREDICTOR:
            return np.frombuffer(content, dtype).reshape(shape)
        # Differences of bytes along a row, whose first part has each value's most significant byte.
        rows = np.frombuffer(content, np.uint8).reshape(shape[0], -1, shape[2])
        whole = np.cumsum(rows, axis=1, dtype=np.uint8).reshape(shape[0], dtype.itemsize, -1)
        values = np.ascontiguousarray(whole.transpose(0, 2, 1)).view(dtype.newbyteorder(">"))
        return values.reshape(shape)


def _is_for_pillow(tags: Mapping[int, Sequence[int]], order: str) -> bool:
    """Say whether Pillow reads a float file whose compression this reader does not know.

    It swaps the bytes of other byte orders twice if they are compressed.
    """
    compression = tags.get(_COMPRESSION, (_NONE,))[0]
    return (
        compression not in (_NONE, *_DEFLATE)
        and order == ("<" if sys.byteorder == "little" else ">")
        and tags.get(_SAMPLES, (1,))[0] == 1
        and tags.get(_BITS) == (32,)
        and tags.get(_PHOTOMETRIC) == (_BLACK_IS_ZERO,)
    )


def _directory(file: BinaryIO, order: str, start: int) -> tuple[dict[int, _Field], int]:
    """Return where the values of the tags that count are, and where the next directory is."""
    file.seek(start)
    (count,) = struct.unpack(f"{order}H", file.read(2))
    if count > _MOST_TAGS:
        raise ValueError("too many tags")
    content = file.read(12 * count + 4)
    (following,) = struct.unpack_from(f"{order}I", content, 12 * count)
    fields: dict[int, _Field] = {}
    for number in range(count):
        tag, kind, length = struct.unpack_from(f"{order}HHI", content, 12 * number)
        most = _MOST_CHANNELS if tag in _SHORT else _MOST_VALUES if tag in _LONG else 0
        if kind not in _TYPES or not 0 < length <= most:
            continue
        dtype = np.dtype(f"{order}{_TYPES[kind]}")
        place = start + 2 + 12 * number + 8
        if length * dtype.itemsize > 4:
            (place,) = struct.unpack_from(f"{order}I", content, 12 * number + 8)
        fields[tag] = _Field(dtype, length, place)
    return fields, following


def _inflated(file: BinaryIO, size: int, most: int) -> bytes:
    """Read and decompress Deflate data, of which no more than ``most`` bytes are kept."""
    inflater, found, length = zlib.decompressobj(), [], 0
    rest = b""
    while length < most and not inflater.eof:
        if not rest:
            rest = file.read(min(size, _BLOCK))
            size -= len(rest)
            if not rest:
                break
        else:
            file.read(0)  # looks at the clock
        found.append(inflater.decompress(rest, min(_BLOCK, most - length)))
        length += len(found[-1])
        rest = inflater.unconsumed_tail
    return b"".join(found)


def _upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Apply EXIF orientation, which TIFF has as a tag."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
