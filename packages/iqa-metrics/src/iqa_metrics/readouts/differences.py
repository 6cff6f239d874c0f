"""Readouts that compare feature maps value by value, or position by position.

Readouts with a map are computed from differences at each position: ``..._map`` returns these,
``[N, 1, ...]`` with one value per position, and the readout sums them up.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from iqa_metrics.compute.conventions import averaged
from iqa_metrics.compute.tracing import recorded
from iqa_metrics.readouts.blocks import joined, shared, single, summed
from iqa_metrics.readouts.numerics import elements, one_is_zero, result, root, without_zeros

_LPIPS_EPSILON = 1e-10


def euclidean(reference: Tensor, distorted: Tensor, weights: Tensor | None = None) -> Tensor:
    """Euclidean distance between a layer's feature maps: ``sqrt(sum(w (x - y)²))``.

    It grows with the size of the image. Range ``[0, inf)``; 0 for equal feature maps; symmetric.

    Parameters
    ----------
    reference, distorted
        Feature maps ``[N, C, ...]``; the reference's N may be 1.
    weights
        Channel weights, ``[C]``, not negative, which multiply the squared differences. Without them
        all channels have the same weight.

    References
    ----------
    Hernández-Cámara et al., "Analysis of Deep Image Quality Models", arXiv:2302.13345.
    """
    squares = _sum_of_squares(reference, distorted, weights)
    return result(root(squares), reference, distorted)


def channel_squares(reference: Tensor, distorted: Tensor) -> Tensor:
    """Squared differences of each channel, summed over positions: float64 ``[N, C]``.

    Their sum is the squared Euclidean distance, and their weighted sum is the squared Euclidean
    distance with channel weights.
    """
    return summed(
        lambda x, y: _squared(x - y).sum(dim=1, dtype=torch.float64), reference, distorted
    )


def euclidean_map(reference: Tensor, distorted: Tensor, weights: Tensor | None = None) -> Tensor:
    """Euclidean distance over the channels at each position.

    The root of the sum of its squares is :func:`euclidean`.
    """
    squares = joined(_squares_of_rows, reference, distorted, *_of_channels(weights))
    return _placed(root(squares), distorted)


def rmse(reference: Tensor, distorted: Tensor) -> Tensor:
    """Root-mean-square difference between a layer's feature maps: ``sqrt(mean((x - y)²))``.

    This is the Euclidean distance divided by the root of the number of elements, so that values of
    images of different sizes can be compared. Parameters, range and source as for
    :func:`euclidean`.
    """
    return euclidean(reference, distorted) / math.sqrt(elements(distorted))


def rmse_map(reference: Tensor, distorted: Tensor) -> Tensor:
    """Root-mean-square difference of the channels at each position."""
    return euclidean_map(reference, distorted) / math.sqrt(distorted.shape[1])


def mean_absolute(reference: Tensor, distorted: Tensor) -> Tensor:
    """Mean absolute difference between a layer's feature maps: ``mean(|x - y|)``.

    Range ``[0, inf)``; 0 for equal feature maps; symmetric. Parameters as for :func:`euclidean`.
    """
    total = summed(lambda x, y: (x - y).abs().sum(dim=(1, 2)), reference, distorted)
    return result(total / elements(distorted), reference, distorted)


def mean_absolute_map(reference: Tensor, distorted: Tensor) -> Tensor:
    """Mean absolute difference of the channels at each position."""
    return _placed(joined(lambda x, y: (x - y).abs().mean(dim=-1), reference, distorted), distorted)


def cosine(reference: Tensor, distorted: Tensor) -> Tensor:
    """One minus the cosine of the angle between a layer's feature maps, each taken as one vector.

    Range ``[0, 2]``; 0 for feature maps that are equal up to a positive factor; symmetric. Feature
    maps of zeros are at distance 0 from others of zeros and at distance 1 from any others.
    Parameters as for :func:`euclidean`.
    """
    lengths = [root(_energy(one)) for one in (reference, distorted)]
    divisors = [
        without_zeros(n).to(single(reference, distorted)[0].dtype)[:, None, None] for n in lengths
    ]
    gaps = summed(
        lambda x, y, a, b: _squared(x / a - y / b).sum(dim=(1, 2)), reference, distorted, *divisors
    )
    return result(gaps / 2 + one_is_zero(*lengths) / 2, reference, distorted)


def position_cosine(reference: Tensor, distorted: Tensor) -> Tensor:
    """One minus the cosine between the channel vectors at each position, averaged over positions.

    Range, symmetry and zeros as for :func:`cosine`, at each position.
    """
    return _mean_of_rows(_cosines_of_rows, reference, distorted)


def position_cosine_map(reference: Tensor, distorted: Tensor) -> Tensor:
    """One minus the cosine of the angle between the channel vectors at each position."""
    return _placed(joined(_cosines_of_rows, reference, distorted), distorted)


def lpips(reference: Tensor, distorted: Tensor, weights: Tensor | None = None) -> Tensor:
    """LPIPS's readout: squared differences of unit-length channel vectors, averaged over positions.

    With ``u = x / (|x| + 1e-10)`` and likewise v from y, where the length is that of the channel
    vector at a position: ``mean over positions(sum over channels(w (u - v)²))``. Range
    ``[0, 4 max(w)]``; 0 for equal feature maps; symmetric; independent of the feature maps' scale.
    The epsilon is outside the root, as in the authors' code. Where a channel vector is 0, u is 0,
    and so is its gradient.

    Parameters
    ----------
    reference, distorted
        Feature maps ``[N, C, ...]``; the reference's N may be 1.
    weights
        Channel weights, ``[C]``. Without them all are 1, which is the paper's baseline.

    References
    ----------
    R. Zhang, P. Isola, A. A. Efros, E. Shechtman and O. Wang, "The Unreasonable Effectiveness of
    Deep Features as a Perceptual Metric", CVPR 2018, arXiv:1801.03924, equation 1.
    """
    return _mean_of_rows(_lpips_of_rows, reference, distorted, weights)


def lpips_map(reference: Tensor, distorted: Tensor, weights: Tensor | None = None) -> Tensor:
    """LPIPS's readout at each position, before averaging."""
    values = joined(_lpips_of_rows, reference, distorted, *_of_channels(weights))
    return _placed(values, distorted)


# Functions of maps, for masks ---------------------------------------------------------------------


def weighted_mean(map_: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean of a map ``[N, 1, h, w]``: ``[N]``."""
    return _like(averaged(map_.double(), weights).squeeze(1), map_)


def root_of_weighted_mean(map_: Tensor, weights: Tensor) -> Tensor:
    """Return the root of the weighted mean of a map's squares."""
    return _like(root(averaged(map_.double().square(), weights).squeeze(1)), map_)


def root_of_weighted_sum(map_: Tensor, weights: Tensor) -> Tensor:
    """Return the root of the sum of a map's squares, with weights whose mean is 1."""
    return root_of_weighted_mean(map_, weights) * math.sqrt(elements(map_))


def _like(values: Tensor, map_: Tensor) -> Tensor:
    return values.to(map_.dtype)


# Functions of blocks [n, p, C] --------------------------------------------------------------------


def _squares_of_rows(x: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
    return _over_channels(_squared(x - y), weights)


def _cosines_of_rows(x: Tensor, y: Tensor) -> Tensor:
    lengths = [_lengths_of_rows(one) for one in (x, y)]
    u, v = (r / without_zeros(n) for r, n in zip((x, y), lengths, strict=True))
    return _squared(u - v).sum(dim=-1) / 2 + one_is_zero(*lengths).squeeze(-1) / 2


def _lpips_of_rows(x: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
    a, b = ((_lengths_of_rows(r) + _LPIPS_EPSILON).reciprocal() for r in (x, y))
    # Two products, not a fused one, so that equal feature maps differ by exactly 0.
    return _over_channels(_squared(x * a - y * b), weights)


def _lengths_of_rows(features: Tensor) -> Tensor:
    return root(features.square().sum(dim=-1, keepdim=True))


def _over_channels(squares: Tensor, weights: Tensor | None) -> Tensor:
    return squares.sum(dim=-1) if weights is None else squares @ weights.flatten()


def _squared(difference: Tensor) -> Tensor:
    """Square a difference, in place where no gradient needs it."""
    return difference.square() if recorded(difference) else difference.square_()


# Functions of feature maps [N, C, ...] ------------------------------------------------------------


def _of_channels(weights: Tensor | None) -> tuple[Tensor, ...]:
    """Return channel weights as feature maps of one position, so that they get a gradient too."""
    return () if weights is None else (weights[None],)


@shared
def _sum_of_squares(reference: Tensor, distorted: Tensor, weights: Tensor | None) -> Tensor:
    return summed(
        lambda *block: _squares_of_rows(*block).sum(dim=1, dtype=torch.float64),
        reference,
        distorted,
        *_of_channels(weights),
    )


@shared
def _energy(features: Tensor) -> Tensor:
    return summed(lambda x: x.square().sum(dim=(1, 2)), features)


def _mean_of_rows(
    rows: Callable[..., Tensor],
    reference: Tensor,
    distorted: Tensor,
    weights: Tensor | None = None,
) -> Tensor:
    total = summed(
        lambda *block: rows(*block).sum(dim=1, dtype=torch.float64),
        reference,
        distorted,
        *_of_channels(weights),
    )
    count = elements(distorted) // distorted.shape[1]
    return result(total / count, reference, distorted)


def _placed(rows: Tensor, features: Tensor) -> Tensor:
    """Reshape one value per position, ``[N, P]``, to the spatial layout ``[N, 1, ...]``."""
    return rows.reshape(len(rows), 1, *features.shape[2:])
