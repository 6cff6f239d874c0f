"""How RGB in [0, 1] becomes the input that a network was trained on."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Order = Literal["RGB", "BGR", "L"]
ORDERS: tuple[Order, ...] = ("RGB", "BGR", "L")

# The red, green and blue of sRGB in the luminance Y of CIE XYZ, white D65 (IEC 61966-2-1).
_LUMINANCE = (0.2126729, 0.7151522, 0.0721750)


@dataclass(frozen=True)
class InputScaling:
    """How RGB in [0, 1] becomes what a network was trained on: ``(x * peak - mean) / std``.

    Attributes
    ----------
    peak
        The network's white: 1, 255, or 100 for lightness.
    mean, std
        A number for each channel, in the network's order of channels.
    order
        ``"RGB"``, ``"BGR"``, or ``"L"``: the lightness L* of CIE Lab alone, of sRGB under D65.
    """

    peak: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    order: Order = "RGB"

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise ValueError(f"order: expected one of {', '.join(ORDERS)}, got {self.order!r}")
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(
                f"mean and std: expected {self.channels} numbers each for {self.order}, got "
                f"{len(self.mean)} and {len(self.std)}"
            )
        if not self.peak > 0 or not all(value > 0 for value in self.std):
            raise ValueError(f"expected a positive peak and std, got {self.peak} and {self.std}")

    @property
    def channels(self) -> int:
        """Number of channels of the network's input."""
        return 1 if self.order == "L" else 3

    def apply(self, images: Tensor) -> Tensor:
        """Scale ``[N, 3, H, W]`` to ``[N, channels, H, W]``; the dtype stays."""
        if self.order == "L":
            images = _lightness(images)
        elif self.order == "BGR":
            images = images.flip(1)
        # As (x - mean / peak) * (peak / std): two passes over the pixels and not three.
        offset = [mean / self.peak for mean in self.mean]
        factor = [self.peak / std for std in self.std]
        subtracted, times = (
            torch.tensor(values, dtype=images.dtype, device=images.device).view(1, -1, 1, 1)
            for values in (offset, factor)
        )
        return (images - subtracted) * times


def _lightness(images: Tensor) -> Tensor:
    """Return L* / 100 of sRGB images."""
    linear = torch.where(
        images <= 0.04045, images / 12.92, ((images.clamp(min=0.04) + 0.055) / 1.055) ** 2.4
    )
    weights = torch.tensor(_LUMINANCE, dtype=images.dtype, device=images.device).view(1, 3, 1, 1)
    luminance = (linear * weights).sum(1, keepdim=True)
    # Below this the cube root gives way to a line, as CIE 15 has it.
    edge = (6 / 29) ** 3
    root = luminance.clamp(min=edge) ** (1 / 3)
    return torch.where(luminance > edge, 1.16 * root - 0.16, luminance * (29 / 3) ** 3 / 100)


AS_IT_IS = InputScaling(peak=1.0, mean=(0.0,) * 3, std=(1.0,) * 3)
IMAGENET = InputScaling(peak=1.0, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
HALVES = InputScaling(peak=1.0, mean=(0.5,) * 3, std=(0.5,) * 3)
