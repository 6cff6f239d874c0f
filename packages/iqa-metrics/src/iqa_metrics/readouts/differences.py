"""Readouts that compare two responses value by value, or position by position.

Those with a map are computed from differences at each position: ``..._map`` gives them as
``[N, 1, ...]``, one value a position, and the readout sums them up.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from iqa_metrics.readouts.blocks import joined, shared, single, summed
from iqa_metrics.readouts.numerics import elements, one_is_zero, result, root, without_zeros

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
    squares = _sum_of_squares(reference, distorted, weights)
    return result(root(squares), reference, distorted)


def channel_squares(reference: Tensor, distorted: Tensor) -> Tensor:
    """Squared differences of each channel, summed over positions: float64 ``[N, C]``.

    Their sum is the squared Euclidean distance; weighted sums of them are what weights of channels
    make of it.
    """
    return summed(
        lambda x, y: _squared(x - y).sum(dim=1, dtype=torch.float64), reference, distorted
    )


def euclidean_map(reference: Tensor, distorted: Tensor, weights: Tensor | None = None) -> Tensor:
    """Euclidean distance of the channels at each position; the root of its summed squares is it."""
    squares = joined(partial(_squares_of_rows, weights=weights), reference, distorted)
    return _placed(root(squares), distorted)


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
    total = summed(lambda x, y: (x - y).abs().sum(dim=(1, 2)), reference, distorted)
    return result(total / elements(distorted), reference, distorted)


def mean_absolute_map(reference: Tensor, distorted: Tensor) -> Tensor:
    """Mean absolute difference of the channels at each position."""
    return _placed(joined(lambda x, y: (x - y).abs().mean(dim=-1), reference, distorted), distorted)


def cosine(reference: Tensor, distorted: Tensor) -> Tensor:
    """One minus the cosine of the angle between the whole responses, as two long vectors.

    Range ``[0, 2]``; 0 for responses that are equal up to a positive factor; symmetric. A response
    of zeros is at distance 0 from another of zeros and at distance 1 from any other. Parameters as
    for :func:`euclidean`.
    """
    lengths = [root(_energy(response)) for response in (reference, distorted)]
    divisors = [
        without_zeros(n).to(single(reference, distorted)[0].dtype)[:, None, None] for n in lengths
    ]
    gaps = summed(
        lambda x, y, a, b: _squared(x / a - y / b).sum(dim=(1, 2)), reference, distorted, *divisors
    )
    return result(gaps / 2 + one_is_zero(*lengths) / 2, reference, distorted)


def position_cosine(reference: Tensor, distorted: Tensor) -> Tensor:
    """One minus the cosine of the angle between the channels at a position, averaged over these.

    Range, symmetry and zeros as for :func:`cosine`, position by position.
    """
    return _mean_of_rows(_cosines_of_rows, reference, distorted)


def position_cosine_map(reference: Tensor, distorted: Tensor) -> Tensor:
    """One minus the cosine of the angle between the channels at each position."""
    return _placed(joined(_cosines_of_rows, reference, distorted), distorted)


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
    return _mean_of_rows(partial(_lpips_of_rows, weights=weights), reference, distorted)


def lpips_map(reference: Tensor, distorted: Tensor, weights: Tensor | None = None) -> Tensor:
    """LPIPS's readout at each position, before it is averaged."""
    return _placed(
        joined(partial(_lpips_of_rows, weights=weights), reference, distorted), distorted
    )


# Of blocks [n, p, C] -----------------------------------------------------------------------------


def _squares_of_rows(x: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
    return _over_channels(_squared(x - y), weights)


def _cosines_of_rows(x: Tensor, y: Tensor) -> Tensor:
    lengths = [_lengths_of_rows(response) for response in (x, y)]
    u, v = (r / without_zeros(n) for r, n in zip((x, y), lengths, strict=True))
    return _squared(u - v).sum(dim=-1) / 2 + one_is_zero(*lengths).squeeze(-1) / 2


def _lpips_of_rows(x: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
    a, b = ((_lengths_of_rows(r) + _LPIPS_EPSILON).reciprocal() for r in (x, y))
    # Two products, not a fused one: equal responses differ by exactly 0.
    return _over_channels(_squared(x * a - y * b), weights)


def _lengths_of_rows(response: Tensor) -> Tensor:
    return root(response.square().sum(dim=-1, keepdim=True))


def _over_channels(squares: Tensor, weights: Tensor | None) -> Tensor:
    return squares.sum(dim=-1) if weights is None else squares @ weights.to(squares.dtype)


def _squared(difference: Tensor) -> Tensor:
    """Square a difference, in its own memory where no gradient needs it."""
    return difference.square() if difference.requires_grad else difference.square_()


# Of responses [N, C, ...] ------------------------------------------------------------------------


@shared
def _sum_of_squares(reference: Tensor, distorted: Tensor, weights: Tensor | None) -> Tensor:
    return summed(
        lambda x, y: _squares_of_rows(x, y, weights).sum(dim=1, dtype=torch.float64),
        reference,
        distorted,
    )


@shared
def _energy(response: Tensor) -> Tensor:
    return summed(lambda x: x.square().sum(dim=(1, 2)), response)


def _mean_of_rows(
    rows: Callable[[Tensor, Tensor], Tensor], reference: Tensor, distorted: Tensor
) -> Tensor:
    total = summed(lambda x, y: rows(x, y).sum(dim=1, dtype=torch.float64), reference, distorted)
    count = elements(distorted) // distorted.shape[1]
    return result(total / count, reference, distorted)


def _placed(rows: Tensor, response: Tensor) -> Tensor:
    """Return one value a position, ``[N, P]``, as ``[N, 1, ...]`` where the response has them."""
    return rows.reshape(len(rows), 1, *response.shape[2:])
