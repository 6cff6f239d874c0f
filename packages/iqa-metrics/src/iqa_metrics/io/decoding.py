"""Decode image files into arrays without loss, and refuse ambiguous ones."""

import io
import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from iqa_metrics.io.avif import check_codec, check_header, is_avif
from iqa_metrics.io.errors import ImageError as ImageError
from iqa_metrics.io.errors import check_size
from iqa_metrics.io.float_tiff import FloatTiff
from iqa_metrics.io.netpbm import Netpbm
from iqa_metrics.io.signatures import HEAD, what_it_is
from iqa_metrics.io.stated_colour import Stated, cicp_of_png, stated_by

# An allow-list, so that no decoder with a side effect (EPS starts Ghostscript) is ever reached.
# JPEG 2000 is left out as long as Pillow silently cuts its deep colour to 8 bits; so it does with
# AVIF, whose depth is looked up first.
_FORMATS: tuple[str, ...] = ("PNG", "JPEG", "BMP", "DIB", "WEBP", "TIFF", "GIF", "PPM")
_EXPECTED = "expected a BMP, PNG, JPEG, WebP, AVIF, TIFF, PPM or single-frame GIF image"
_TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_PLANES, _TIFF_SAMPLES = 258, 262, 284, 339
_TIFF_SIGNED = 2
_TIMED_BLOCK = 2**12
"""Bytes read between two looks at the clock; a hostile JPEG takes about a second for these."""


@dataclass(frozen=True)
class Decoded:
    """A decoded image.

    Attributes
    ----------
    pixels
        ``[H, W]`` or ``[H, W, C]``, upright: uint8, uint16 or float32; C is 2 (grey and alpha), 3
        or 4.
    stated
        What the file states about its colours, which are not converted.
    white
        The number that was divided by, where ``pixels`` are floats that were integers in the file.
    """

    pixels: NDArray[Any]
    stated: Stated
    white: float = 1.0


@contextmanager
def _decoder_errors(file: BinaryIO | None = None) -> Iterator[None]:
    """Turn any exception of a decoder into an ImageError, which names a file of another kind."""
    try:
        yield
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(f"too many pixels: {error}", "too_large") from error
    except UnidentifiedImageError as error:
        found = None
        if file is not None:
            file.seek(0)
            found = what_it_is(file.read(HEAD))
        if found is not None:
            raise ImageError(
                f"this is {found[0]}, which is not read; {_EXPECTED}: {found[1]}"
            ) from error
        raise ImageError(
            f"not an image that can be read; {_EXPECTED}, complete and undamaged"
        ) from error
    except MemoryError as error:
        raise ImageError(
            "not enough memory to decode it; use a smaller image", "too_large"
        ) from error
    except Exception as error:
        # Decoders raise almost any exception for damaged data (OSError, SyntaxError, KeyError,
        # struct.error, zlib.error...), so all of them are caught here.
        raise ImageError(
            f"damaged or truncated image ({type(error).__name__}: {error}); {_EXPECTED}, complete"
        ) from error


@contextmanager
def _opened(source: object) -> Iterator[BinaryIO]:
    if isinstance(source, (bytes, bytearray, memoryview)):
        if len(source) == 0:
            raise ImageError(f"empty: got 0 bytes; {_EXPECTED}")
        yield io.BytesIO(source)
    elif isinstance(source, (str, os.PathLike)):
        path = Path(source)
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise ImageError("not a regular file; expected the path of an image", "not_found")
            if status.st_size == 0:
                raise ImageError(f"empty file; {_EXPECTED}")
            file: BinaryIO = path.open("rb")
        except (OSError, ValueError) as error:  # ValueError: a null byte in the path
            if isinstance(error, ImageError):
                raise
            reason = getattr(error, "strerror", None) or str(error)
            raise ImageError(
                f"can't be opened ({reason}); expected the path of an image file", "not_found"
            ) from error
        with file:
            yield file
    elif hasattr(source, "read"):
        try:
            data = source.read()
        except Exception as error:
            raise ImageError(f"can't be read ({error}); expected a readable file") from error
        if not isinstance(data, bytes):
            raise ImageError("the file is open in text mode; open it in mode 'rb'")
        with _opened(data) as file:
            yield file
    else:
        raise ImageError(
            f"expected a path, bytes, binary file, PIL image, numpy array or tensor, "
            f"got {type(source).__name__}"
        )


@contextmanager
def _timed(source: object, max_seconds: float | None) -> Iterator[BinaryIO]:
    """Open a source whose decoding fails after a time limit."""
    with _opened(source) as file:
        if max_seconds is None:
            yield file
            return
        with _decoder_errors():
            content = file.read()
        yield _TimedBytes(content, max_seconds)


def size_of_file(source: object, max_seconds: float | None = None) -> tuple[int, int]:
    """Return the width and height stated in a file's header. Raises ImageError."""
    with _timed(source, max_seconds) as file, _decoder_errors(file):
        own = _own_reader(file)
        if own is not None:
            return own.size
        with _open_image(file) as image:
            return image.size


def decode_file(source: object, max_pixels: int, max_seconds: float | None = None) -> Decoded:
    """Decode a path, bytes or a binary file. Raises ImageError."""
    with _timed(source, max_seconds) as file, _decoder_errors(file):
        own = _own_reader(file)
        if own is None:
            return _decoded(file, max_pixels)
        if isinstance(own, Netpbm):
            return Decoded(own.pixels(max_pixels), Stated(), own.white)
        return Decoded(own.pixels(max_pixels), Stated(icc=own.icc or None))


def _own_reader(file: BinaryIO) -> "Netpbm | FloatTiff | None":
    """Return a reader of what Pillow can't read, or not exactly; the file is at its beginning."""
    for reader in (Netpbm, FloatTiff):
        file.seek(0)
        found = reader.open(file)
        if found is not None:
            return found
    file.seek(0)
    return None


class _TimedBytes(io.BytesIO):
    """A file that raises an error when read after a time limit, which stops its decoder.

    A small file may take minutes: a progressive JPEG can go over its pixels thousands of times.
    """

    def __init__(self, content: bytes, seconds: float) -> None:
        super().__init__(content)
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    def read(self, size: int | None = -1, /) -> bytes:
        if time.monotonic() > self._end:
            raise ImageError(
                f"decoding it takes longer than {self._seconds:g} s; save it as PNG or baseline "
                "JPEG",
                "too_slow",
            )
        return super().read(size)


def decode_pil(image: Image.Image, max_pixels: int) -> Decoded:
    """Decode a PIL image, as :func:`decode_file` decodes a file."""
    with _decoder_errors():
        if isinstance(image, ImageFile) and image.tile and _raw_modes(image) & _DEEP.keys():
            raise ImageError(
                "PIL keeps only 8 of this file's 16 bits; pass the file's path or bytes instead"
            )
        if isinstance(image, ImageFile) and _is_rescaled(image):
            raise ImageError(
                "PIL rescales the values of this PGM or PPM file; pass the file's path or bytes "
                "instead"
            )
        return Decoded(_pixels(image, max_pixels), stated_by(image))


def _decoded(file: BinaryIO, max_pixels: int) -> Decoded:
    Image.init()
    avif = is_avif(_head(file))
    cicp = check_header(file, max_pixels) if avif else cicp_of_png(file)
    with _open_image(file) as image:
        if not _raw_modes(image) & _DEEP.keys():
            pixels = _pixels(image, max_pixels)
            stated = stated_by(image, cicp)
            if avif:
                _look_at_the_clock(file)
                if stated.icc is not None:  # it precedes code points there
                    stated = replace(stated, cicp=None)
            return Decoded(pixels, stated)
        _check_header(image, max_pixels)
        high = _upright(image)
        stated = stated_by(image, cicp)
    file.seek(0)
    with _open_image(file) as image:
        image.tile = [_with_arguments(tile, _swapped(tile[3])) for tile in image.tile]
        low = _upright(image)
    return Decoded(high.astype(np.uint16) * 256 + low, stated)


def _head(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read(HEAD)


def _look_at_the_clock(file: BinaryIO) -> None:
    # AVIF is read at once and decoded then, so that the time is over only afterwards.
    file.seek(0)
    file.read(1)


def _open_image(file: BinaryIO) -> ImageFile:
    formats = _FORMATS
    if is_avif(_head(file)):
        check_codec()
        formats = ("AVIF",)
    file.seek(0)
    image = Image.open(file, formats=formats)
    if isinstance(file, _TimedBytes):
        image.decodermaxblock = _TIMED_BLOCK
    return image


# Pillow keeps only the high byte of 16-bit colour. Told that the byte order is the other one, it
# keeps the low byte; so such files are decoded twice, and both bytes are combined.
_NATIVE_SWAPPED = ";16B" if sys.byteorder == "little" else ";16L"
_DEEP = {
    bands + order: bands + swapped
    for bands in ("RGB", "RGBA")
    for order, swapped in ((";16B", ";16L"), (";16L", ";16B"), (";16N", _NATIVE_SWAPPED))
}


def _is_rescaled(image: ImageFile) -> bool:
    """Say whether Pillow is going to scale the samples of a PGM or PPM file, with rounding."""
    if image.format != "PPM":
        return False
    exact = (255, 65535) if image.mode == "I" else (255,)
    arguments = [a for t in image.tile if isinstance(t[3], tuple) for a in t[3]]
    return any(isinstance(a, int) and a > 1 and a not in exact for a in arguments)


def _raw_modes(image: ImageFile) -> set[str]:
    """Return the raw modes that the decoder uses; refuse what it would cut to 8 bits."""
    arguments = [a for t in image.tile for a in (t[3] if isinstance(t[3], tuple) else (t[3],))]
    modes = {a for a in arguments if isinstance(a, str)}
    cut = [m for m in modes if m[-4:] in (";16B", ";16L", ";16N") and m[:2] in ("LA", "R;", "CM")]
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(_TIFF_BITS, (8,))
    in_planes = tags.get(_TIFF_PLANES, 1) != 1
    if len(bits) > 1 and max(bits) > 8 and (in_planes or not modes & _DEEP.keys()):
        cut = [f"TIFF with {bits} bits"]
    if _TIFF_SIGNED in tags.get(_TIFF_SAMPLES, ()):
        raise ImageError("TIFF with signed samples; expected unsigned or float samples: convert it")
    if cut:
        raise ImageError(
            f"{cut[0]}: only 8 bits per channel of this layout would be read; save it as 16-bit "
            "grey, RGB or RGBA, in PNG or in TIFF with interleaved channels"
        )
    if modes & _DEEP.keys() and "transparency" in image.info:
        raise ImageError(
            "16-bit PNG with a transparent colour; flatten it first (drop the tRNS chunk)",
            "has_alpha",
        )
    return modes


def _swapped(arguments: Any) -> Any:
    if isinstance(arguments, tuple):
        return tuple(_swapped(a) for a in arguments)
    return _DEEP.get(arguments, arguments) if isinstance(arguments, str) else arguments


def _with_arguments(tile: Any, arguments: Any) -> Any:
    # Pillow before 11 has plain tuples here.
    plain = not hasattr(tile, "_replace")
    return (*tile[:3], arguments) if plain else tile._replace(args=arguments)


def _upright(image: Image.Image) -> NDArray[Any]:
    image.load()
    return np.array(ImageOps.exif_transpose(image))


def _check_header(image: Image.Image, max_pixels: int) -> None:
    check_size(*image.size, max_pixels)
    if _has_more_frames(image):
        raise ImageError(
            "more than one frame or page; expected one: extract the one to score", "animated"
        )


def _has_more_frames(image: Image.Image) -> bool:
    if image.format == "MPO":  # a phone's photograph, followed by previews
        return False
    if image.format == "TIFF":
        # Pillow would count the pages, which takes a minute for a hostile file of 10 MB.
        directory = getattr(image, "tag_v2", None)
        return bool(getattr(directory, "next", 0))
    return bool(getattr(image, "is_animated", False))


def _pixels(image: Image.Image, max_pixels: int) -> NDArray[Any]:
    _check_header(image, max_pixels)
    image.load()
    source, image = image, ImageOps.exif_transpose(image)
    if image.mode == "P" or (image.mode in ("1", "L", "RGB") and "transparency" in image.info):
        transparent = "transparency" in image.info
        image = image.convert("RGBA" if transparent else "RGB")
    elif image.mode in ("1", "PA", "La", "RGBa"):
        image = image.convert({"1": "L", "PA": "RGBA", "La": "LA", "RGBa": "RGBA"}[image.mode])
    elif image.mode in ("RGBX", "YCbCr"):
        image = image.convert("RGB")
    elif image.mode.startswith("I;16"):
        _check_grey16(source)
    elif image.mode == "I" and source.format in ("PNG", "PPM"):  # 16-bit grey, widened by Pillow
        return np.array(image).astype(np.uint16)
    elif image.mode not in ("L", "LA", "RGB", "RGBA", "F"):
        raise ImageError(
            f"colour mode {image.mode} can't be read as RGB in just one way; convert it to 8- or "
            "16-bit RGB or grey first"
        )
    return np.array(image)


def _check_grey16(image: Image.Image) -> None:
    tags = getattr(image, "tag_v2", {})
    bits, photometric = tags.get(_TIFF_BITS, (16,)), tags.get(_TIFF_PHOTOMETRIC, 1)
    if bits != (16,) or photometric != 1:
        raise ImageError(
            f"grey TIFF with {bits[0]} bits and photometric interpretation {photometric}; "
            "expected 16 bits where black is zero: convert it"
        )
