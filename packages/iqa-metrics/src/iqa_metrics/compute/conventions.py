"""What is compared of images by a convention, and what a mask does to a mean."""

import torch
from torch import Tensor
from torch.nn import functional as F

from iqa_metrics.io.conventions import Conventions
from iqa_metrics.io.errors import ImageError

# Of R, G and B in [0, 1], in steps of 8 bits: Y = 16 for black and 235 for white.
_LUMA, _BLACK = (65.481, 128.553, 24.966), 16.0


def scaled(images: Tensor, conventions: Conventions) -> Tensor:
    """Return images whose white is 1."""
    if conventions.peak is None or not torch.is_floating_point(images):
        return images
    return images.to(torch.promote_types(images.dtype, torch.float32)) / conventions.peak


def compared(images: Tensor, conventions: Conventions) -> Tensor:
    """Return what is compared of images ``[N, 3, H, W]`` in [0, 1]: 1 or 3 channels."""
    if conventions.border:
        images = cut(images, conventions)
    if conventions.space == "rgb":
        return images
    wide = images.to(torch.promote_types(images.dtype, torch.float32))
    weights = torch.tensor(_LUMA, dtype=wide.dtype, device=wide.device).view(1, 3, 1, 1)
    steps = (wide * weights).sum(dim=1, keepdim=True) + _BLACK
    if conventions.space == "y8":
        steps = steps + (steps.round() - steps).detach()
    return steps / 255


def cut(images: Tensor, conventions: Conventions) -> Tensor:
    """Return images ``[..., H, W]`` without their border."""
    last = -conventions.border or None
    return images[..., conventions.border : last, conventions.border : last]


def checked_mask(mask: object, images: Tensor) -> Tensor:
    """Return the weights of pixels as ``[N, 1, H, W]``, in the images' precision.

    Parameters
    ----------
    mask
        Weights from 0 on, ``[H, W]``, ``[N, H, W]``, or ``[N, 1, H, W]``; N may be 1.
    images
        The distorted images, ``[N, 3, H, W]``.

    Raises
    ------
    ImageError
        If it is no such tensor, with the code ``bad_mask``.
    """
    count, (height, width) = len(images), images.shape[-2:]
    expected = f"mask: expected weights of pixels, [{count}, 1, {height}, {width}], from 0 on"
    if not isinstance(mask, Tensor):
        raise ImageError(f"{expected}; got {type(mask).__name__}", "bad_mask")
    shape = list(mask.shape)
    weights = mask[None] if mask.ndim == 2 else mask
    weights = weights[:, None] if weights.ndim == 3 else weights
    if weights.ndim != 4 or weights.shape[1:] != (1, height, width):
        raise ImageError(f"{expected}; got {shape}", "bad_mask")
    if weights.shape[0] not in (1, count) or weights.device != images.device:
        raise ImageError(
            f"{expected}, on {images.device}; got {shape} on {mask.device}", "bad_mask"
        )
    weights = weights.to(torch.promote_types(images.dtype, torch.float32))
    return weights.expand(count, -1, -1, -1)


def check_mask_values(weights: Tensor, where: str = "") -> None:
    """Raise ImageError if the mask of an image has a negative weight, or none above 0.

    ``where`` says which positions these weights are of, for the message.
    """
    low, total = weights.amin(), weights.flatten(1).sum(dim=1).amin()
    if not (bool(low >= 0) and bool(total > 0) and bool(torch.isfinite(weights).all())):
        raise ImageError(
            "mask: expected finite weights from 0 on, and at least one above 0 for each image"
            + (f" {where}" if where else ""),
            "bad_mask",
        )


def averaged(values: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean over the positions of ``[N, C, h, w]``: ``[N, C]``.

    Weights of pixels, ``[N, 1, H, W]``, are averaged over the cells of a coarser grid.
    """
    height, width = values.shape[-2:]
    if weights.shape[-2:] != (height, width):
        weights = F.adaptive_avg_pool2d(weights, (height, width))
    weights = weights.to(values.device, values.dtype)
    return (values * weights).sum(dim=(2, 3)) / weights.sum(dim=(2, 3))
