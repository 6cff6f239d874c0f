"""All measures of agreement that tables report, for many series of distances at once."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from iqa_metrics.statistics.correlations import Floats, krocc, plcc, srocc
from iqa_metrics.statistics.intervals import Bootstrap
from iqa_metrics.statistics.logistic import plcc_logistic

FEWEST = 4
"""Smallest number of pairs that measures are computed from: the logistic has four parameters."""


@dataclass(frozen=True)
class Measures:
    """How well each of S series agrees with opinion, ``[S]`` each; NaN where undefined.

    Attributes
    ----------
    srocc, srocc_low, srocc_high
        Spearman's correlation, with its sign, and its interval over references.
    plcc, krocc
        Pearson's and Kendall's correlations, with their signs.
    plcc_logistic, rmse
        Pearson's correlation and the root mean squared error, in the opinions' units, after the
        monotone logistic.
    """

    srocc: Floats
    srocc_low: Floats
    srocc_high: Floats
    plcc: Floats
    plcc_logistic: Floats
    krocc: Floats
    rmse: Floats


def measures(
    distances: ArrayLike, opinion: ArrayLike, drawn: Bootstrap | None, confidence: float = 0.95
) -> Measures:
    """Return all measures of series of distances.

    Parameters
    ----------
    distances
        ``[S, n]``. Infinite distances have ranks, but no linear correlation.
    opinion
        ``[n]``.
    drawn
        Their SROCC on bootstrap replicates; None if there is only one reference, and so no
        interval.
    confidence
        The confidence level of the interval.

    Raises
    ------
    ValueError
        If the shapes do not fit, or the confidence is not between 0 and 1.
    """
    x, y = np.asarray(distances, dtype=np.float64), np.asarray(opinion, dtype=np.float64)
    none = np.full(len(x), np.nan)
    if len(y) < FEWEST:
        return Measures(none, none, none, none, none, none, none)
    interval = None if drawn is None else drawn.interval(confidence)
    with np.errstate(invalid="ignore"):
        linear = plcc(x, y)
    fitted, error = plcc_logistic(x, y)
    return Measures(
        srocc(x, y) if interval is None else interval.value,
        none if interval is None else interval.low,
        none if interval is None else interval.high,
        linear,
        fitted,
        krocc(x, y),
        error,
    )
