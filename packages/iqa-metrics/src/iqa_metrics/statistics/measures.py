"""All measures of agreement that tables report, for many series of distances at once."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike

from iqa_metrics.statistics.correlations import Floats, krocc, pearson, plcc, rmse, srocc
from iqa_metrics.statistics.intervals import Bootstrap, Resampling
from iqa_metrics.statistics.logistic import predicted_by_logistic
from iqa_metrics.statistics.noise import outlier_ratio
from iqa_metrics.statistics.replicates import (
    krocc_replicates,
    pearson_replicates,
    rmse_replicates,
)
from iqa_metrics.statistics.within import srocc_within

FEWEST = 4
"""Smallest number of pairs that measures are computed from: the logistic has four parameters."""


@dataclass(frozen=True)
class Measures:
    """How well each of S series agrees with opinion, ``[S]`` each; NaN where undefined.

    Attributes
    ----------
    srocc, srocc_low, srocc_high
        Spearman's correlation, with its sign, and its interval over references.
    plcc, plcc_low, plcc_high, krocc, krocc_low, krocc_high
        Pearson's and Kendall's correlations, with their signs, and their intervals.
    plcc_logistic, plcc_logistic_low, plcc_logistic_high, rmse, rmse_low, rmse_high
        Pearson's correlation and the root mean squared error, in the opinions' units, after the
        monotone logistic, and their intervals. The curve is that of all pairs; it is not fitted to
        each replicate.
    srocc_within
        The mean over references of SROCC within the reference.
    outlier_ratio
        The share of pairs whose opinion the curve misses by more than the opinion's own interval;
        NaN where no opinion's standard error is known.
    """

    srocc: Floats
    srocc_low: Floats
    srocc_high: Floats
    plcc: Floats
    plcc_low: Floats
    plcc_high: Floats
    plcc_logistic: Floats
    plcc_logistic_low: Floats
    plcc_logistic_high: Floats
    krocc: Floats
    krocc_low: Floats
    krocc_high: Floats
    rmse: Floats
    rmse_low: Floats
    rmse_high: Floats
    srocc_within: Floats
    outlier_ratio: Floats


def measures(
    distances: ArrayLike,
    opinion: ArrayLike,
    drawn: Bootstrap | None,
    confidence: float = 0.95,
    *,
    resampling: Resampling | None = None,
    reach: ArrayLike | None = None,
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
        The confidence level of the intervals.
    resampling
        The references and replicates for what needs them: all other intervals, and SROCC within
        references. None leaves them NaN.
    reach
        Half the width of each opinion's interval, ``[n]``, NaN where it is unknown; see
        :func:`iqa_metrics.statistics.opinion_reach`. None if none is known.

    Raises
    ------
    ValueError
        If the shapes do not fit, or the confidence is not between 0 and 1.
    """
    x, y = np.asarray(distances, dtype=np.float64), np.asarray(opinion, dtype=np.float64)
    none = np.full(len(x), np.nan)
    found = {one.name: none for one in fields(Measures)}
    if len(y) < FEWEST:
        return Measures(**found)
    interval = None if drawn is None else drawn.interval(confidence)
    with np.errstate(invalid="ignore"):
        found["plcc"] = plcc(x, y)
    curve = predicted_by_logistic(x, y)
    found["plcc_logistic"], found["rmse"] = pearson(curve, y), rmse(curve, y)
    if reach is not None:
        found["outlier_ratio"] = outlier_ratio(curve, y, reach)
    if interval is None:
        found["srocc"] = srocc(x, y)
    else:
        found |= {
            "srocc": interval.value,
            "srocc_low": interval.low,
            "srocc_high": interval.high,
        }
    if resampling is not None:
        found["srocc_within"] = srocc_within(x, y, resampling.references)
    if resampling is None or interval is None:
        found["krocc"] = krocc(x, y)
        return Measures(**found)
    by = resampling.by_reference()
    found["krocc"], concordant = krocc_replicates(x, y, by)
    finite = np.where(np.isfinite(x), x, np.nan)
    replicates = {
        "krocc": concordant,
        "plcc": pearson_replicates(finite, y, by),
        "plcc_logistic": pearson_replicates(curve, y, by),
        "rmse": rmse_replicates(curve - y, by),
    }
    for name, samples in replicates.items():
        ends = Bootstrap(found[name], samples).interval(confidence)
        found[f"{name}_low"], found[f"{name}_high"] = ends.low, ends.high
    return Measures(**found)
