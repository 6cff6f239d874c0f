"""Couples of stimuli whose opinions differ significantly, and metrics that tell which (Krasula).

References
----------
L. Krasula, K. Fliegel, P. Le Callet and M. Klima, "On the accuracy of objective image and video
quality models: New methodology for performance evaluation", QoMEX 2016.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iqa_metrics.statistics.correlations import Floats, fitting
from iqa_metrics.statistics.roc import Areas, areas_under_roc

COUPLES = 50_000
"""Most couples that are compared. Beyond, a sample of them is drawn."""


@dataclass(frozen=True)
class Couples:
    """Couples of stimuli, and whether people see them as different.

    Attributes
    ----------
    first, second
        The indices of the two stimuli of each couple, ``[m]``.
    different
        Whether their opinions differ significantly, ``[m]``.
    higher
        Whether the first has the higher opinion, ``[m]``.
    """

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    different: NDArray[np.bool_]
    higher: NDArray[np.bool_]


def couples_of(
    opinion: ArrayLike,
    errors: ArrayLike,
    *,
    most: int = COUPLES,
    seed: int = 0,
    confidence: float = 0.95,
) -> Couples:
    """Return couples of stimuli, with a z-test of the difference of their opinions.

    Parameters
    ----------
    opinion, errors
        The mean opinions and their standard errors, ``[n]``.
    most
        Most couples. If there are more, so many different ones are drawn at random.
    seed
        The seed of the draw, and of which of the two comes first.
    confidence
        The confidence level of the two-sided z-test.

    Raises
    ------
    ValueError
        If the shapes do not fit, there are fewer than 2 stimuli, or a value is not finite.
    """
    from scipy.stats import norm

    noise, y = fitting(errors, opinion)
    if noise.ndim != 1 or not (np.isfinite(noise).all() and np.isfinite(y).all()):
        raise ValueError("expected finite opinions [n] and standard errors [n]")
    stream = np.random.default_rng(seed)
    n = len(y)
    total = n * (n - 1) // 2
    if total <= most:
        first, second = np.triu_indices(n, 1)
    else:
        chosen = np.sort(stream.choice(total, size=most, replace=False))
        first, second = _couple(chosen, n)
    turned = stream.random(len(first)) < 0.5
    first, second = np.where(turned, second, first), np.where(turned, first, second)
    apart, error = y[first] - y[second], np.hypot(noise[first], noise[second])
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(apart == 0, 0.0, np.abs(apart) / error)
    return Couples(first, second, z > norm.ppf((1 + confidence) / 2), apart > 0)


def _couple(number: NDArray[np.int64], n: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the couple with a number, as ``numpy.triu_indices(n, 1)`` numbers them."""
    ends = np.cumsum(np.arange(n - 1, 0, -1))
    first = np.searchsorted(ends, number, side="right")
    begins = ends[first] - (n - 1 - first)
    return first, number - begins + first + 1


@dataclass(frozen=True)
class DifferentSimilar:
    """How well large differences of K metrics tell different from similar couples.

    Attributes
    ----------
    areas
        The areas under the ROC curves.
    thresholds
        The absolute difference that 95 % of the similar couples do not exceed, ``[K]``.
    """

    areas: Areas
    thresholds: Floats


def different_similar(quality: ArrayLike, couples: Couples) -> DifferentSimilar:
    """Analyse whether metrics know which couples people see as different.

    Parameters
    ----------
    quality
        What K metrics say of each stimulus, ``[K, n]``, in any direction.
    couples
        The couples.
    """
    x = np.asarray(quality, dtype=np.float64)
    apart = np.abs(_apart(x, couples))
    similar = apart[:, ~couples.different]
    none = np.full(len(x), np.nan)
    thresholds = np.quantile(similar, 0.95, axis=1) if similar.shape[1] else none
    return DifferentSimilar(areas_under_roc(apart, couples.different), thresholds)


@dataclass(frozen=True)
class BetterWorse:
    """How well the signs of differences of K metrics tell which stimulus people prefer.

    Attributes
    ----------
    areas
        The areas under the ROC curves, over the different couples.
    c0
        The share of couples with the right sign, ``[K]``; no difference counts as half right.
    right
        1, 0 or one half for each couple, ``[K, m]``.
    """

    areas: Areas
    c0: Floats
    right: Floats


def better_worse(quality: ArrayLike, couples: Couples) -> BetterWorse:
    """Analyse whether metrics know which of two different stimuli has the higher opinion.

    Parameters
    ----------
    quality
        What K metrics say of each stimulus, ``[K, n]``, turned so that it rises with opinion.
    couples
        The couples; only different ones are used.
    """
    apart = _apart(np.asarray(quality, dtype=np.float64), couples)[:, couples.different]
    higher = couples.higher[couples.different]
    right = np.where(apart == 0, 0.5, (apart > 0) == higher).astype(np.float64)
    right[np.isnan(apart)] = np.nan
    c0 = right.mean(1) if right.shape[1] else np.full(len(right), np.nan)
    return BetterWorse(areas_under_roc(apart, higher), c0, right)


def _apart(quality: Floats, couples: Couples) -> Floats:
    with np.errstate(invalid="ignore"):
        # Two infinite values, such as the PSNR of identical images, are no different.
        apart = quality[:, couples.first] - quality[:, couples.second]
    same = quality[:, couples.first] == quality[:, couples.second]
    return np.where(same, 0.0, apart)


def shares_differ(first: ArrayLike, second: ArrayLike) -> float:
    """Return the p-value that two metrics are right equally often on the same couples.

    Parameters
    ----------
    first, second
        1, 0 or one half for each couple, ``[m]``.

    Returns
    -------
    float
        The exact two-sided binomial test of the couples on which one does better than the other
        (McNemar's test); 1 if there are none.
    """
    from scipy.stats import binomtest

    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    wins, losses = int((a > b).sum()), int((a < b).sum())
    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0
