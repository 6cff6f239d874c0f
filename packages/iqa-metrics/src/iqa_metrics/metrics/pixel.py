"""Metrics computed from pixels alone: MSE, PSNR, SSIM and MS-SSIM."""

import math
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from iqa_metrics.compute.conventions import averaged, check_mask_values
from iqa_metrics.compute.pair_module import Check
from iqa_metrics.compute.tracing import is_hidden, recorded, traced
from iqa_metrics.metrics.contract import Metric
from iqa_metrics.metrics.windows import Windows

_K1, _K2 = 0.01, 0.03
_LEAST_ERROR = 1e-60
_LEAST_IN_FLOAT32 = 1e-24
"""Below this mean, squares of float32 differences may vanish in float32."""
# Found by timing: 1 MiB of float64, enough to be worth starting a second thread.
_BLOCK_VALUES = 2**17
_BELL = [math.exp(-(position**2) / (2 * 1.5**2)) for position in range(-5, 6)]
_GAUSSIAN = [value / math.fsum(_BELL) for value in _BELL]


class MSE(Metric):
    """Mean squared error over all pixels and channels.

    Range ``[0, 1]`` for images in [0, 1]; identical images give 0; symmetric. Float64 images give
    float64 values, others float32.

    References
    ----------
    Z. Wang and A. C. Bovik, "Mean squared error: love it or leave it?", IEEE Signal Processing
    Magazine 26(1), 2009.
    """

    name = "mse"
    higher_is_better: ClassVar[bool] = False
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    has_map = takes_mask = True
    any_channels: ClassVar[bool] = True
    elementwise: ClassVar[bool] = True
    smallest_input = 1
    source: ClassVar[str] = "Wang and Bovik, IEEE SPM 2009, doi 10.1109/MSP.2008.930649"

    def compare(self, reference: Tensor, distorted: Tensor) -> Tensor:
        return _like(distorted, _mean_squared_error(reference, distorted))

    def compare_map(self, reference: Tensor, distorted: Tensor) -> Tensor:
        return (reference - distorted).square().mean(dim=1, keepdim=True)

    def compare_masked(self, reference: Tensor, distorted: Tensor, mask: Tensor) -> Tensor:
        return _like(distorted, _masked_squared_error(reference, distorted, mask))


class PSNR(Metric):
    """Peak signal-to-noise ratio in decibels: ``10 log10(1 / MSE)``, over all pixels and channels.

    Range ``[0, inf]`` for images in [0, 1]. Images that are identical, or differ by less than 1e-30
    (root mean square), give ``inf`` with gradient 0. Float64 images give float64 values, others
    float32.

    References
    ----------
    ITU-T J.340 (2010).
    """

    name = "psnr"
    higher_is_better: ClassVar[bool] = True
    range: ClassVar[tuple[float, float]] = (0.0, math.inf)
    takes_mask = True
    any_channels: ClassVar[bool] = True
    elementwise: ClassVar[bool] = True
    smallest_input = 1
    source: ClassVar[str] = "ITU-T J.340 (2010)"

    def compare(self, reference: Tensor, distorted: Tensor) -> Tensor:
        return _like(distorted, self._decibel(_mean_squared_error(reference, distorted)))

    def compare_masked(self, reference: Tensor, distorted: Tensor, mask: Tensor) -> Tensor:
        error = _masked_squared_error(reference, distorted, mask)
        return _like(distorted, self._decibel(error))

    @staticmethod
    def _decibel(mse: Tensor) -> Tensor:
        # The logarithm is never taken of 0, where its slope is infinite, nor of an error so small
        # that the gradient would be infinite.
        same = mse < _LEAST_ERROR
        decibel = -10 * torch.log10(torch.where(same, 1.0, mse))
        return torch.where(same, torch.inf, decibel)


Window = Literal["gaussian", "uniform"]


class SSIM(Metric):
    """Structural similarity (Wang et al., 2004).

    Local means, variances and covariances are compared in every window that lies entirely inside
    the image, on each of R, G and B, and the similarities are averaged over positions and channels.
    The constants are K1 = 0.01 and K2 = 0.03, the dynamic range is 1. Range (-1, 1]; identical
    images give exactly 1. Float64 images give float64 values, others float32.

    The paper is about grey images. Averaging over channels is what scikit-image, torchmetrics and
    pytorch-msssim do; to follow the authors, pass grey images, repeated to 3 channels.

    The map has each window's similarity at the centre of the window; at the border, where no window
    fits, the nearest value is repeated.

    Parameters
    ----------
    window
        ``"gaussian"`` is the paper's window: 11x11, standard deviation 1.5, population covariance.
        ``"uniform"`` is scikit-image's default: 7x7, sample covariance.
    check
        As for :class:`Metric`.

    References
    ----------
    Z. Wang, A. C. Bovik, H. R. Sheikh and E. P. Simoncelli, "Image quality assessment: from error
    visibility to structural similarity", IEEE Transactions on Image Processing 13(4), 2004.
    """

    higher_is_better: ClassVar[bool] = True
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    has_map = takes_mask = True
    any_channels: ClassVar[bool] = True
    source: ClassVar[str] = "Wang et al., IEEE TIP 2004, doi 10.1109/TIP.2003.819861"

    def __init__(self, window: Window = "gaussian", *, check: Check = "error") -> None:
        super().__init__(check=check)
        if window == "gaussian":
            self.name = "ssim"
            self._windows = Windows(_GAUSSIAN)
            covariance_factor = 1.0
        elif window == "uniform":
            self.name = "ssim_skimage"
            self._windows = Windows([1 / 7] * 7)
            covariance_factor = 49 / 48
        else:
            raise ValueError(f"window: expected 'gaussian' or 'uniform', got {window!r}")
        self.smallest_input = self._windows.size
        self._formula = partial(_similarity, covariance_factor=covariance_factor)

    def compare(self, reference: Tensor, distorted: Tensor) -> Tensor:
        similarity = self._windows.mean(self._formula, reference, distorted)
        return _like(distorted, similarity.mean(dim=1))

    def compare_map(self, reference: Tensor, distorted: Tensor) -> Tensor:
        similarity = self._windows.map(self._formula, reference, distorted)
        similarity = similarity.mean(dim=1, keepdim=True)
        border = [self._windows.size // 2] * 4
        return _like(distorted, F.pad(similarity, border, mode="replicate"))

    def compare_masked(self, reference: Tensor, distorted: Tensor, mask: Tensor) -> Tensor:
        # A window has the weight of the pixel at its centre.
        similarity = self._windows.map(self._formula, reference, distorted)
        inside = slice(self._windows.size // 2, -(self._windows.size // 2))
        weights = mask[..., inside, inside]
        if self.check == "error" and not is_hidden(weights):
            check_mask_values(weights, "at the centre of a window inside the image")
        return _like(distorted, averaged(similarity, weights).mean(dim=1))


class MSSSIM(Metric):
    """Multi-scale structural similarity (Wang et al., 2003).

    SSIM's contrast and structure terms are taken at five scales, each half as large as the one
    before, and its luminance term at the last one. Each is averaged over positions and raised to
    the paper's weight, and their product is averaged over R, G and B. Gaussian window, constants
    and dynamic range are those of :class:`SSIM`. Range [0, 1]; identical images give exactly 1.
    Float64 images give float64 values, others float32.

    A scale is halved by averaging 2x2 pixels; an odd last row or column is averaged alone, as in
    the authors' code. A mean below 0, whose power is undefined, counts as 0.

    References
    ----------
    Z. Wang, E. P. Simoncelli and A. C. Bovik, "Multiscale structural similarity for image quality
    assessment", Asilomar Conference on Signals, Systems and Computers, 2003.
    """

    name = "ms_ssim"
    higher_is_better: ClassVar[bool] = True
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    source: ClassVar[str] = "Wang et al., Asilomar 2003, doi 10.1109/ACSSC.2003.1292216"
    any_channels: ClassVar[bool] = True
    weights: ClassVar[tuple[float, ...]] = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
    # At the last scale, one window must still fit into the image.
    smallest_input = (11 - 1) * 2 ** (len(weights) - 1) + 1
    _windows: ClassVar[Windows] = Windows(_GAUSSIAN)

    def compare(self, reference: Tensor, distorted: Tensor) -> Tensor:
        if distorted.device.type == "cpu" and not traced():
            # One image at a time, so that its smaller scales stay in cache.
            references = reference.expand_as(distorted)
            pairs = [(x[None], y[None]) for x, y in zip(references, distorted, strict=True)]
        else:
            pairs = [(reference, distorted)]
        return _like(distorted, torch.cat([self._product(*pair) for pair in pairs]))

    def _product(self, x: Tensor, y: Tensor) -> Tensor:
        product: Tensor | None = None
        for scale, weight in enumerate(self.weights):
            if scale:
                x, y = _halved(x), _halved(y)
            last = scale == len(self.weights) - 1
            similarity = self._windows.mean(_similarity if last else _contrast_structure, x, y)
            term = _power(similarity, weight)
            product = term if product is None else product * term
        return torch.as_tensor(product).mean(dim=1)


def _mean_squared_error(reference: Tensor, distorted: Tensor) -> Tensor:
    """Return ``[N]``, float64, since the square of a small error may vanish in float32."""
    if distorted.device.type != "cpu" or traced():
        return (reference - distorted).double().square().mean(dim=(1, 2, 3))
    references = reference.expand_as(distorted)
    return torch.stack([_in_blocks(x, y) for x, y in zip(references, distorted, strict=True)])


def _masked_squared_error(reference: Tensor, distorted: Tensor, mask: Tensor) -> Tensor:
    squares = (reference - distorted).double().square()
    return averaged(squares, mask).mean(dim=1)


def _in_blocks(x: Tensor, y: Tensor) -> Tensor:
    """Return the mean squared error of one image, computed in blocks that stay in cache."""
    planes = (image.flatten() for image in (x, y))
    blocks = list(zip(*(torch.split(plane, _BLOCK_VALUES) for plane in planes), strict=True))
    if x.dtype == y.dtype == torch.float32 and not recorded(x, y):
        # One buffer for all blocks: fresh allocations would cost a page fault per page. Torch sums
        # a block pairwise; the sums of blocks are added in float64.
        buffer = torch.empty(min(_BLOCK_VALUES, y.numel()), dtype=torch.float32)
        parts = []
        for first, second in blocks:
            difference = torch.sub(first, second, out=buffer[: len(first)])
            parts.append(difference.square_().sum())
        mean = torch.stack(parts).double().sum() / y.numel()
        if mean > _LEAST_IN_FLOAT32:
            return mean
    # In place, since nothing else uses the block.
    squares = [torch.sub(*block).double().square_().sum() for block in blocks]
    return torch.stack(squares).sum() / y.numel()


def _like(images: Tensor, values: Tensor) -> Tensor:
    """Return values as float64 for float64 images, else as float32."""
    return values if images.dtype == torch.float64 else values.float()


# SSIM's terms from the local means of s = x + y, d = x - y, s² and d². For the means mx and my,
#     4 mx my = ms² - md²    and    2 (mx² + my²) = ms² + md²
# and likewise for the covariance and the variances. So a term is (a - b) / (a + b), where b is
# exactly 0 for identical images. Dividing the constants by a factor multiplies the variances by it.


def _similarity(
    mean_s: Tensor,
    mean_d: Tensor,
    square_s: Tensor,
    square_d: Tensor,
    covariance_factor: float = 1.0,
) -> Tensor:
    """Return the product of SSIM's luminance, contrast and structure terms at each position."""
    luminance_s, luminance_d = mean_s.square(), mean_d.square()
    variance_s, variance_d = _variances(luminance_s, luminance_d, square_s, square_d)
    luminance_s = luminance_s + 2 * _K1**2
    variance_s = variance_s + 2 * _K2**2 / covariance_factor
    return ((luminance_s - luminance_d) * (variance_s - variance_d)) / (
        (luminance_s + luminance_d) * (variance_s + variance_d)
    )


def _contrast_structure(
    mean_s: Tensor, mean_d: Tensor, square_s: Tensor, square_d: Tensor
) -> Tensor:
    """Return the product of SSIM's contrast and structure terms at each position."""
    variance_s, variance_d = _variances(mean_s.square(), mean_d.square(), square_s, square_d)
    variance_s = variance_s + 2 * _K2**2
    return (variance_s - variance_d) / (variance_s + variance_d)


def _variances(
    squared_mean_s: Tensor, squared_mean_d: Tensor, square_s: Tensor, square_d: Tensor
) -> tuple[Tensor, Tensor]:
    # Rounding may make it negative, and the similarity would then exceed 1.
    return square_s - squared_mean_s, (square_d - squared_mean_d).clamp(min=0)


def _halved(images: Tensor) -> Tensor:
    """Return the means of 2x2 pixels, float64; an odd last row or column is averaged alone."""
    images = images.double()
    height, width = images.shape[-2:]
    if height % 2 or width % 2:
        images = F.pad(images, (0, width % 2, 0, height % 2), mode="replicate")
    rows = images[..., ::2, :] + images[..., 1::2, :]
    return (rows[..., ::2] + rows[..., 1::2]) / 4


def _power(values: Tensor, exponent: float) -> Tensor:
    # The power is never taken of 0, where its slope is infinite.
    none = values <= 0
    return torch.where(none, 0.0, torch.where(none, 1.0, values).pow(exponent))
