"""Read masks: weights of pixels, from files, arrays and tensors."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from iqa_metrics.io.errors import ImageError
from iqa_metrics.io.images import ImageSource, read_image


def read_mask(source: ImageSource, *, name: str | None = None) -> Tensor:
    """Read weights of pixels.

    Parameters
    ----------
    source
        A grey image file, whose black is 0 and whose white is 1, or anything else that
        :func:`iqa_metrics.read_image` reads; or an array or tensor ``[H, W]`` of any finite numbers
        from 0 on, or of booleans.
    name
        Name of the mask in messages; by default its path or kind.

    Returns
    -------
    Tensor
        float32, ``[1, 1, H, W]``.

    Raises
    ------
    ImageError
        If the file can't be read, or if it is not grey (``bad_mask``).
    """
    if isinstance(source, (np.ndarray, Tensor)) and source.ndim == 2:
        weights = source if isinstance(source, Tensor) else torch.from_numpy(_native(source))
        return weights.to(torch.float32)[None, None]
    try:
        image = read_image(source, colour="ignore", name=name)
    except ImageError as error:
        code = "bad_mask" if error.code == "bad_image" else error.code
        raise ImageError(str(error), code) from error
    if image.shape[0] != 1 or not bool((image == image[:, :1]).all()):
        raise ImageError(
            f"{name or 'mask'}: expected one grey image, [H, W], whose black is weight 0; got "
            f"{'colours' if image.shape[0] == 1 else f'{image.shape[0]} images'}",
            "bad_mask",
        )
    return image[:, :1]


def _native(array: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    if array.dtype.kind not in "buif":
        raise ImageError(f"mask: expected numbers or booleans, got {array.dtype}", "bad_mask")
    # A copy: foreign byte orders and negative strides, which torch refuses, are gone.
    return np.array(array, dtype=bool if array.dtype.kind == "b" else np.float32)
