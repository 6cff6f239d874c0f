"""Turn a file, bytes, PIL image, array or tensor into the one image convention of this package.

That convention is RGB, float32, ``[N, 3, H, W]``, values in ``[0, 1]``. Everything that leaves it
(alpha, animation, other colour spaces, values out of range) is refused with an :class:`ImageError`,
never guessed at: a silent resize or a wrong range is the most common mistake in this field.

Pixel values are taken as stored. Colour profiles (ICC) are not applied.
"""

import io
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Union, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.ImageFile import ImageFile
from torch import Tensor

ImageSource = Union[
    str, "os.PathLike[str]", bytes, bytearray, memoryview, BinaryIO, Image.Image, NDArray, Tensor
]
Background = Union[float, tuple[float, float, float]]

MAX_PIXELS = 2**26
"""Largest image that is decoded by default, in pixels: 8192 x 8192, 768 MiB as float32 RGB."""

# An allow-list, so that no decoder with a side effect (EPS starts Ghostscript) is ever reached.
# JPEG 2000 and AVIF stay out as long as Pillow cuts their deep colour to 8 bits without a word.
_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "WEBP", "TIFF", "GIF", "PPM")
_EXPECTED = "expected a BMP, PNG, JPEG, WebP, TIFF, PPM or single-frame GIF image"
_TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_PLANES = 258, 262, 284
_RANGE_SLACK = 1e-6  # arithmetic in float32 may overshoot 1 by a rounding error


class ImageError(ValueError):
    """An image, or a pair of images, that can't be scored.

    Attributes
    ----------
    code
        A stable short name of the reason: ``bad_image``, ``not_found``, ``too_large``,
        ``too_small``, ``size_mismatch``, ``has_alpha``, ``animated`` or ``out_of_range``.
    """

    def __init__(self, message: str, code: str = "bad_image") -> None:
        super().__init__(message)
        self.code = code


def read_image(
    source: ImageSource,
    *,
    background: Background | None = None,
    max_pixels: int = MAX_PIXELS,
    name: str | None = None,
) -> Tensor:
    """Read an image as a float32 RGB tensor.

    Parameters
    ----------
    source
        One of: a path; the bytes of an image file; a file opened in binary mode, read from where it
        stands; a PIL image; a numpy array ``[H, W]``, ``[H, W, C]`` or ``[N, H, W, C]``; a tensor
        ``[H, W]``, ``[C, H, W]`` or ``[N, C, H, W]``. ``C`` is 1 (grey) or 3 (RGB), and 2 or 4 with
        alpha. Integer arrays are uint8 (0-255) or uint16 (0-65535); float arrays are in ``[0, 1]``.
        EXIF orientation is applied. A tensor keeps its device and its gradient.
    background
        Colour to lay under a transparent image: grey or RGB, in ``[0, 1]``. Without it alpha is
        refused, since what shows through decides the score.
    max_pixels
        Most pixels (width x height) that are decoded; a larger file is refused from its header.
    name
        What messages call the image, such as ``"reference"``; by default its path or kind.

    Returns
    -------
    Tensor
        float32, ``[N, 3, H, W]`` with ``N = 1`` for anything but a batch, values in ``[0, 1]``.

    Raises
    ------
    ImageError
        If the source can't be read as such an image. The message says what was expected, what
        came and what to do; ``code`` is stable.
    """
    label = name or _label(source)
    try:
        if isinstance(source, Tensor):
            image = _from_tensor(source)
        elif isinstance(source, np.ndarray):
            image = _from_array(source)
        elif isinstance(source, Image.Image):
            with _decoder_errors():
                image = _from_pil(source, max_pixels)
        else:
            with _opened(source) as file, _decoder_errors():
                image = _from_file(file, max_pixels)
        return _to_rgb(image, background)
    except ImageError as error:
        raise ImageError(f"{label}: {error}", error.code) from error.__cause__


def check_images(images: Tensor, name: str = "images", *, values: bool = True) -> None:
    """Check that a tensor follows the convention: float, ``[N, 3, H, W]``, values in ``[0, 1]``.

    ``values=False`` leaves the range unread, which spares a pass over the pixels (and, on a GPU, a
    wait for it). Raises :class:`ImageError`.
    """
    if not isinstance(images, Tensor):
        raise ImageError(
            f"{name}: expected a tensor [N, 3, H, W], got {type(images).__name__}; "
            "read_image() makes one from a path, array or PIL image"
        )
    if images.ndim != 4 or images.shape[1] != 3:
        raise ImageError(
            f"{name}: expected an RGB tensor [N, 3, H, W], got {list(images.shape)}; read_image() "
            "adds the batch dimension, repeats grey and refuses or flattens alpha"
        )
    if 0 in images.shape:
        raise ImageError(f"{name}: zero-sized, {list(images.shape)}", "too_small")
    if not images.is_floating_point():
        raise ImageError(
            f"{name}: expected float values in [0, 1], got {images.dtype}; "
            "read_image() scales integers"
        )
    if values:
        _check_range(images, name)


def check_pair(reference: Tensor, distorted: Tensor) -> None:
    """Check that two batches can be compared: same height and width, and ``N`` or 1 references.

    Raises :class:`ImageError` with code ``size_mismatch``, naming both sizes as width x height.
    """
    if reference.shape[-2:] != distorted.shape[-2:]:
        raise ImageError(
            f"reference is {_size(reference)} and distorted is {_size(distorted)}: both must have "
            "the same size; resize or crop one of them, knowing that this changes the score",
            "size_mismatch",
        )
    if reference.shape[0] not in (1, distorted.shape[0]):
        raise ImageError(
            f"{reference.shape[0]} references and {distorted.shape[0]} distorted images: "
            "expected as many references as distorted images, or one reference for all",
            "size_mismatch",
        )


def _label(source: object) -> str:
    if isinstance(source, (str, os.PathLike)):
        return str(source)
    if isinstance(source, (Tensor, np.ndarray)):
        return f"{type(source).__name__} {list(source.shape)} {source.dtype}"
    if isinstance(source, Image.Image):
        return f"PIL image {source.width}x{source.height} {source.mode}"
    return "image"


def _size(images: Tensor) -> str:
    return f"{images.shape[-1]}x{images.shape[-2]}"


@contextmanager
def _decoder_errors() -> Iterator[None]:
    """Turn whatever a decoder raises on broken data into an ImageError."""
    try:
        yield
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(f"too many pixels: {error}", "too_large") from error
    except Image.UnidentifiedImageError as error:
        raise ImageError(
            f"not an image that can be read; {_EXPECTED}, whole and undamaged"
        ) from error
    except MemoryError as error:
        raise ImageError("not enough memory to decode it; make it smaller", "too_large") from error
    except Exception as error:
        # Decoders answer damaged data with almost any exception (OSError, SyntaxError, struct.error,
        # zlib.error, IndexError...), so this one boundary catches all of them.
        raise ImageError(
            f"damaged or truncated image ({type(error).__name__}: {error}); {_EXPECTED}, whole"
        ) from error


@contextmanager
def _opened(source: object) -> Iterator[BinaryIO]:
    if isinstance(source, (bytes, bytearray, memoryview)):
        if len(source) == 0:
            raise ImageError(f"empty: 0 bytes came; {_EXPECTED}")
        yield io.BytesIO(source)
    elif isinstance(source, (str, os.PathLike)):
        path = Path(source)
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise ImageError("not a regular file; expected the path of an image", "not_found")
            if status.st_size == 0:
                raise ImageError(f"empty file; {_EXPECTED}")
            file = path.open("rb")
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
            raise ImageError(f"reading it failed ({error}); expected a readable file") from error
        if not isinstance(data, bytes):
            raise ImageError("the file is open in text mode; open it with mode 'rb'")
        with _opened(data) as file:
            yield file
    else:
        raise ImageError(
            f"expected a path, bytes, binary file, PIL image, numpy array or tensor, "
            f"got {type(source).__name__}"
        )


def _from_file(file: BinaryIO, max_pixels: int) -> Tensor:
    Image.init()
    with _open_image(file) as image:
        if not _raw_modes(image) & _DEEP.keys():
            return _from_pil(image, max_pixels)
        _check_header(image, max_pixels)
        high = _upright(image)
    file.seek(0)
    with _open_image(file) as image:
        # Pillow before 11 has plain tuples here.
        image.tile = [
            tile._replace(args=_swapped(tile.args))
            if hasattr(tile, "_replace")
            else (*tile[:3], _swapped(tile[3]))
            for tile in image.tile
        ]
        low = _upright(image)
    return _from_array(high.astype(np.uint16) * 256 + low)


def _open_image(file: BinaryIO) -> ImageFile:
    return cast(ImageFile, Image.open(file, formats=_FORMATS))


# Of 16-bit colour Pillow keeps the high byte alone. Told that the bytes stand the other way round,
# it keeps the low byte: so such files are decoded twice and put together.
_NATIVE_SWAPPED = ";16B" if sys.byteorder == "little" else ";16L"
_DEEP = {
    bands + order: bands + swapped
    for bands in ("RGB", "RGBA")
    for order, swapped in ((";16B", ";16L"), (";16L", ";16B"), (";16N", _NATIVE_SWAPPED))
}


def _raw_modes(image: ImageFile) -> set[str]:
    """Return the layouts that the decoder is told of; refuse what it would cut to 8 bits."""
    arguments = [a for t in image.tile for a in (t[3] if isinstance(t[3], tuple) else (t[3],))]
    modes = {a for a in arguments if isinstance(a, str)}
    cut = [m for m in modes if m[-4:] in (";16B", ";16L", ";16N") and m[:2] in ("LA", "R;", "CM")]
    if image.format == "PPM" and any(isinstance(a, int) and a > 255 for a in arguments):
        cut = ["PPM"]
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(_TIFF_BITS, (8,))
    in_planes = tags.get(_TIFF_PLANES, 1) != 1
    if len(bits) > 1 and max(bits) > 8 and (in_planes or not modes & _DEEP.keys()):
        cut = [f"TIFF with {bits} bits"]
    if cut:
        raise ImageError(
            f"{cut[0]}: of this layout only 8 bits a channel would be read; save it as 16-bit "
            "grey, RGB or RGBA, as PNG or as TIFF with interleaved channels"
        )
    if modes & _DEEP.keys() and "transparency" in image.info:
        raise ImageError(
            "16-bit PNG with a transparent colour; flatten it first (drop the tRNS chunk)",
            "has_alpha",
        )
    return modes


def _swapped(arguments: object) -> object:
    if isinstance(arguments, tuple):
        return tuple(_swapped(a) for a in arguments)
    return _DEEP.get(arguments, arguments) if isinstance(arguments, str) else arguments


def _upright(image: Image.Image) -> NDArray:
    image.load()
    return np.array(ImageOps.exif_transpose(image))


def _check_header(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise ImageError(f"zero-sized, {width}x{height}", "too_small")
    if width * height > max_pixels:
        raise ImageError(
            f"{width}x{height} is {width * height:,} pixels; at most {max_pixels:,} are decoded",
            "too_large",
        )
    # A phone's MPO file is one photograph with previews behind it, not an animation.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise ImageError(
            f"{image.n_frames} frames or pages; expected one: extract the frame to score",
            "animated",
        )


def _from_pil(image: Image.Image, max_pixels: int) -> Tensor:
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
        return _from_array(np.array(image).astype(np.uint16))
    elif image.mode not in ("L", "LA", "RGB", "RGBA", "F"):
        raise ImageError(
            f"colour mode {image.mode} has no single reading as RGB; convert it to 8- or 16-bit "
            "RGB or grey first"
        )
    return _from_array(np.array(image))


def _check_grey16(image: Image.Image) -> None:
    tags = getattr(image, "tag_v2", {})
    bits, photometric = tags.get(_TIFF_BITS, (16,)), tags.get(_TIFF_PHOTOMETRIC, 1)
    if bits != (16,) or photometric != 1:
        raise ImageError(
            f"grey TIFF with {bits[0]} bits and photometric interpretation {photometric}; "
            "expected 16 bits, black is zero: rewrite it so"
        )


def _from_array(array: NDArray) -> Tensor:
    if array.ndim == 2:
        array = array[None, :, :, None]
    elif array.ndim == 3:
        array = array[None]
    if array.ndim != 4 or array.shape[-1] not in (1, 2, 3, 4):
        hint = (
            "; it looks like channels first, so transpose it or pass a tensor"
            if array.ndim == 4 and array.shape[1] in (1, 3, 4)
            else ""
        )
        raise ImageError(
            "expected an array [H, W], [H, W, C] or [N, H, W, C] with 1 to 4 channels, "
            f"got shape {list(array.shape)}{hint}"
        )
    if array.dtype.newbyteorder("=") not in (np.uint8, np.uint16) and array.dtype.kind != "f":
        raise ImageError(
            f"expected dtype uint8, uint16 or float, got {array.dtype}; convert it, so that its "
            "range is known"
        )
    # Copies: what the caller does with its array later does not reach the tensor, and foreign byte
    # orders, negative strides and read-only buffers, which torch refuses, are gone.
    channels_first = np.moveaxis(array, -1, 1)
    native = np.array(channels_first, dtype=channels_first.dtype.newbyteorder("="), order="C")
    if native.dtype.kind == "f" and native.dtype.itemsize > 8:
        native = native.astype(np.float64)
    return _from_tensor(torch.from_numpy(native))


def _from_tensor(tensor: Tensor) -> Tensor:
    """Return ``[N, C, H, W]`` with C from 1 to 4, float32 in [0, 1], alpha still there."""
    shape = list(tensor.shape)
    if tensor.ndim == 2:
        tensor = tensor[None, None]
    elif tensor.ndim == 3:
        tensor = tensor[None]
    if tensor.ndim != 4 or tensor.shape[1] not in (1, 2, 3, 4):
        hint = (
            "; it looks like channels last, so permute it or pass a numpy array"
            if tensor.ndim == 4 and tensor.shape[-1] in (1, 3, 4)
            else ""
        )
        raise ImageError(
            "expected a tensor [H, W], [C, H, W] or [N, C, H, W] with 1 to 4 channels, "
            f"got shape {shape}{hint}"
        )
    if 0 in tensor.shape:
        raise ImageError(f"zero-sized, shape {shape}", "too_small")
    if tensor.dtype == torch.uint8:
        return tensor.to(torch.float32) / 255
    if tensor.dtype == torch.uint16:
        return tensor.to(torch.float32) / 65535
    if not tensor.is_floating_point():
        raise ImageError(f"expected dtype uint8, uint16 or float, got {tensor.dtype}")
    _check_range(tensor, None)
    return tensor.to(torch.float32)


def _check_range(images: Tensor, name: str | None) -> None:
    low, high = (float(bound) for bound in torch.aminmax(images.detach()))
    if -_RANGE_SLACK <= low and high <= 1 + _RANGE_SLACK:
        return
    if not np.isfinite(low) or not np.isfinite(high):
        came, remedy = "NaN or infinite values", "mask or replace them"
    else:
        came = f"values from {low:.4g} to {high:.4g}"
        if low >= -1.001 and high <= 1.001:
            remedy = "this looks like [-1, 1]: use (x + 1) / 2"
        elif low >= -0.5 and high <= 1.5:
            remedy = "this looks like [0, 1] with overshoot: use x.clamp(0, 1)"
        elif low >= 0 and high <= 255:
            remedy = "this looks like 0-255: divide by 255"
        elif low >= 0 and high <= 65535:
            remedy = "this looks like 0-65535: divide by 65535"
        else:
            remedy = "undo the normalisation that was applied to it"
    prefix = f"{name}: " if name else ""
    raise ImageError(f"{prefix}expected values in [0, 1], got {came}; {remedy}", "out_of_range")


def _to_rgb(image: Tensor, background: Background | None) -> Tensor:
    channels = image.shape[1]
    if channels in (2, 4):
        if background is None:
            raise ImageError(
                "it has an alpha channel, and what shows through would decide the score; flatten "
                "it, or name a background (background=1.0 is white)",
                "has_alpha",
            )
        colour, alpha = image[:, :-1], image[:, -1:]
        return alpha * colour.expand(-1, 3, -1, -1) + (1 - alpha) * _backdrop(background, image)
    return cast(Tensor, image.expand(-1, 3, -1, -1))


def _backdrop(background: Background, image: Tensor) -> Tensor:
    colour = torch.as_tensor(background, dtype=torch.float32, device=image.device)
    if colour.numel() not in (1, 3) or not bool(((colour >= 0) & (colour <= 1)).all()):
        raise ImageError(f"background: expected one or three values in [0, 1], got {background}")
    return colour.reshape(1, -1, 1, 1)
