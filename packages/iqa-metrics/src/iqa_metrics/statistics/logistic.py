"""The monotone logistic of VQEG's reports, which maps distances to opinions."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from iqa_metrics.statistics.correlations import Floats, fitting, pearson, rmse
from iqa_metrics.statistics.logistic_search import curve, fitted

_AT_ONCE = 2**18
"""Number of distances that are fitted together; what is computed from them fits in the cache."""


@dataclass(frozen=True)
class Logistic:
    """A monotone curve from distances to opinion: ``low + (high - low) / (1 + exp(-(x - c) / s))``.

    Attributes
    ----------
    low, high
        Opinion at the far left and the far right.
    centre, scale
        The distance at which the curve is halfway, and how gently it rises; the scale is positive.
    """

    low: float
    high: float
    centre: float
    scale: float

    def __call__(self, distances: ArrayLike) -> Floats:
        """Return the opinion that the curve predicts."""
        return curve(np.asarray(distances, dtype=np.float64), *self._values())

    def _values(self) -> tuple[float, float, float, float]:
        return self.low, self.high, self.centre, self.scale


def fit_logistic(distances: ArrayLike, opinion: ArrayLike) -> Logistic:
    """Fit the monotone logistic of VQEG's reports by least squares.

    The search starts from a grid that does not depend on units and needs no starting values; see
    :mod:`iqa_metrics.statistics.logistic_search`.

    Parameters
    ----------
    distances, opinion
        ``[n]``, n at least 4.

    Raises
    ------
    ValueError
        If the shapes do not fit, there are fewer than 4 pairs, or a value is not finite.

    References
    ----------
    VQEG, Final Report 2000, annex; H. R. Sheikh, M. F. Sabir and A. C. Bovik, IEEE TIP 15(11),
    2006.
    """
    x, y = fitting(distances, opinion)
    if x.ndim != 1 or len(x) < 4:
        raise ValueError(
            f"expected distances [n] and opinion [n], n at least 4; got {list(x.shape)}"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("expected finite distances and opinion")
    low, high, centre, scale = fitted(x[None], y)[0].tolist()
    return Logistic(low, high, centre, scale)


def plcc_logistic(distances: ArrayLike, opinion: ArrayLike) -> tuple[Floats, Floats]:
    """Return the correlation and the RMSE of each row after the monotone logistic.

    Parameters
    ----------
    distances
        ``[..., n]``.
    opinion
        ``[n]``.

    Returns
    -------
    tuple
        PLCC and RMSE, ``[...]`` each. PLCC is never negative where the fit succeeds, since the
        curve follows the opinions' direction; RMSE is in the opinions' units. NaN where a value is
        not finite.
    """
    predicted = predicted_by_logistic(distances, opinion)
    _, y = fitting(distances, opinion)
    return pearson(predicted, y), rmse(predicted, y)


def predicted_by_logistic(distances: ArrayLike, opinion: ArrayLike) -> Floats:
    """Return the opinions that each row's own monotone logistic predicts.

    Parameters
    ----------
    distances
        ``[..., n]``.
    opinion
        ``[n]``.

    Returns
    -------
    ndarray
        ``[..., n]``, in the opinions' units. A row is NaN if a value of it is not finite, or if it
        has fewer than 4 pairs.
    """
    x, y = fitting(distances, opinion)
    rows = x.reshape(-1, x.shape[-1])
    of_row = np.broadcast_to(y, x.shape).reshape(rows.shape)
    found = np.full(rows.shape, np.nan)
    good = np.isfinite(rows).all(-1) & np.isfinite(of_row).all(-1)
    if rows.shape[1] >= 4 and good.any():
        step = max(1, _AT_ONCE // rows.shape[1])
        chosen = np.flatnonzero(good)
        for first in range(0, len(chosen), step):
            part = chosen[first : first + step]
            judged = y if y.ndim == 1 else of_row[part]
            found[part] = curve(rows[part], *fitted(rows[part], judged).T[..., None])
    return found.reshape(x.shape)
