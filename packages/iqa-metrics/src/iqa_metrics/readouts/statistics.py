"""Readouts that compare statistics of feature maps.

Differences of statistics lose digits to cancellation, so most of them are summed in float64, which
a lowered float32 matrix precision does not affect either.

The parameters of all readouts are ``reference, distorted``: feature maps ``[N, C, ...]`` with C
channels and, in the remaining dimensions, positions; the reference's N may be 1. All readouts are
symmetric, have the range ``[0, inf)`` unless stated otherwise, and are 0 for equal feature maps.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from iqa_metrics.readouts.blocks import shared, single, summed
from iqa_metrics.readouts.numerics import one_minus_cosine, positions, result, root

_DISTS_CONSTANT = 1e-6
_SORTED_AT_ONCE = 2**20
"""Number of elements sorted together: torch keeps an index of 8 bytes for each."""


def channel_mean(reference: Tensor, distorted: Tensor) -> Tensor:
    """Euclidean distance between the channels' means (global average pooling)."""
    return _between(reference, distorted, _means)


def channel_std(reference: Tensor, distorted: Tensor) -> Tensor:
    """Euclidean distance between the channels' standard deviations (population)."""
    return _between(reference, distorted, _stds)


def channel_mean_std(reference: Tensor, distorted: Tensor) -> Tensor:
    """Euclidean distance between the vectors of all channels' means and standard deviations."""
    return _between(reference, distorted, _means, _stds)


def channel_skewness(reference: Tensor, distorted: Tensor) -> Tensor:
    """Euclidean distance between the channels' skewnesses ``m3 / m2^1.5``.

    A channel that is constant over its positions has skewness 0.
    """
    return _between(reference, distorted, _skewnesses)


def channel_kurtosis(reference: Tensor, distorted: Tensor) -> Tensor:
    """Euclidean distance between the channels' excess kurtoses ``m4 / m2² - 3``.

    A channel that is constant over its positions has excess kurtosis 0.
    """
    return _between(reference, distorted, _kurtoses)


def channel_skewness_kurtosis(reference: Tensor, distorted: Tensor) -> Tensor:
    """Euclidean distance between the vectors of all channels' skewnesses and excess kurtoses."""
    return _between(reference, distorted, _skewnesses, _kurtoses)


def pooled(reference: Tensor, distorted: Tensor, grid: int = 4) -> Tensor:
    """Euclidean distance between feature maps averaged over the cells of a grid.

    Parameters
    ----------
    reference, distorted
        Feature maps ``[N, C, H, W]``. In any other shape, the positions are taken as one row.
    grid
        Cells per side, limited to the number of positions. ``grid=1`` is :func:`channel_mean`.
    """
    x, y = (r if r.ndim == 4 else positions(r).unsqueeze(2) for r in (reference, distorted))
    height, width = x.shape[2:]
    rows = min(grid, height)
    cells = []
    for row in range(rows):
        # As in adaptive pooling, cells overlap if their number does not divide the height.
        part = slice(row * height // rows, -(-(row + 1) * height // rows))
        a, b = single(x[:, :, part], y[:, :, part])
        means = (b - a).mean(dim=2, dtype=torch.float64)
        cells.append(F.adaptive_avg_pool1d(means, min(grid, width)))
    return result(_length(torch.cat(cells, dim=2)), reference, distorted)


def gram(reference: Tensor, distorted: Tensor) -> Tensor:
    """Frobenius distance between Gram matrices ``G = F Fᵀ / P`` of feature maps F, ``[C, P]``.

    It ignores where in the image a texture is. For a layer with C channels, the paper's style loss
    is the square of this distance divided by ``4 C²``.

    References
    ----------
    L. A. Gatys, A. S. Ecker and M. Bethge, "Image Style Transfer Using Convolutional Neural
    Networks", CVPR 2016.
    """

    # G(y) - G(x) is computed from the difference: one product instead of two, no cancellation.
    def product(x: Tensor, y: Tensor) -> Tensor:
        x, y = x.double(), y.double()
        return (y - x).mT @ (y + x)

    half = summed(product, reference, distorted) / (2 * _count(distorted))
    return result(_length(half + half.mT), reference, distorted)


def wasserstein(reference: Tensor, distorted: Tensor) -> Tensor:
    """Wasserstein distance between the distributions of a channel's values, mean over channels.

    In one dimension the distance of order 1 is the mean absolute difference of the sorted values.

    References
    ----------
    After X. Liao, B. Chen, H. Zhu, S. Wang, M. Zhou and S. Kwong, "DeepWSD: Projecting Degradations
    in Perceptual Space to Wasserstein Distance in Deep Feature Space", ACM MM 2022,
    arXiv:2208.03323. The paper takes the distances in small windows and adds a Euclidean term; here
    they are taken over the whole channel.
    """
    x, y = positions(reference), positions(distorted)
    dtype = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
    count, channels, places = y.shape
    step = max(1, _SORTED_AT_ONCE // (count * places))
    distances = []
    for first in range(0, channels, step):
        a, b = (r[:, first : first + step].to(dtype).sort(dim=-1).values for r in (x, y))
        distances.append((a - b).abs().mean(dim=-1))
    return torch.cat(distances, dim=1).mean(dim=1)


def distance_correlation(reference: Tensor, distorted: Tensor) -> Tensor:
    """One minus the distance correlation of the feature maps, with the channels as samples.

    Let A and B be the double-centred matrices of the Euclidean distances between an image's
    channels, for the reference and the distorted image. The readout is
    ``1 - sum(A B) / sqrt(sum(A²) sum(B²))``. Range ``[0, 1]``; also 0 for feature maps that are
    equal up to a shift, a rotation and a positive factor. Where all channels of an image are equal
    there is nothing to correlate: the distance is 0 if that holds for both images, else 1.

    References
    ----------
    H. Zhu, B. Chen, L. Zhu, S. Wang and W. Lin, "DeepDC: Deep Distance Correlation as a Perceptual
    Image Quality Evaluator", arXiv:2211.04927. As in that paper, no root is taken: the fraction is
    the square of what G. J. Székely, M. L. Rizzo and N. K. Bakirov, Annals of Statistics 35, 2007,
    call distance correlation.
    """
    a, b = (_centred_distances(r).flatten(1) for r in (reference, distorted))
    return result(one_minus_cosine(a, b).squeeze(1), reference, distorted)


def dists_texture(reference: Tensor, distorted: Tensor) -> Tensor:
    """DISTS's texture term, averaged over channels: how different the channels' means are.

    See :func:`texture_and_structure`. Range ``[0, 2)``.
    """
    return texture_and_structure(reference, distorted)[0].mean(dim=1)


def dists_structure(reference: Tensor, distorted: Tensor) -> Tensor:
    """DISTS's structure term, averaged over channels: how different the channels' patterns are.

    See :func:`texture_and_structure`. Range ``[0, 2)``.
    """
    return texture_and_structure(reference, distorted)[1].mean(dim=1)


def texture_and_structure(reference: Tensor, distorted: Tensor) -> tuple[Tensor, Tensor]:
    """One minus DISTS's similarities of texture and of structure, for each channel, ``[N, C]``.

    Texture: ``1 - (2 mx my + c) / (mx² + my² + c)``, computed as ``(mx - my)² / (mx² + my² + c)``.
    Structure: ``1 - (2 sxy + c) / (sx² + sy² + c)``, computed as ``s(x - y)² / (sx² + sy² + c)``.
    This way no digits are lost where the images are similar. Here m are means over positions, s²
    variances, sxy is the covariance, and c is 1e-6.

    References
    ----------
    K. Ding, K. Ma, S. Wang and E. P. Simoncelli, "Image Quality Assessment: Unifying Structure and
    Texture Similarity", IEEE TPAMI 44(5), 2022, arXiv:2004.07728, equations 4 and 5.
    """
    mx, my = _means(reference), _means(distorted)
    sx, sy, unlike = _scatters(reference, distorted).unbind(dim=1)
    texture = (mx - my).square() / (mx.square() + my.square() + _DISTS_CONSTANT)
    structure = unlike / (sx + sy + _DISTS_CONSTANT)
    return result(texture, reference, distorted), result(structure, reference, distorted)


def _between(
    reference: Tensor, distorted: Tensor, *descriptors: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return the Euclidean distance between the concatenated descriptors, ``[N, C]`` each."""
    differences = [describe(distorted) - describe(reference) for describe in descriptors]
    return result(_length(torch.cat(differences, dim=1)), reference, distorted)


def _length(differences: Tensor) -> Tensor:
    return root(differences.square().flatten(1).sum(dim=1))


def _count(features: Tensor) -> int:
    return positions(features).shape[-1]


@shared
def _means(features: Tensor) -> Tensor:
    return summed(lambda x: x.sum(dim=1, dtype=torch.float64), features) / _count(features)


@shared
def _scatters(reference: Tensor, distorted: Tensor) -> Tensor:
    """Return the channels' variances of x, y and x - y, ``[N, 3, C]``."""

    def squares(x: Tensor, y: Tensor, mx: Tensor, my: Tensor) -> Tensor:
        a, b = x - mx, y - my
        of_x, *others = (t.square().sum(dim=1) for t in (a, b, a - b))
        return torch.stack([of_x.expand_as(others[0]), *others], dim=1)

    # Centred on means in the feature maps' own precision, so that nothing cancels afterwards.
    dtype = single(reference, distorted)[0].dtype
    means = [_means(r).to(dtype).unsqueeze(-1) for r in (reference, distorted)]
    return summed(squares, reference, distorted, *means) / _count(distorted)


@shared
def _central(features: Tensor, order: int) -> Tensor:
    """Return the channels' central moments of an order, float64 ``[N, C]``."""
    means = _means(features).unsqueeze(-1)
    powers = summed(lambda x, m: (x - m).pow(order).sum(dim=1), features, means)
    return powers / _count(features)


@shared
def _stds(features: Tensor) -> Tensor:
    return root(_central(features, 2))


@shared
def _skewnesses(features: Tensor) -> Tensor:
    return _standardised(features, 3)


@shared
def _kurtoses(features: Tensor) -> Tensor:
    return _standardised(features, 4)


def _standardised(features: Tensor, order: int) -> Tensor:
    """Return the channels' standardised moments, 0 for a constant channel; the 4th is in excess."""
    spread = _stds(features)
    # The mean of equal values may be off by an ulp.
    constant = spread <= 1e-14 * _means(features).detach().abs()
    moment = _central(features, order) / torch.where(constant, 1.0, spread).pow(order)
    return torch.where(constant, 0.0, moment - 3 if order == 4 else moment)


def _centred_distances(features: Tensor) -> Tensor:
    # What all channels have in common does not change the distances, but would cost digits.
    def products_of(x: Tensor) -> Tensor:
        x = x.double()
        x = x - x.mean(dim=-1, keepdim=True)
        return x.mT @ x

    products = summed(products_of, features)
    squares = products.diagonal(dim1=1, dim2=2)
    sums = squares.unsqueeze(1) + squares.unsqueeze(2)
    gaps = sums - 2 * products
    # Between equal channels only rounding errors are left.
    distances = root(torch.where(gaps <= 1e-13 * sums, 0.0, gaps))
    rows = distances.mean(dim=2, keepdim=True)
    return distances - rows - rows.mT + rows.mean(dim=1, keepdim=True)
