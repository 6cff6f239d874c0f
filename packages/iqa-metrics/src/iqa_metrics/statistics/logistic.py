"""The monotone logistic of VQEG's reports, through which distances become opinions."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from iqa_metrics.statistics.correlations import Floats, fitting, pearson, rmse

_STARTS = 4


@dataclass(frozen=True)
class Logistic:
    """A monotone curve from distances to opinion: ``low + (high - low) / (1 + exp(-(x - c) / s))``.

    Attributes
    ----------
    low, high
        Opinion far to the left and far to the right.
    centre, scale
        Where it is halfway, and how gentle it is; the scale is positive.
    """

    low: float
    high: float
    centre: float
    scale: float

    def __call__(self, distances: ArrayLike) -> Floats:
        """Return the opinion that the curve predicts."""
        z = (np.asarray(distances, dtype=np.float64) - self.centre) / self.scale
        share: Floats = 0.5 * (1 + np.tanh(z / 2))
        return self.low + (self.high - self.low) * share


def fit_logistic(distances: ArrayLike, opinion: ArrayLike) -> Logistic:
    """Fit the monotone logistic of VQEG's reports by least squares.

    For any centre and scale the best asymptotes are a linear regression, so that only two numbers
    are searched: on a grid that does not depend on units, then by Gauss and Newton with damping.

    Parameters
    ----------
    distances, opinion
        ``[n]``, n at least 4.

    Raises
    ------
    ValueError
        If shapes do not fit, fewer than 4 pairs came, or a value is not finite.

    References
    ----------
    VQEG, Final Report 2000, annex; H. R. Sheikh, M. F. Sabir and A. C. Bovik, IEEE TIP 15(11),
    2006; G. H. Golub and V. Pereyra, SIAM Journal on Numerical Analysis 10(2), 1973, for the
    separation of linear and nonlinear parameters.
    """
    x, y = fitting(distances, opinion)
    if x.ndim != 1 or len(x) < 4:
        raise ValueError(
            f"expected distances [n] and opinion [n], n at least 4; got {list(x.shape)}"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("expected finite distances and opinion")
    spread = float(np.ptp(x))
    # Nothing to bend a curve by: no variation but that of rounding.
    if spread <= 1e-12 * float(np.abs(x).max()) or spread < 1e-200:
        return Logistic(float(y.mean()), float(y.mean()), float(x[0]), 1.0)
    shift, unit = float(x.min()), spread
    z = (x - shift) / unit
    # The bend may lie where most pairs are, however far the others reach.
    quantiles = np.quantile(z, np.linspace(0, 1, 21))
    gaps = np.diff(quantiles)
    narrowest = max(1e-9, float(gaps[gaps > 0].min(initial=1.0)))
    cells = sorted(
        (_separated(z, y, centre, log_scale)[0], float(centre), float(log_scale))
        for log_scale in np.log(np.geomspace(narrowest / 3, 3, 24))
        for centre in np.unique(quantiles)
    )
    refined = [_refined(z, y, centre, log_scale) for _, centre, log_scale in _apart(cells)]
    _, centre, log_scale = min((_separated(z, y, *place)[0], *place) for place in refined)
    _, low, high, _ = _separated(z, y, centre, log_scale)
    return Logistic(low, high, shift + unit * centre, unit * float(np.exp(log_scale)))


def plcc_logistic(distances: ArrayLike, opinion: ArrayLike) -> tuple[Floats, Floats]:
    """Return correlation and RMSE after the monotone logistic, of each row.

    Parameters
    ----------
    distances
        ``[..., n]``.
    opinion
        ``[n]``.

    Returns
    -------
    tuple
        PLCC, which is never negative where the fit succeeded since the curve follows the opinion's
        direction, and RMSE in opinion's units; ``[...]`` each. NaN where a value is not finite.
    """
    x, y = fitting(distances, opinion)
    rows = x.reshape(-1, x.shape[-1])
    found = np.full((2, len(rows)), np.nan)
    for index, row in enumerate(rows):
        if np.isfinite(row).all() and np.isfinite(y).all() and len(row) >= 4:
            predicted = fit_logistic(row, y)(row)
            found[:, index] = pearson(predicted, y), rmse(predicted, y)
    return found[0].reshape(x.shape[:-1]), found[1].reshape(x.shape[:-1])


def _apart(cells: list[tuple[float, float, float]]) -> list[tuple[float, float, float]]:
    """Return the best cells that are not neighbours of a better one."""
    chosen: list[tuple[float, float, float]] = []
    for cell in cells:
        if all(abs(cell[2] - c[2]) > 1 or abs(cell[1] - c[1]) > np.exp(c[2]) for c in chosen):
            chosen.append(cell)
        if len(chosen) == _STARTS:
            break
    return chosen


def _separated(
    z: Floats, y: Floats, centre: float, log_scale: float
) -> tuple[float, float, float, Floats]:
    """Return the squared error, both asymptotes and the residuals for a centre and scale."""
    share = 0.5 * (1 + np.tanh((z - centre) / (2 * np.exp(log_scale))))
    mean_share, mean_y = share.mean(), y.mean()
    variance = np.square(share - mean_share).sum()
    slope = 0.0
    if variance > 1e-20:
        slope = float(((share - mean_share) * (y - mean_y)).sum() / variance)
    low = float(mean_y - slope * mean_share)
    residuals = y - low - slope * share
    return float(np.square(residuals).sum()), low, low + slope, residuals


def _refined(z: Floats, y: Floats, centre: float, log_scale: float) -> tuple[float, float]:
    """Improve centre and scale by Gauss and Newton, damped as by Levenberg and Marquardt."""
    here, damping = np.array([centre, log_scale]), 1e-2
    error, _, _, residuals = _separated(z, y, *here)
    for _ in range(200):
        steps = 1e-6 * np.maximum(1, np.abs(here))
        slopes = np.stack(
            [
                (_separated(z, y, *(here + step))[3] - _separated(z, y, *(here - step))[3])
                / (2 * step.sum())
                for step in np.diag(steps)
            ],
            axis=1,
        )
        normal, gradient = slopes.T @ slopes, slopes.T @ residuals
        moved = False
        for _ in range(12):
            damped = normal + damping * np.diag(np.diag(normal) + 1e-30)
            try:
                there = here - np.linalg.solve(damped, gradient)
            except np.linalg.LinAlgError:
                damping *= 10
                continue
            there[1] = np.clip(there[1], -30, 9)
            new_error, _, _, new_residuals = _separated(z, y, *there)
            if new_error < error:
                moved = error - new_error > 1e-12 * error
                here, error, residuals = there, new_error, new_residuals
                damping = max(damping / 10, 1e-12)
                break
            damping *= 10
        if not moved:
            break
    return float(here[0]), float(here[1])
