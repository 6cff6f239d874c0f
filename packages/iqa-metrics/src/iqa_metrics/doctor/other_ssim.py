"""SSIM as other programs compute it: other windows, covariances, borders and scales."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class OtherSSIM:
    """A variant of SSIM on images in [0, 1].

    Attributes
    ----------
    window
        Width of the window, in pixels.
    sigma
        Standard deviation of a Gaussian window, in pixels; None for a uniform one.
    sample
        Take the sample covariance, which divides by ``n - 1``.
    padding
        ``""`` for windows that lie inside the image alone, or how the image is continued: with
        ``"constant"`` zeros, or ``"reflect"``.
    halved
        Average and subsample the images first, so that the shorter side has about 256 pixels, as
        in the authors' code.
    """

    window: int = 11
    sigma: float | None = 1.5
    sample: bool = False
    padding: str = ""
    halved: bool = False

    def __call__(self, reference: Tensor, distorted: Tensor) -> Tensor:
        """Return the value, ``[N]``."""
        x, y = (images.double() for images in (reference, distorted))
        if self.halved:
            x, y = self._smaller(x), self._smaller(y)
        if self.padding:
            margin = [self.window // 2] * 4
            x, y = (F.pad(images, margin, mode=self.padding) for images in (x, y))
        mean_x, mean_y, xx, yy, xy = map(self._averaged, (x, y, x * x, y * y, x * y))
        pixels = self.window**2
        factor = pixels / (pixels - 1) if self.sample else 1.0
        var_x, var_y = factor * (xx - mean_x**2), factor * (yy - mean_y**2)
        covariance = factor * (xy - mean_x * mean_y)
        c1, c2 = 0.01**2, 0.03**2
        similarity = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
            (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
        )
        return similarity.mean(dim=(1, 2, 3))

    def _averaged(self, images: Tensor) -> Tensor:
        """Return the window's averages, along rows and then along columns."""
        positions = torch.arange(self.window, dtype=torch.float64) - (self.window - 1) / 2
        if self.sigma is None:
            weights = torch.ones_like(positions)
        else:
            weights = torch.exp(-(positions**2) / (2 * self.sigma**2))
        weights = (weights / weights.sum()).to(images.device)
        across = F.conv2d(images.flatten(0, 1)[:, None], weights.view(1, 1, 1, -1))
        both = F.conv2d(across, weights.view(1, 1, -1, 1))
        return both.view(*images.shape[:2], *both.shape[-2:])

    def _smaller(self, images: Tensor) -> Tensor:
        # ssim.m: imfilter with a box, continued symmetrically, and every f-th pixel.
        factor = max(1, math.floor(min(images.shape[-2:]) / 256 + 0.5))
        if factor == 1:
            return images
        before, after = (factor - 1) // 2, factor // 2
        height, width = images.shape[-2:]
        rows = _symmetric(height, before, after)
        columns = _symmetric(width, before, after)
        wide = images[..., rows, :][..., columns]
        return F.avg_pool2d(wide, factor, stride=1)[..., ::factor, ::factor]


def _symmetric(length: int, before: int, after: int) -> Tensor:
    """Return indices that continue an axis symmetrically: the edge is repeated."""
    left = torch.arange(before).flip(0)
    right = length - 1 - torch.arange(after)
    return torch.cat([left, torch.arange(length), right])
