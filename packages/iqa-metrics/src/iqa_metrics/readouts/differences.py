"""Readouts that compare two responses value by value, or position by position.

Those with a map are computed from differences at each position: ``..._map`` gives them as
``[N, 1, ...]``, one value a position, and the readout sums them up.
"""

import math

from torch import Tensor

from iqa_metrics.readouts.numerics import (
    elements,
    length,
    of_channels,
    one_minus_cosine,
    over_all,
    root,
    single,
    squared,
)

_LPIPS_EPSILON = 1e-10


def euclidean(reference: Tensor, distorted: Tensor, weights: Tensor | None = None) -> Tensor:
    """Euclidean distance over a layer's whole response: ``sqrt(sum(w (x - y)²))``.

    It grows with the size of the image. Range ``[0, inf)``; 0 for equal responses; symmetric.

    Parameters
    ----------
    reference, distorted
        Responses ``[N, C, ...]``; the reference's N may be 1.
    weights
        The channels' relevance, ``[C]``, not negative; it multiplies squared differences. Without
        it all channels count alike.

    References
    ----------
    Hernández-Cámara et al., "Analysis of Deep Image Quality Models", arXiv:2302.13345.
    """
    squares = _weighted_squares(reference, distorted, weights)
    return root(squares.sum(dim=over_all(squares)))


def euclidean_map(reference: Tensor, distorted: Tensor, weights: Tensor | None = None) -> Tensor:
    """Euclidean distance of the channels at each position; the root of its summed squares is it."""
    return root(_weighted_squares(reference, distorted, weights).sum(dim=1, keepdim=True))


def rmse(reference: Tensor, distorted: Tensor) -> Tensor:
    """Root of the mean squared difference of a layer's response: ``sqrt(mean((x - y)²))``.

    The Euclidean distance over the root of the number of elements, so that images of different
    sizes have comparable values. Parameters, range and source as for :func:`euclidean`.
    """
    return euclidean(reference, distorted) / math.sqrt(elements(distorted))


def rmse_map(reference: Tensor, distorted: Tensor) -> Tensor:
    """Root-mean-square difference of the channels at each position."""
    return euclidean_map(reference, distorted) / math.sqrt(distorted.shape[1])


def mean_absolute(reference: Tensor, distorted: Tensor) -> Tensor:
    """Mean absolute difference of a layer's response: ``mean(|x - y|)``.

    Range ``[0, inf)``; 0 for equal responses; symmetric. Parameters as for :func:`euclidean`.
    """
    difference = _difference(reference, distorted)
    return difference.abs().mean(dim=over_all(difference))


def mean_absolute_map(reference: Tensor, distorted: Tensor) -> Tensor:
    """Mean absolute difference of the channels at each position."""
    return _difference(reference, distorted).abs().mean(dim=1, keepdim=True)


def cosine(reference: Tensor, distorted: Tensor) -> Tensor:
    """One minus the cosine of the angle between the whole responses, as two long vectors.

    Range ``[0, 2]``; 0 for responses that are equal up to a positive factor; symmetric. A response
    of zeros is at distance 0 from another of zeros and at distance 1 from any other. Parameters as
    for :func:`euclidean`.
    """
    x, y = single(reference.flatten(1), distorted.flatten(1))
    return one_minus_cosine(x, y).squeeze(1)


def position_cosine(reference: Tensor, distorted: Tensor) -> Tensor:
    """One minus the cosine of the angle between the channels at a position, averaged over these.

    Range, symmetry and zeros as for :func:`cosine`, position by position.
    """
    angles = position_cosine_map(reference, distorted)
    return angles.mean(dim=over_all(angles))


def position_cosine_map(reference: Tensor, distorted: Tensor) -> Tensor:
    """One minus the cosine of the angle between the channels at each position."""
    return one_minus_cosine(*single(reference, distorted))


def lpips(reference: Tensor, distorted: Tensor, weights: Tensor | None = None) -> Tensor:
    """LPIPS's readout: squared differences of unit-length channel vectors, averaged over positions.

    With ``u = x / (|x| + 1e-10)`` and v alike of y, where the length is over the channels at a
    position: ``mean over positions(sum over channels(w (u - v)²))``. Range ``[0, 4 max(w)]``; 0 for
    equal responses; symmetric; free of a response's scale. The epsilon stands outside the root, as
    in the authors' code. Where a response is all zeros its vector is 0, and so is its gradient.

    Parameters
    ----------
    reference, distorted
        Responses ``[N, C, ...]``; the reference's N may be 1.
    weights
        Calibration of the channels, ``[C]``; without it all count 1, the paper's baseline.

    References
    ----------
    R. Zhang, P. Isola, A. A. Efros, E. Shechtman and O. Wang, "The Unreasonable Effectiveness of
    Deep Features as a Perceptual Metric", CVPR 2018, arXiv:1801.03924, equation 1.
    """
    distances = lpips_map(reference, distorted, weights)
    return distances.mean(dim=over_all(distances))


def lpips_map(reference: Tensor, distorted: Tensor, weights: Tensor | None = None) -> Tensor:
    """LPIPS's readout at each position, before it is averaged."""
    x, y = single(reference, distorted)
    return _weighted_squares(
        x / (length(x) + _LPIPS_EPSILON), y / (length(y) + _LPIPS_EPSILON), weights
    ).sum(dim=1, keepdim=True)


def _difference(reference: Tensor, distorted: Tensor) -> Tensor:
    x, y = single(reference, distorted)
    return x - y


def _weighted_squares(reference: Tensor, distorted: Tensor, weights: Tensor | None) -> Tensor:
    squares = squared(_difference(reference, distorted))
    return squares if weights is None else squares * of_channels(weights, squares)
