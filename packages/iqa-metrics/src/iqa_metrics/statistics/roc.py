"""Areas under ROC curves of several metrics on the same cases, and their covariances.

References
----------
E. R. DeLong, D. M. DeLong and D. L. Clarke-Pearson, "Comparing the areas under two or more
correlated receiver operating characteristic curves", Biometrics 44(3), 1988; X. Sun and W. Xu, IEEE
Signal Processing Letters 21(11), 2014 (the same from ranks).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iqa_metrics.statistics.correlations import Floats, ranks


@dataclass(frozen=True)
class Areas:
    """Areas under the ROC curves of K metrics.

    Attributes
    ----------
    value
        ``[K]``, in [0, 1]; one half is chance. NaN where there are no positive or no negative
        cases.
    covariance
        ``[K, K]``; NaN where there are fewer than two of either.
    """

    value: Floats
    covariance: Floats

    def interval(self, confidence: float = 0.95) -> tuple[Floats, Floats]:
        """Return the ends of the normal intervals, within [0, 1]."""
        from scipy.stats import norm

        reach = norm.ppf((1 + confidence) / 2) * np.sqrt(np.diag(self.covariance))
        return np.maximum(self.value - reach, 0.0), np.minimum(self.value + reach, 1.0)

    def difference(self, first: int, second: int, confidence: float = 0.95) -> Floats:
        """Return the difference of two areas, the ends of its interval and its p-value, ``[4]``.

        The p-value is NaN where the difference has no variance, as of a metric with itself.
        """
        from scipy.stats import norm

        apart = float(self.value[first] - self.value[second])
        of = self.covariance
        variance = float(of[first, first] + of[second, second] - 2 * of[first, second])
        # A difference of rounding errors is none.
        largest = max(float(of[first, first]), float(of[second, second]))
        if not variance > 1e-12 * largest:
            return np.array([apart, np.nan, np.nan, np.nan])
        error = np.sqrt(variance)
        reach = norm.ppf((1 + confidence) / 2) * error
        p = 2 * norm.sf(abs(apart) / error)
        return np.array([apart, apart - reach, apart + reach, p])


def areas_under_roc(scores: ArrayLike, positive: ArrayLike) -> Areas:
    """Return how well scores tell positive cases from negative ones.

    Parameters
    ----------
    scores
        ``[K, n]``; positive cases should have higher scores. Equal scores count as half right.
    positive
        Which cases are positive, boolean ``[n]``.

    Returns
    -------
    Areas
        NaN for metrics with a score of NaN.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    x = np.asarray(scores, dtype=np.float64)
    of: NDArray[np.bool_] = np.asarray(positive, dtype=bool)
    if x.ndim != 2 or of.shape != x.shape[1:]:
        raise ValueError(
            f"expected scores [K, n] and positive [n], got {list(x.shape)} and {list(of.shape)}"
        )
    above, below = x[:, of], x[:, ~of]
    m, n = above.shape[1], below.shape[1]
    if not m or not n:
        none = np.full(len(x), np.nan)
        return Areas(none, np.full((len(x), len(x)), np.nan))
    both = ranks(np.concatenate([above, below], axis=1))
    # The share of the other side's cases that each case is on the right side of.
    of_positive = (both[:, :m] - ranks(above)) / n
    of_negative = 1 - (both[:, m:] - ranks(below)) / m
    value: Floats = of_positive.mean(1)
    covariance = np.full((len(x), len(x)), np.nan)
    if m > 1 and n > 1:
        parts = [one - one.mean(1, keepdims=True) for one in (of_positive, of_negative)]
        covariance = sum(
            (one @ one.T / (size - 1) / size for one, size in zip(parts, (m, n), strict=True)),
            start=np.zeros_like(covariance),
        )
    return Areas(value, covariance)
