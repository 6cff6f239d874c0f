"""Metrics computed from pixels alone: PSNR and SSIM."""

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from iqa_metrics.metrics.contract import Check, Metric, at_least_float32

_K1, _K2 = 0.01, 0.03


class PSNR(Metric):
    """Peak signal-to-noise ratio in decibel: ``10 log10(1 / MSE)``, over all pixels and channels.

    Range ``[0, inf]`` for images in [0, 1]; identical images give ``inf``, with gradient 0.
    Float64 images give float64 values, others float32.

    References
    ----------
    ITU-T J.340 (2010).
    """

    name = "psnr"
    higher_is_better: ClassVar[bool] = True
    range: ClassVar[tuple[float, float]] = (0.0, math.inf)
    smallest_input = 1
    source: ClassVar[str] = "ITU-T J.340 (2010)"

    def compare(self, reference: Tensor, distorted: Tensor) -> Tensor:
        difference = at_least_float32(reference) - at_least_float32(distorted)
        mse = difference.square().mean(dim=(1, 2, 3))
        same = mse == 0
        # The logarithm never sees the 0, else its infinite slope times 0 would make NaN gradients.
        decibel = -10 * torch.log10(torch.where(same, 1.0, mse))
        return torch.where(same, torch.inf, decibel)


Window = Literal["gaussian", "uniform"]


class SSIM(Metric):
    """Structural similarity (Wang et al., 2004).

    Local means, variances and covariance are compared in every window that lies wholly inside the
    image, on each of R, G and B, and averaged over positions and channels. Constants K1 = 0.01 and
    K2 = 0.03, dynamic range 1. Range (-1, 1]; identical images give exactly 1. Float64 images give
    float64 values, others float32.

    The paper is about grey images. Averaging over the channels is what scikit-image, torchmetrics
    and pytorch-msssim do; for the authors' own practice pass grey images, repeated to 3 channels.

    Parameters
    ----------
    window
        ``"gaussian"`` is the paper's: 11x11, standard deviation 1.5, population covariance.
        ``"uniform"`` is what scikit-image does by default: 7x7, sample covariance.
    check
        As for :class:`Metric`.

    References
    ----------
    Z. Wang, A. C. Bovik, H. R. Sheikh and E. P. Simoncelli, "Image quality assessment: from error
    visibility to structural similarity", IEEE Transactions on Image Processing 13(4), 2004.
    """

    higher_is_better: ClassVar[bool] = True
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    source: ClassVar[str] = "Wang et al., IEEE TIP 2004, doi 10.1109/TIP.2003.819861"

    def __init__(self, window: Window = "gaussian", *, check: Check = "error") -> None:
        super().__init__(check=check)
        if window == "gaussian":
            self.name = "ssim"
            positions = torch.arange(-5, 6, dtype=torch.float64)
            weights = torch.exp(-positions.square() / (2 * 1.5**2))
            self._weights = (weights / weights.sum()).tolist()
            self._covariance_factor = 1.0
        elif window == "uniform":
            self.name = "ssim_skimage"
            self._weights = [1 / 7] * 7
            self._covariance_factor = 49 / 48
        else:
            raise ValueError(f"window: expected 'gaussian' or 'uniform', got {window!r}")
        self.smallest_input = len(self._weights)

    def compare(self, reference: Tensor, distorted: Tensor) -> Tensor:
        # Variances do not depend on an offset, but their rounding error does: centre the values.
        x, y = (at_least_float32(images) - 0.5 for images in (reference, distorted))
        x = x.expand_as(y)
        local = self._blur(torch.cat([x, y, x * x, y * y, x * y], dim=1))
        mean_x, mean_y, square_x, square_y, product = local.chunk(5, dim=1)
        variances = (square_x - mean_x * mean_x) + (square_y - mean_y * mean_y)
        covariance = product - mean_x * mean_y
        mean_x, mean_y = mean_x + 0.5, mean_y + 0.5
        c1, c2 = _K1**2, _K2**2
        factor = self._covariance_factor
        similarity = ((2 * mean_x * mean_y + c1) * (2 * factor * covariance + c2)) / (
            (mean_x * mean_x + mean_y * mean_y + c1) * (factor * variances + c2)
        )
        return similarity.mean(dim=(1, 2, 3))

    def _blur(self, maps: Tensor) -> Tensor:
        channels = maps.shape[1]
        kernel = torch.tensor(self._weights, dtype=maps.dtype, device=maps.device)
        rows = kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
        columns = kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
        return F.conv2d(F.conv2d(maps, rows, groups=channels), columns, groups=channels)
