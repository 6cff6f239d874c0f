"""Conventions of papers: what is done with two images before any metric compares them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from iqa_metrics.io.decoding import ImageError

Space = Literal["rgb", "y", "y8"]
SPACES: tuple[Space, ...] = get_args(Space)

# Of R, G and B in [0, 1], in steps of 8 bits: Y = 16 for black and 235 for white.
_LUMA, _BLACK = (65.481, 128.553, 24.966), 16.0


@dataclass(frozen=True)
class Conventions:
    """What is compared of two images, as papers on super-resolution and compression state it.

    Attributes
    ----------
    space
        ``"rgb"``, or ``"y"``: the luma Y of ITU-R BT.601, as MATLAB's ``rgb2ycbcr`` gives it for
        images of floating-point numbers. Black is 16/255 and white 235/255, and yet the dynamic
        range of metrics stays 1, as in those papers. ``"y8"`` rounds Y to 8 bits, as ``rgb2ycbcr``
        does for images of 8 bits; the gradient passes the rounding unchanged. Networks get Y in all
        three channels.
    border
        Number of pixels that are cut off on each side of both images.
    peak
        The value of white in the images as they are given, such as 255, or 4095 for 12 bits in
        samples of 16. None means 1 for tensors and floating-point samples, and the greatest number
        of the type for integers.

    Raises
    ------
    ValueError
        If one of them has another value.

    Examples
    --------
    >>> from iqa_metrics import Conventions
    >>> str(Conventions(space="y", border=4))
    'space:y|border:4|peak:1'
    """

    space: Space = "rgb"
    border: int = 0
    peak: float | None = None

    def __post_init__(self) -> None:
        if self.space not in SPACES:
            raise ValueError(f"space: expected one of {', '.join(SPACES)}, got {self.space!r}")
        if not isinstance(self.border, int) or isinstance(self.border, bool) or self.border < 0:
            raise ValueError(f"border: expected a number of pixels from 0 on, got {self.border!r}")
        fine = isinstance(self.peak, int | float) and not isinstance(self.peak, bool)
        if self.peak is not None and not (fine and math.isfinite(self.peak) and self.peak > 0):
            raise ValueError(
                f"peak: expected the value of white, above 0, such as 255; got {self.peak!r}"
            )

    def __str__(self) -> str:
        peak = "1" if self.peak is None else f"{self.peak:g}"
        return f"space:{self.space}|border:{self.border}|peak:{peak}"

    @classmethod
    def parse(cls, texts: Mapping[str, str]) -> "Conventions":
        """Read conventions from text, by their names; what is empty or absent has its default.

        Raises
        ------
        ValueError
            As when they are made, or if a text is not a number where one is needed.
        """
        border, peak = texts.get("border", "").strip(), texts.get("peak", "").strip()
        if border and not border.isdecimal():
            raise ValueError(f"border: expected a number of pixels from 0 on, got {border!r}")
        try:
            number = float(peak) if peak else None
        except ValueError:
            raise ValueError(
                f"peak: expected the value of white, above 0, such as 255; got {peak!r}"
            ) from None
        space: Space = texts.get("space", "").strip() or "rgb"  # type: ignore[assignment]
        return cls(space, int(border or 0), number)

    def scaled(self, images: Tensor) -> Tensor:
        """Return images whose white is 1."""
        if self.peak is None or not torch.is_floating_point(images):
            return images
        return images.to(torch.promote_types(images.dtype, torch.float32)) / self.peak

    def compared(self, images: Tensor) -> Tensor:
        """Return what is compared of images ``[N, 3, H, W]`` in [0, 1]: 1 or 3 channels."""
        if self.border:
            images = self.cut(images)
        if self.space == "rgb":
            return images
        wide = images.to(torch.promote_types(images.dtype, torch.float32))
        weights = torch.tensor(_LUMA, dtype=wide.dtype, device=wide.device).view(1, 3, 1, 1)
        steps = (wide * weights).sum(dim=1, keepdim=True) + _BLACK
        if self.space == "y8":
            steps = steps + (steps.round() - steps).detach()
        return steps / 255

    def cut(self, images: Tensor) -> Tensor:
        """Return images ``[..., H, W]`` without their border."""
        last = -self.border or None
        return images[..., self.border : last, self.border : last]


AS_GIVEN = Conventions()


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


def check_mask_values(weights: Tensor) -> None:
    """Raise ImageError if the mask of an image has a negative weight, or none above 0."""
    low, total = weights.amin(), weights.flatten(1).sum(dim=1).amin()
    if not (bool(low >= 0) and bool(total > 0) and bool(torch.isfinite(weights).all())):
        raise ImageError(
            "mask: expected finite weights from 0 on, and at least one above 0 for each image",
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
