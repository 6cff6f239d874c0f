"""How uncertain opinions are themselves: their intervals, what lies outside, and weights.

A mean opinion of N ratings with the standard deviation s has the standard error ``s / sqrt(N)``.

References
----------
ITU-T P.1401 (2020), sections 7.5 and 7.8; VQEG, Final Report on the Validation of Objective Models
of Video Quality Assessment, 2000.
"""

import numpy as np
from numpy.typing import ArrayLike

from iqa_metrics.statistics.correlations import Floats, fitting, pearson, ranks


def standard_errors(deviations: ArrayLike, ratings: ArrayLike) -> Floats:
    """Return the standard errors of mean opinions.

    Parameters
    ----------
    deviations
        The standard deviation of the ratings of each pair, ``[n]``, at least 0; NaN if unknown.
    ratings
        The number of ratings of each pair, ``[n]``, or one number for all; NaN if unknown.

    Returns
    -------
    ndarray
        ``[n]``, in the opinions' units. NaN where either is unknown.

    Raises
    ------
    ValueError
        If a deviation is negative, or a number of ratings is not positive.
    """
    spread, count = np.broadcast_arrays(
        np.asarray(deviations, dtype=np.float64), np.asarray(ratings, dtype=np.float64)
    )
    if (spread < 0).any() or (count <= 0).any():
        raise ValueError("expected deviations of at least 0 and positive numbers of ratings")
    return np.asarray(spread / np.sqrt(count), dtype=np.float64)


def opinion_reach(deviations: ArrayLike, ratings: ArrayLike, confidence: float = 0.95) -> Floats:
    """Return half the width of the interval of each mean opinion.

    Parameters
    ----------
    deviations, ratings
        As for :func:`standard_errors`.
    confidence
        The confidence level, between 0 and 1.

    Returns
    -------
    ndarray
        ``[n]``: the standard error times the quantile of Student's t with ``N - 1`` degrees of
        freedom, as P.1401 has it. NaN where something is unknown, or there is only one rating.
    """
    from scipy.stats import t

    if not 0 < confidence < 1:
        raise ValueError(f"confidence: expected a number between 0 and 1, got {confidence}")
    errors = standard_errors(deviations, ratings)
    freedom = np.broadcast_to(np.asarray(ratings, dtype=np.float64) - 1, errors.shape)
    with np.errstate(invalid="ignore"):
        quantile = t.ppf((1 + confidence) / 2, np.where(freedom > 0, freedom, np.nan))
    return np.asarray(errors * quantile, dtype=np.float64)


def outlier_ratio(predicted: ArrayLike, opinion: ArrayLike, reach: ArrayLike) -> Floats:
    """Return the share of opinions that predictions miss by more than the opinion's interval.

    Parameters
    ----------
    predicted
        Predicted opinions, ``[..., n]``, after the logistic.
    opinion
        ``[n]``.
    reach
        Half the width of each opinion's interval, ``[n]``: that of :func:`opinion_reach`, or 2
        standard errors, as in VQEG's report. NaN where it is unknown.

    Returns
    -------
    ndarray
        ``[...]``, in [0, 1], over the pairs whose interval is known. NaN if none is, or if a
        prediction is NaN.
    """
    x, y = fitting(predicted, opinion)
    half = np.asarray(reach, dtype=np.float64)
    if half.shape != x.shape[-1:]:
        raise ValueError(f"reach: expected [{x.shape[-1]}], got {list(half.shape)}")
    known = ~np.isnan(half)
    if not known.any():
        return np.full(x.shape[:-1], np.nan)
    outside = np.abs(x - y)[..., known] > half[known]
    return np.where(np.isnan(x).any(-1), np.nan, outside.mean(-1))


def noise_weights(errors: ArrayLike) -> Floats:
    """Return weights of opinions by how certain they are: the inverse squares of their errors.

    Parameters
    ----------
    errors
        The standard error of each opinion, ``[n]``, at least 0; NaN where it is unknown.

    Returns
    -------
    ndarray
        ``[n]``, with a mean of 1. An unknown error counts as the median one, and no error counts as
        less than a tenth of it: ratings that all agree do not make an opinion exact.

    Raises
    ------
    ValueError
        If no error is known, or they are all 0.
    """
    given = np.asarray(errors, dtype=np.float64)
    known = given[~np.isnan(given)]
    middle = float(np.median(known[known > 0])) if (known > 0).any() else 0.0
    if middle <= 0:
        raise ValueError("expected at least one standard error above 0")
    filled = np.maximum(np.where(np.isnan(given), middle, given), middle / 10)
    weights = 1 / np.square(filled)
    found: Floats = weights / weights.mean()
    return found


def weighted_plcc(distances: ArrayLike, opinion: ArrayLike, weights: ArrayLike) -> Floats:
    """Return Pearson's correlation of ``[..., n]`` with ``[n]``, with a weight for each pair."""
    x, y = fitting(distances, opinion)
    return pearson(x, y, _checked(weights, x.shape[-1]))


def weighted_srocc(distances: ArrayLike, opinion: ArrayLike, weights: ArrayLike) -> Floats:
    """Return Spearman's correlation of ``[..., n]`` with ``[n]``, with a weight for each pair.

    Ranks are those of all pairs alike; weights enter the correlation of the ranks.
    """
    x, y = fitting(distances, opinion)
    return pearson(ranks(x), ranks(y), _checked(weights, x.shape[-1]))


def _checked(weights: ArrayLike, n: int) -> Floats:
    given = np.asarray(weights, dtype=np.float64)
    if given.shape != (n,) or not (given >= 0).all() or not given.sum() > 0:
        raise ValueError(f"weights: expected [{n}], at least 0 and not all 0")
    return given
