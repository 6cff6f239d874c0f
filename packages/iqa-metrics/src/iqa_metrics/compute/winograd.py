"""Convolutions with fewer multiplications, by Winograd's algorithm.

A 3x3 convolution of stride 1 computes 4x4 outputs from a 6x6 tile of its input with 36
multiplications a pair of channels instead of 144. In float32 on a CPU that is the faster way where
channels are many; the transforms before and after are products with small constant matrices.

References
----------
A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016,
arXiv:1509.09308; and for the points B. Barabasz, A. Anderson, K. M. Soodhalter and D. Gregg, "Error
Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural Networks", ACM TOMS
46(4), 2020, arXiv:1803.10986.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iqa_metrics.compute.folding import is_untouched
from iqa_metrics.compute.tracing import traced

_OUT, _IN = 4, 6
_LEAST_CHANNELS = 192
"""Below that the transforms cost more than the multiplications that they save."""
_LEAST_TILES = 32
_WEIGHTS_A_TILE = 2**11
"""An image with fewer tiles, or fewer for the size of the weights, does not pay for the transformed
weights: four times as large, they take memory and have to be read."""


def _transforms() -> tuple[Tensor, Tensor, Tensor]:
    """Return the matrices of input, weights and output: ``out = A' ((G w) * (B' x))`` by axis.

    By Toom and Cook: polynomials are evaluated at points, multiplied there, and interpolated.
    """
    points = torch.tensor([0.0, 1.0, -1.0, 0.5, -0.5], dtype=torch.float64)

    def evaluated(terms: int) -> Tensor:
        at_infinity = torch.zeros(1, terms, dtype=torch.float64)
        at_infinity[0, -1] = 1
        powers = points[:, None] ** torch.arange(terms, dtype=torch.float64)
        return torch.cat([powers, at_infinity])

    return torch.linalg.inv(evaluated(_IN)).T, evaluated(3), evaluated(_OUT).T


class WinogradConv2d(nn.Conv2d):
    """A 3x3 convolution that multiplies less where that pays, with the parameters of another.

    Elsewhere (on a GPU, in other precisions, for small images, where gradients are enabled, in a
    compiler) it is torch's own. A reference whose gradient is not recorded still has to go the same
    way as the distorted image whose gradient is. Against float64 its responses are off by 3e-6 of
    their root mean square, torch's by 4e-7.

    Parameters
    ----------
    convolution
        The convolution whose parameters it takes; :meth:`fits` says which can be.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__(
            convolution.in_channels,
            convolution.out_channels,
            3,
            padding=convolution.padding,  # type: ignore[arg-type]
            bias=convolution.bias is not None,
            device="meta",
        )
        self.weight, self.bias = convolution.weight, convolution.bias
        self._made_from: tuple[int, int] | None = None
        self._matrices: tuple[Tensor, Tensor, Tensor] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Copies make the transformed weights again, which are four times as large as the weights.
        return {**self.__dict__, "_matrices": None}

    @staticmethod
    def fits(module: nn.Module) -> bool:
        """Say whether a module is a convolution that this one can stand in for with a gain."""
        return (
            isinstance(module, nn.Conv2d)
            and is_untouched(module, nn.Conv2d)
            and module.kernel_size == (3, 3)
            and module.stride == (1, 1)
            and module.dilation == (1, 1)
            and module.padding in ((0, 0), (1, 1))
            and module.groups == 1
            and module.padding_mode == "zeros"
            and min(module.in_channels, module.out_channels) >= _LEAST_CHANNELS
        )

    def forward(self, images: Tensor) -> Tensor:
        """Convolve ``[N, C, H, W]``."""
        padding = int(self.padding[0])
        height, width = (side + 2 * padding - 2 for side in images.shape[-2:])
        rows, columns = -(-height // _OUT), -(-width // _OUT)
        enough = max(_LEAST_TILES, self.in_channels * self.out_channels // _WEIGHTS_A_TILE)
        if (
            rows * columns < enough
            or images.dtype != torch.float32
            or images.device.type != "cpu"
            or images.ndim != 4
            or torch.is_grad_enabled()
            or traced()
        ):
            return super().forward(images)
        to_tiles, weights, from_tiles = self._transformed()
        count, channels = images.shape[:2]
        padded = F.pad(
            images.permute(0, 2, 3, 1),
            (
                *(0, 0),
                *(padding, columns * _OUT + 2 - images.shape[3] - padding),
                *(padding, rows * _OUT + 2 - images.shape[2] - padding),
            ),
        )
        per_image, per_row, per_column, per_channel = padded.stride()
        tiles = padded.as_strided(
            (_IN, _IN, count, rows, columns, channels),
            (per_row, per_column, per_image, _OUT * per_row, _OUT * per_column, per_channel),
        )
        transformed = to_tiles @ tiles.reshape(_IN * _IN, -1)
        products = transformed.view(_IN * _IN, -1, channels) @ weights
        parts = (from_tiles @ products.view(_IN * _IN, -1)).view(
            _OUT, _OUT, count, rows, columns, -1
        )
        whole = parts.permute(2, 3, 0, 4, 1, 5).reshape(
            count, rows * _OUT, columns * _OUT, self.out_channels
        )[:, :height, :width]
        out = whole.contiguous() if self.bias is None else whole + self.bias
        return out.permute(0, 3, 1, 2)

    def _transformed(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the matrices that transform tiles, weights ``[36, C, K]``, and tiles back."""
        weight = self.weight
        made_from = (weight.data_ptr(), weight._version)
        if self._matrices is None or self._made_from != made_from:
            to_tiles, of_weights, from_tiles = _transforms()
            by_axis = of_weights @ weight.detach().double() @ of_weights.T
            self._matrices = (
                torch.kron(to_tiles, to_tiles).float(),
                by_axis.permute(2, 3, 1, 0).flatten(0, 1).contiguous().float(),
                torch.kron(from_tiles, from_tiles).float().contiguous(),
            )
            self._made_from = made_from
        return self._matrices


def with_fewer_multiplications(network: nn.Module) -> nn.Module:
    """Put :class:`WinogradConv2d` in the place of a network's convolutions where it fits."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if WinogradConv2d.fits(child):
                setattr(parent, name, WinogradConv2d(child))  # type: ignore[arg-type]
    return network
