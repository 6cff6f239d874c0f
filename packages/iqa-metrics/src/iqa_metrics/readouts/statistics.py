"""Readouts that compare statistics of two responses.

What is done with two images' statistics loses digits to cancellation, so most of these are summed
in float64, which also keeps them out of reach of a lowered float32 matrix precision.

"Channel" stands for dimension 1 of a response ``[N, C, ...]`` and "positions" for the rest of it.
Parameters of all: ``reference, distorted``, such responses; the reference's N may be 1. All are
symmetric, with range ``[0, inf)`` unless said otherwise, and 0 for equal responses.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from iqa_metrics.readouts.numerics import one_minus_cosine, positions, result, root, single

_DISTS_CONSTANT = 1e-6


def channel_mean(reference: Tensor, distorted: Tensor) -> Tensor:
    """Euclidean distance between the channels' means (global average pooling)."""
    return _between(reference, distorted, _means)


def channel_std(reference: Tensor, distorted: Tensor) -> Tensor:
    """Euclidean distance between the channels' standard deviations (population)."""
    return _between(reference, distorted, _stds)


def channel_mean_std(reference: Tensor, distorted: Tensor) -> Tensor:
    """Euclidean distance between the channels' means and standard deviations, as one vector."""
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
    """Euclidean distance between the channels' skewnesses and kurtoses, as one vector."""
    return _between(reference, distorted, _skewnesses, _kurtoses)


def pooled(reference: Tensor, distorted: Tensor, grid: int = 4) -> Tensor:
    """Euclidean distance between responses averaged over the cells of a grid.

    Parameters
    ----------
    reference, distorted
        Responses ``[N, C, H, W]``; the positions of any other are taken as one row.
    grid
        Cells each way, at most as many as there are positions. ``grid=1`` is :func:`channel_mean`.
    """
    difference = distorted.double() - reference.double()
    if difference.ndim != 4:
        difference = positions(difference).unsqueeze(-1)
    height, width = difference.shape[2:]
    cells = F.adaptive_avg_pool2d(difference, (min(grid, height), min(grid, width)))
    return result(_length(cells), reference, distorted)


def gram(reference: Tensor, distorted: Tensor) -> Tensor:
    """Frobenius distance between Gram matrices ``G = F Fᵀ / P``, F being ``[C, P]``, P positions.

    It ignores where in the image a texture stands. The paper's style loss of a layer with C
    channels is its square over ``4 C²``.

    References
    ----------
    L. A. Gatys, A. S. Ecker and M. Bethge, "Image Style Transfer Using Convolutional Neural
    Networks", CVPR 2016.
    """
    x, y = positions(reference).double(), positions(distorted).double()
    # G(y) - G(x) from the difference: one product instead of two, and nothing cancels.
    half = (y - x) @ (y + x).mT / (2 * x.shape[-1])
    return result(_length(half + half.mT), reference, distorted)


def wasserstein(reference: Tensor, distorted: Tensor) -> Tensor:
    """Wasserstein distance between the distributions of a channel's values, mean over channels.

    Of order 1 and in one dimension: the mean absolute difference of the sorted values.

    References
    ----------
    After X. Liao, B. Chen, H. Zhu, S. Wang, M. Zhou and S. Kwong, "DeepWSD: Projecting Degradations
    in Perceptual Space to Wasserstein Distance in Deep Feature Space", ACM MM 2022,
    arXiv:2208.03323. There the distances are taken in small windows and joined with a Euclidean
    term; here over the whole channel.
    """
    x, y = single(positions(reference), positions(distorted))
    return (x.sort(dim=-1).values - y.sort(dim=-1).values).abs().mean(dim=(1, 2))


def distance_correlation(reference: Tensor, distorted: Tensor) -> Tensor:
    """One minus the distance correlation of the responses, their channels being the sample.

    With A and B the double-centred matrices of Euclidean distances between the channels of either
    response: ``1 - sum(A B) / sqrt(sum(A²) sum(B²))``. Range ``[0, 1]``; 0 also for responses that
    are equal up to a shift, a rotation and a positive factor. Where all channels of a response are
    alike there is nothing to correlate: distance 0 if that holds for both, else 1.

    References
    ----------
    H. Zhu, B. Chen, L. Zhu, S. Wang and W. Lin, "DeepDC: Deep Distance Correlation as a Perceptual
    Image Quality Evaluator", arXiv:2211.04927. As there, no root is taken: the fraction is the
    square of what G. J. Székely, M. L. Rizzo and N. K. Bakirov, Annals of Statistics 35, 2007, call
    distance correlation.
    """
    a, b = (_centred_distances(r).flatten(1) for r in (reference, distorted))
    return result(one_minus_cosine(a, b).squeeze(1), reference, distorted)


def dists_texture(reference: Tensor, distorted: Tensor) -> Tensor:
    """DISTS's texture term, averaged over channels: how unlike the channels' means are.

    See :func:`texture_of_channels`. Range ``[0, 2)``.
    """
    return texture_of_channels(reference, distorted).mean(dim=1)


def dists_structure(reference: Tensor, distorted: Tensor) -> Tensor:
    """DISTS's structure term, averaged over channels: how unlike the channels' patterns are.

    See :func:`structure_of_channels`. Range ``[0, 2)``.
    """
    return structure_of_channels(reference, distorted).mean(dim=1)


def texture_of_channels(reference: Tensor, distorted: Tensor) -> Tensor:
    """One minus DISTS's texture similarity of each channel, ``[N, C]``.

    ``1 - (2 mx my + c) / (mx² + my² + c)``, written as ``(mx - my)² / (mx² + my² + c)``, which
    loses no digits where the images are alike. mx and my are means over positions and c is 1e-6.

    References
    ----------
    K. Ding, K. Ma, S. Wang and E. P. Simoncelli, "Image Quality Assessment: Unifying Structure and
    Texture Similarity", IEEE TPAMI 44(5), 2022, arXiv:2004.07728, equation 4.
    """
    x, y = _means(reference), _means(distorted)
    texture = (x - y).square() / (x.square() + y.square() + _DISTS_CONSTANT)
    return result(texture, reference, distorted)


def structure_of_channels(reference: Tensor, distorted: Tensor) -> Tensor:
    """One minus DISTS's structure similarity of each channel, ``[N, C]``.

    ``1 - (2 sxy + c) / (sx² + sy² + c)``, written as ``s(x - y)² / (sx² + sy² + c)``, which loses
    no digits where the images are alike. s² are variances and sxy the covariance over positions,
    and c is 1e-6. Source: equation 5 of the paper that :func:`texture_of_channels` cites.
    """
    x, y = single(positions(reference), positions(distorted))
    variances = _variances(x) + _variances(y)
    return _variances(x - y) / (variances + _DISTS_CONSTANT)


def _between(
    reference: Tensor, distorted: Tensor, *descriptors: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return the Euclidean distance between descriptors ``[N, C]`` of responses, as one vector."""
    differences = [describe(distorted) - describe(reference) for describe in descriptors]
    return result(_length(torch.cat(differences, dim=1)), reference, distorted)


def _length(differences: Tensor) -> Tensor:
    return root(differences.square().flatten(1).sum(dim=1))


def _means(response: Tensor) -> Tensor:
    return positions(response).mean(dim=-1, dtype=torch.float64)


def _stds(response: Tensor) -> Tensor:
    return root(_variances(positions(response).double()))


def _variances(values: Tensor) -> Tensor:
    return (values - values.mean(dim=-1, keepdim=True)).square().mean(dim=-1)


def _skewnesses(response: Tensor) -> Tensor:
    return _standardised(response, lambda z: z.pow(3).mean(dim=-1))


def _kurtoses(response: Tensor) -> Tensor:
    return _standardised(response, lambda z: z.pow(4).mean(dim=-1) - 3)


def _standardised(response: Tensor, describe: Callable[[Tensor], Tensor]) -> Tensor:
    """Describe each channel's values at mean 0 and variance 1; 0 for a constant channel."""
    values = positions(response).double()
    centred = values - values.mean(dim=-1, keepdim=True)
    spread = root(centred.square().mean(dim=-1, keepdim=True))
    # Of equal values the mean may be an ulp off.
    constant = spread <= 1e-14 * values.detach().abs().amax(dim=-1, keepdim=True)
    described = describe(centred / torch.where(constant, 1.0, spread))
    return torch.where(constant.squeeze(-1), 0.0, described)


def _centred_distances(response: Tensor) -> Tensor:
    values = positions(response).double()
    # Distances do not see what all channels have in common, and digits are lost to it.
    values = values - values.mean(dim=1, keepdim=True)
    products = values @ values.mT
    squares = products.diagonal(dim1=1, dim2=2)
    sums = squares.unsqueeze(1) + squares.unsqueeze(2)
    gaps = sums - 2 * products
    # What is left of equal channels is rounding.
    distances = root(torch.where(gaps <= 1e-13 * sums, 0.0, gaps))
    rows = distances.mean(dim=2, keepdim=True)
    return distances - rows - rows.mT + rows.mean(dim=1, keepdim=True)
