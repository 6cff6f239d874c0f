"""Read files, bytes, PIL images, arrays and tensors into this package's one image convention.

The convention is RGB, float32, ``[N, 3, H, W]``, values in ``[0, 1]``. Everything outside it
(transparency, animation, other colour spaces, values out of range) raises an :class:`ImageError`,
and nothing is guessed: a silent resize or a wrong range is the most common mistake in this field.

RGB is sRGB: what a file states about its colours is applied, see :mod:`iqa_metrics.io.colour`.
"""

import os
from collections.abc import Sequence
from typing import Any, BinaryIO, Union

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from iqa_metrics.forks import MANY, before_computing
from iqa_metrics.io.colour import (
    Colour,
    ColourChoice,
    check_colour,
    converted,
    refusal,
    settled,
)
from iqa_metrics.io.conventions import Conventions
from iqa_metrics.io.decoding import Decoded, ImageError, decode_file, decode_pil

ImageSource = Union[
    str,
    "os.PathLike[str]",
    bytes,
    bytearray,
    memoryview,
    BinaryIO,
    Image.Image,
    NDArray[Any],
    Tensor,
]
Background = Union[float, tuple[float, float, float]]

MAX_PIXELS = 2**26
"""Most pixels that are decoded by default: 8192 x 8192, which is 768 MiB as float32 RGB."""

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_GREATEST = {torch.uint8: 255, torch.uint16: 65535}
_RANGE_SLACK = 1e-6  # arithmetic in float32 may overshoot 1 by a rounding error


def read_image(
    source: ImageSource,
    *,
    background: Background | None = None,
    colour: ColourChoice = "srgb",
    peak: float | None = None,
    max_pixels: int = MAX_PIXELS,
    max_seconds: float | None = None,
    name: str | None = None,
) -> Tensor:
    """Read an image as a float32 sRGB tensor.

    Parameters
    ----------
    source
        One of: a path; the bytes of an image file; a file opened in binary mode, read from its
        current position; a PIL image; a numpy array ``[H, W]``, ``[H, W, C]`` or
        ``[N, H, W, C]``; a tensor ``[H, W]``, ``[C, H, W]`` or ``[N, C, H, W]``. ``C`` is 1 (grey)
        or 3 (RGB), and 2 or 4 with alpha. Integer arrays are uint8 (0-255) or uint16 (0-65535);
        float arrays are in ``[0, 1]``. EXIF orientation is applied. A tensor keeps its device and
        its gradient.
    background
        Colour behind a transparent image: grey or RGB, in ``[0, 1]``. Without it, images that are
        transparent anywhere are refused, since what shows through decides the score.
    colour
        ``srgb`` converts a file or PIL image that states another colour space to sRGB. ``ignore``
        takes its values as stored. Arrays and tensors are taken as sRGB.
    peak
        The value of white in the samples, such as 4095 where samples of 16 bits have 12. By default
        it is the greatest number of their type, 1 for floats, and what a PGM or PPM file says.
    max_pixels
        Most pixels (width x height) that are decoded; a larger file is refused after its header was
        read. Pillow's own limit, about 179 million, applies as well.
    max_seconds
        Longest time that decoding a file may take, checked every few kilobytes; by default there is
        no limit. AVIF is decoded at once, and the time is checked before and afterwards.
    name
        Name of the image in messages, such as ``"reference"``; by default its path or kind.

    Returns
    -------
    Tensor
        float32, ``[N, 3, H, W]``, values in ``[0, 1]``; ``N`` is 1 unless the source is a batch.

    Raises
    ------
    ImageError
        If the source can't be read as such an image, or states colours that can't be converted
        (``bad_colour``). The message says what was expected, what was found and what to do;
        ``code`` is stable.
    ValueError
        If ``colour`` is neither ``srgb`` nor ``ignore``, or if the peak is not above 0.
    """
    image, found = read_with_colour(
        source,
        background=background,
        colour=colour,
        peak=peak,
        max_pixels=max_pixels,
        max_seconds=max_seconds,
        name=name,
    )
    if found.problem:
        error = refusal(found)
        raise ImageError(f"{name or _label(source)}: {error}", error.code)
    return image


def read_with_colour(
    source: ImageSource,
    *,
    background: Background | None = None,
    colour: ColourChoice = "srgb",
    peak: float | None = None,
    max_pixels: int = MAX_PIXELS,
    max_seconds: float | None = None,
    name: str | None = None,
) -> tuple[Tensor, Colour]:
    """Read an image that is to be compared, as :func:`read_image`, and what became of its colours.

    If they can't be converted, its values are as stored. :func:`check_pair` then says whether it
    can be compared with the other image.
    """
    check_colour(colour)
    Conventions(peak=peak)
    label = name or _label(source)
    try:
        if isinstance(source, Tensor):
            image, found = _from_tensor(source, peak), Colour()
        elif isinstance(source, np.ndarray):
            image, found = _from_array(source, peak), Colour()
        elif isinstance(source, Image.Image):
            image, found = _from_decoded(decode_pil(source, max_pixels), colour, peak)
        else:
            decoded = decode_file(source, max_pixels, max_seconds)
            image, found = _from_decoded(decoded, colour, peak)
        return _to_rgb(image, background), found
    except ImageError as error:
        raise ImageError(f"{label}: {error}", error.code) from error.__cause__


def _from_decoded(
    decoded: Decoded, choice: ColourChoice, peak: float | None
) -> tuple[Tensor, Colour]:
    given = decoded.pixels
    if given.dtype.kind == "u" and peak == np.iinfo(given.dtype).max:
        peak = None  # the default; integers keep their depth, which decides about conversions
    if peak is not None:
        scaled = _from_array(given, peak / decoded.white)
        given = scaled[0].permute(1, 2, 0).numpy()
    elif given.dtype.kind == "f":  # before a conversion, which would limit the range
        _from_array(given)
    pixels, found = converted(given, decoded.stated, choice)
    return _from_array(given) if pixels is None else torch.from_numpy(pixels)[None], found


def check_images(images: Tensor, name: str = "images", *, values: bool = True) -> None:
    """Check that a tensor follows the convention: float, ``[N, 3, H, W]``, values in ``[0, 1]``.

    ``values=False`` skips the check of the range, which saves a pass over the pixels and, on a GPU,
    a synchronisation. Raises :class:`ImageError`.
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
    if images.dtype not in _FLOATS:
        raise ImageError(
            f"{name}: expected float values in [0, 1], got {images.dtype}; "
            "read_image() scales integers"
        )
    if values:
        _check_range(images, name)


def check_pair(
    reference: Tensor, distorted: Tensor, colours: tuple[Colour, Colour] | None = None
) -> str:
    """Check that two batches can be compared: same height and width, and 1 or ``N`` references.

    With what became of the colours of both, it also checks those.

    Returns
    -------
    str
        What was done about the colours, such as ``distorted: Display P3 to sRGB``; empty if
        nothing was.

    Raises
    ------
    ImageError
        With code ``size_mismatch``, naming both sizes as width x height, or ``bad_colour``, if the
        colours of one could not be converted and the other does not state the same.
    """
    check_sizes(reference.shape[-2:], distorted.shape[-2:])
    if reference.shape[0] not in (1, distorted.shape[0]):
        raise ImageError(
            f"{reference.shape[0]} references and {distorted.shape[0]} distorted images: "
            "expected as many references as distorted images, or one reference for all of them",
            "size_mismatch",
        )
    return settled(*colours) if colours else ""


def check_sizes(reference: Sequence[int], distorted: Sequence[int]) -> None:
    """Raise ImageError, ``size_mismatch``, unless both heights and widths are the same."""
    if tuple(reference) != tuple(distorted):
        raise ImageError(
            f"reference is {_size(reference)} and distorted is {_size(distorted)}: both must have "
            "the same size; resize or crop one of them, but note that this changes the score",
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


def _size(size: Sequence[int]) -> str:
    height, width = size
    return f"{width}x{height}"


def _from_array(array: NDArray[Any], peak: float | None = None) -> Tensor:
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
    if isinstance(array, np.ma.MaskedArray):
        raise ImageError("masked array; fill the mask first, with .filled(value)")
    if array.dtype.newbyteorder("=") not in (np.uint8, np.uint16) and array.dtype.kind != "f":
        raise ImageError(
            f"expected dtype uint8, uint16 or float, got {array.dtype}; convert it so that its "
            "range is known"
        )
    # A copy: later changes of the caller's array do not reach the tensor, and foreign byte orders,
    # negative strides and read-only buffers, which torch refuses, are gone.
    channels_first = np.moveaxis(array, -1, 1)
    native = np.array(channels_first, dtype=channels_first.dtype.newbyteorder("="), order="C")
    if native.dtype.kind == "f" and native.dtype.itemsize > 8:
        native = native.astype(np.float64)
    return _from_tensor(torch.from_numpy(native), peak)


def _from_tensor(tensor: Tensor, peak: float | None = None) -> Tensor:
    """Return ``[N, C, H, W]`` with C from 1 to 4, float32 in [0, 1], alpha included."""
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
    if tensor.numel() >= MANY:
        before_computing()
    if tensor.layout != torch.strided or tensor.is_meta:
        raise ImageError(
            f"expected a dense tensor with values, got {tensor.layout} {tensor.device}"
        )
    if tensor.dtype in _GREATEST and peak is None:
        return tensor.to(torch.float32) / _GREATEST[tensor.dtype]
    if peak is not None and tensor.dtype in (*_GREATEST, *_FLOATS):
        wide = tensor.to(torch.float64 if tensor.dtype == torch.float64 else torch.float32)
        colours = wide.shape[1] - (wide.shape[1] in (2, 4))
        alpha = wide[:, colours:] / _GREATEST.get(tensor.dtype, 1)
        tensor = torch.cat([wide[:, :colours] / peak, alpha], dim=1)
    if tensor.dtype not in _FLOATS:
        raise ImageError(
            f"expected dtype uint8, uint16, or float of 16 to 64 bits, got {tensor.dtype}"
        )
    _check_range(tensor, None)
    return tensor.to(torch.float32)


def _check_range(images: Tensor, name: str | None) -> None:
    # One pass over the pixels and, on a GPU, one synchronisation. Torch would copy a tensor that is
    # not contiguous.
    pixels = images.detach()
    if pixels.ndim == 4 and not pixels.is_contiguous():
        pixels = pixels.permute(0, 2, 3, 1)
    low, high = torch.stack(torch.aminmax(pixels)).tolist()
    if low >= -_RANGE_SLACK and high <= 1 + _RANGE_SLACK:
        return
    if not np.isfinite(low) or not np.isfinite(high):
        came, remedy = "NaN or infinite values", "mask or replace them"
    else:
        came = f"values from {_outside(low)} to {_outside(high)}"
        remedy = _remedy(pixels, low, high)
    prefix = f"{name}: " if name else ""
    raise ImageError(f"{prefix}expected values in [0, 1], got {came}; {remedy}", "out_of_range")


def _remedy(pixels: Tensor, low: float, high: float) -> str:
    """Say what to do with finite values out of range, from what they show."""
    # A good part of an image in [-1, 1] lies well below 0; overshoot is small or rare.
    often_negative = int((pixels < -0.05).sum()) > 0.02 * pixels.numel()
    largest = max(-low, high)
    if often_negative and low < -0.3 and 0.6 < largest <= 1.1:
        clamp = "" if largest <= 1 + _RANGE_SLACK else ", then clamp to [0, 1]"
        return f"this looks like [-1, 1]: use (x + 1) / 2{clamp}"
    if high <= 1.5 and (low >= -0.3 or (low >= -0.5 and not often_negative)):
        return "this looks like [0, 1] with overshoot: use x.clamp(0, 1)"
    for bits, most in ((8, 255), (10, 1023), (12, 4095), (16, 65535)):
        if high > 1.5 and low >= -0.02 * high and high <= 1.02 * most:
            clamp = "" if low >= 0 and high <= most else ", then clamp to [0, 1]"
            wider = " (or by the peak of more bits)" if bits > 8 else ""
            return f"this looks like 0-{most}: divide by {most}{wider}{clamp}"
    return "undo the normalisation that was applied"


def _outside(bound: float) -> str:
    """Return a bound in as many digits as show that it lies outside [0, 1]."""
    short = f"{bound:.4g}"
    return short if 0 <= bound <= 1 or not 0 <= float(short) <= 1 else f"{bound:.9g}"


def _to_rgb(image: Tensor, background: Background | None) -> Tensor:
    channels = image.shape[1]
    if channels in (2, 4):
        if background is None and bool((image[:, -1] == 1).all()):  # nothing shows through
            return image[:, :-1].expand(-1, 3, -1, -1)
        if background is None:
            raise ImageError(
                "it is partly transparent, and what shows through would decide the score; flatten "
                "it, or set a background (background=1.0 is white)",
                "has_alpha",
            )
        colour, alpha = image[:, :-1], image[:, -1:]
        return alpha * colour.expand(-1, 3, -1, -1) + (1 - alpha) * _backdrop(
            background, image.device
        )
    return image.expand(-1, 3, -1, -1)


def check_background(background: Background | None) -> None:
    """Raise ImageError unless a background is None, or one or three values in [0, 1]."""
    if background is not None:
        _backdrop(background, torch.device("cpu"))


def _backdrop(background: Background, device: torch.device) -> Tensor:
    try:
        colour = torch.as_tensor(background, dtype=torch.float32, device=device)
    except (TypeError, ValueError):
        colour = torch.empty(0)
    if colour.numel() not in (1, 3) or not bool(((colour >= 0) & (colour <= 1)).all()):
        raise ImageError(f"background: expected one or three values in [0, 1], got {background!r}")
    return colour.reshape(1, -1, 1, 1)
