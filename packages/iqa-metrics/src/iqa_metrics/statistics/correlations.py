"""Correlations of distances with opinions, and agreement with 2AFC and JND judgements."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

AT_ONCE = 2**22
"""Largest number of elements in a temporary table: 32 MiB."""


def plcc(distances: ArrayLike, opinion: ArrayLike) -> Floats:
    """Return Pearson's linear correlation coefficient.

    Parameters
    ----------
    distances
        ``[..., n]``.
    opinion
        ``[n]``, or of the same shape as the distances.

    Returns
    -------
    ndarray
        ``[...]``, in [-1, 1].

    Raises
    ------
    ValueError
        If the shapes do not fit, or there are fewer than 2 pairs.
    """
    x, y = fitting(distances, opinion)
    return pearson(x, y)


def srocc(distances: ArrayLike, opinion: ArrayLike) -> Floats:
    """Return Spearman's rank-order correlation coefficient; ties get their mean rank.

    Parameters, result and errors are those of :func:`plcc`.
    """
    x, y = fitting(distances, opinion)
    return pearson(ranks(x), ranks(y))


def krocc(distances: ArrayLike, opinion: ArrayLike) -> Floats:
    """Return Kendall's rank-order correlation coefficient tau-b, which corrects for ties.

    Parameters, result and errors are those of :func:`plcc`. All pairs of pairs are compared, in
    blocks.
    """
    x, y = fitting(distances, opinion)
    shape, n = x.shape[:-1], x.shape[-1]
    x = x.reshape(-1, n)
    y = np.broadcast_to(y, (*shape, n)).reshape(-1, n) if y.ndim > 1 else y[None]
    found = [_tau_b(row, y[index % len(y)]) for index, row in enumerate(x)]
    return np.array(found, dtype=np.float64).reshape(shape)


def rmse(predicted: ArrayLike, opinion: ArrayLike) -> Floats:
    """Return the root mean squared error of predictions ``[..., n]``, in the opinions' units."""
    x, y = fitting(predicted, opinion)
    found: Floats = np.sqrt(np.square(x - y).mean(-1))
    return found


def two_afc(first: ArrayLike, second: ArrayLike, chose_second: ArrayLike) -> Floats:
    """Return the share of people whom a metric agrees with on 2AFC judgements.

    Parameters
    ----------
    first, second
        Distances of the two images from the reference, ``[..., n]``.
    chose_second
        Share of people who found the second image closer to the reference, ``[n]``, in [0, 1].

    Returns
    -------
    ndarray
        ``[...]``, in [0, 1]; equal distances count as agreement with half of the people.

    References
    ----------
    R. Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR
    2018, section 4.
    """
    found: Floats = agreed_with(first, second, chose_second).mean(-1)
    return found


def agreed_with(first: ArrayLike, second: ArrayLike, chose_second: ArrayLike) -> Floats:
    """Return the agreement per judgement, ``[..., n]``; parameters as for :func:`two_afc`."""
    a, b = fitting(first, second)
    share = np.asarray(chose_second, dtype=np.float64)
    agreed = np.where(a < b, 1 - share, np.where(a > b, share, 0.5))
    return np.where(np.isnan(a + b + share), np.nan, agreed)


def same_precision(distances: ArrayLike, said_same: ArrayLike) -> Floats:
    """Return the average precision with which small distances find images that look the same.

    Parameters
    ----------
    distances
        ``[..., n]``.
    said_same
        Share of people who saw no difference, ``[n]``, in [0, 1].

    Returns
    -------
    ndarray
        ``[...]``, in [0, 1]: the area under the precision-recall curve, with precision made
        monotone as in PASCAL VOC. Equal distances are found together. NaN where no two images
        looked the same to anyone.

    References
    ----------
    R. Zhang et al., CVPR 2018, section 4 on just noticeable differences; M. Everingham et al.,
    International Journal of Computer Vision 88(2), 2010.
    """
    x, share = fitting(distances, said_same)
    rows = x.reshape(-1, x.shape[-1])
    found = np.full(len(rows), np.nan)
    for index, row in enumerate(rows):
        if not np.isnan(row).any() and share.sum() > 0:
            found[index] = _average_precision(row, share)
    return found.reshape(x.shape[:-1])


def _average_precision(distances: Floats, share: Floats) -> float:
    order = np.argsort(distances, kind="stable")
    ends = np.flatnonzero(np.r_[np.diff(distances[order]) > 0, True])
    hits = np.cumsum(share[order])[ends]
    recall = np.r_[0.0, hits / share.sum()]
    precision = np.maximum.accumulate((hits / (ends + 1))[::-1])[::-1]
    return float((np.diff(recall) * precision).sum())


def ranks(values: ArrayLike) -> Floats:
    """Return ranks from 1 along the last axis; equal values get the mean of their ranks.

    All ranks of a row that contains NaN are NaN.
    """
    values = np.asarray(values, dtype=np.float64)
    order = np.argsort(values, axis=-1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=-1)
    n = values.shape[-1]
    new = np.ones(values.shape, bool)
    new[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    # The first and the last place of the values that are equal to each value.
    first = np.maximum.accumulate(np.where(new, np.arange(n), 0), axis=-1)
    last = np.where(np.roll(new, -1, axis=-1), np.arange(n), n)
    last = np.minimum.accumulate(last[..., ::-1], axis=-1)[..., ::-1]
    found = np.empty(values.shape)
    np.put_along_axis(found, order, (first + last) / 2 + 1, axis=-1)
    found[np.isnan(values).any(-1)] = np.nan
    return found


def fitting(distances: ArrayLike, opinion: ArrayLike) -> tuple[Floats, Floats]:
    """Return distances ``[..., n]`` and opinion as float64; ValueError if they do not fit."""
    x, y = (np.asarray(values, dtype=np.float64) for values in (distances, opinion))
    if x.ndim < 1 or y.shape not in (x.shape, x.shape[-1:]) or x.shape[-1] < 2:
        raise ValueError(
            "expected distances [..., n] and opinion [n] or of the same shape, n at least 2; got "
            f"{list(x.shape)} and {list(y.shape)}"
        )
    return x, y


def pearson(x: Floats, y: Floats, weights: Floats | float = 1.0) -> Floats:
    """Return the correlation along the last axis; NaN where one side does not vary."""
    weights = np.broadcast_to(np.asarray(weights, dtype=np.float64), np.broadcast(x, y).shape)
    total = weights.sum(-1, keepdims=True)
    # A constant that varies by rounding errors alone counts as constant.
    least = [1e-30 * np.square(np.abs(v).max(-1, initial=0)) * total[..., 0] for v in (x, y)]
    with np.errstate(invalid="ignore", divide="ignore"):
        x, y = (v - (weights * v).sum(-1, keepdims=True) / total for v in (x, y))
        xx, yy = ((weights * v * v).sum(-1) for v in (x, y))
        found = (weights * x * y).sum(-1) / np.sqrt(xx * yy)
    flat = (xx <= least[0]) | (yy <= least[1])
    return np.where(flat, np.nan, np.clip(found, -1, 1))


def _tau_b(x: Floats, y: Floats) -> float:
    if np.isnan(x).any() or np.isnan(y).any():
        return float("nan")
    # Differences of ranks have the same signs as those of values, and can't overflow.
    a, b = (Ties(v).mean_ranks().astype(np.float32) for v in (x, y))
    n = len(x)
    step = max(1, AT_ONCE // n)
    agree = untied_x = untied_y = 0
    for first in range(0, n, step):
        rows = slice(first, first + step)
        sx, sy = (np.sign(v[rows, None] - v[None, :]).astype(np.int8) for v in (a, b))
        agree += int((sx * sy).sum(dtype=np.int64))
        untied_x += int(np.count_nonzero(sx))
        untied_y += int(np.count_nonzero(sy))
    if not untied_x or not untied_y:
        return float("nan")
    return float(agree / np.sqrt(float(untied_x) * float(untied_y)))


class Ties:
    """Values sorted once, so that any number of samples of them can be ranked.

    Parameters
    ----------
    values
        ``[n]``.
    """

    def __init__(self, values: Floats) -> None:
        self.order = np.argsort(values, kind="stable")
        ordered = values[self.order]
        self.starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        self.group = np.repeat(np.arange(len(self.starts)), np.diff([*self.starts, len(values)]))

    def mean_ranks(self, counts: Floats | None = None) -> Floats:
        """Return the ranks in a sample with ``counts[..., i]`` copies of value i, ``[..., n]``.

        Values that are not in the sample get the rank that they would have among the others.
        """
        n = len(self.order)
        counts = np.ones(n) if counts is None else counts
        of_group = np.add.reduceat(counts[..., self.order], self.starts, axis=-1)
        below = np.cumsum(of_group, axis=-1) - of_group
        mean = below + (of_group + 1) / 2
        found = np.empty_like(counts, dtype=np.float64)
        found[..., self.order] = mean[..., self.group]
        return found
