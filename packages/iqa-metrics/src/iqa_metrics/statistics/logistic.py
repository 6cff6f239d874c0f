"""The monotone logistic of VQEG's reports, which maps distances to opinions."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from iqa_metrics.statistics.correlations import Floats, fitting, pearson, rmse

_STARTS = 8
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
        z = (np.asarray(distances, dtype=np.float64) - self.centre) / self.scale
        share: Floats = 0.5 * (1 + np.tanh(z / 2))
        return self.low + (self.high - self.low) * share


def fit_logistic(distances: ArrayLike, opinion: ArrayLike) -> Logistic:
    """Fit the monotone logistic of VQEG's reports by least squares.

    For any centre and scale, the best asymptotes are a linear regression. So only two numbers are
    searched for: on a grid that does not depend on units, then by damped Gauss-Newton steps.

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
    2006; G. H. Golub and V. Pereyra, SIAM Journal on Numerical Analysis 10(2), 1973 (the
    separation of linear and nonlinear parameters).
    """
    x, y = fitting(distances, opinion)
    if x.ndim != 1 or len(x) < 4:
        raise ValueError(
            f"expected distances [n] and opinion [n], n at least 4; got {list(x.shape)}"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("expected finite distances and opinion")
    low, high, centre, scale = _fitted(x[None], y)[0].tolist()
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
    x, y = fitting(distances, opinion)
    rows = x.reshape(-1, x.shape[-1])
    of_row = np.broadcast_to(y, x.shape).reshape(rows.shape)
    found = np.full((2, len(rows)), np.nan)
    good = np.isfinite(rows).all(-1) & np.isfinite(of_row).all(-1)
    if rows.shape[1] < 4 or not good.any():
        return found[0].reshape(x.shape[:-1]), found[1].reshape(x.shape[:-1])
    step = max(1, _AT_ONCE // rows.shape[1])
    chosen = np.flatnonzero(good)
    for first in range(0, len(chosen), step):
        part = chosen[first : first + step]
        judged = y if y.ndim == 1 else of_row[part]
        low, high, centre, scale = (column[:, None] for column in _fitted(rows[part], judged).T)
        share = 0.5 * (1 + np.tanh((rows[part] - centre) / scale / 2))
        predicted = low + (high - low) * share
        found[:, part] = pearson(predicted, judged), rmse(predicted, judged)
    return found[0].reshape(x.shape[:-1]), found[1].reshape(x.shape[:-1])


def _fitted(x: Floats, y: Floats) -> Floats:
    """Fit a curve to each row ``[R, n]``: low, high, centre and scale, ``[R, 4]``.

    Rows are fitted together but independently of each other.
    """
    shift, spread = x.min(-1), np.ptp(x, axis=-1)
    # Nothing to fit a curve to: the values vary by rounding errors alone.
    flat = (spread <= 1e-12 * np.abs(x).max(-1)) | (spread < 1e-200)
    unit = np.where(flat, 1.0, spread)
    z = (x - shift[:, None]) / unit[:, None]
    y = np.broadcast_to(y, x.shape)
    starts = _starts(z, y)
    rows = np.repeat(np.arange(len(z)), _STARTS)
    places, errors = _refined(z[rows], y[rows], starts.reshape(-1, 2))
    best = errors.reshape(-1, _STARTS).argmin(-1)
    centre, log_scale = places.reshape(-1, _STARTS, 2)[np.arange(len(z)), best].T
    _, low, high, _ = _separated(z, y, centre, log_scale)
    mean = y.mean(-1)
    return np.stack(
        [
            np.where(flat, mean, low),
            np.where(flat, mean, high),
            np.where(flat, x[:, 0], shift + unit * centre),
            unit * np.exp(log_scale),
        ],
        axis=-1,
    )


def _starts(z: Floats, y: Floats) -> Floats:
    """Return the best grid points that are not neighbours, ``[R, starts, 2]``."""
    # The bend may lie where most pairs are, however far away the others are.
    centres = np.quantile(z, np.linspace(0, 1, 21), axis=-1).T
    gaps = np.diff(centres)
    narrowest = np.where(gaps > 0, gaps, 1.0).min(-1)
    ends = np.log(np.maximum(1e-9, narrowest) / 3)
    scales = np.linspace(ends, np.full(len(z), np.log(3.0)), 24, axis=-1)
    shape = (len(z), centres.shape[1], scales.shape[1])
    places = np.stack(
        [
            np.broadcast_to(centres[:, :, None], shape),
            np.broadcast_to(scales[:, None, :], shape),
        ],
        axis=-1,
    ).reshape(len(z), -1, 2)
    errors = np.stack(
        [_separated(z, y, *place.T)[0] for place in places.transpose(1, 0, 2)], axis=-1
    )
    order = errors.argsort(-1, kind="stable")
    return np.stack([_apart(of[at]) for of, at in zip(places, order, strict=True)])


def _apart(places: Floats) -> Floats:
    """Return the first points that are no neighbours of earlier ones, repeated if they are few."""
    chosen: list[int] = []
    near = np.zeros(len(places), bool)
    while len(chosen) < _STARTS and not near.all():
        at = int(near.argmin())
        chosen.append(at)
        centre, log_scale = places[at]
        far = (np.abs(places[:, 1] - log_scale) > 1) | (
            np.abs(places[:, 0] - centre) > np.exp(log_scale)
        )
        near |= ~far
        near[: at + 1] = True
    return places[(chosen * _STARTS)[:_STARTS]]


def _separated(
    z: Floats, y: Floats, centre: Floats, log_scale: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """Return the squared errors and both asymptotes, ``[R]``, and the residuals, ``[R, n]``."""
    share = 0.5 * (1 + np.tanh((z - centre[:, None]) / (2 * np.exp(log_scale))[:, None]))
    mean_share, mean_y = share.mean(-1), y.mean(-1)
    apart, wanted = share - mean_share[:, None], y - mean_y[:, None]
    variance = np.einsum("rn,rn->r", apart, apart)
    covariance = np.einsum("rn,rn->r", apart, wanted)
    bends = variance > 1e-20
    slope = np.where(bends, covariance / np.where(bends, variance, 1.0), 0.0)
    low = mean_y - slope * mean_share
    residuals = wanted - slope[:, None] * apart
    return np.einsum("rn,rn->r", residuals, residuals), low, low + slope, residuals


def _refined(z: Floats, y: Floats, places: Floats) -> tuple[Floats, Floats]:
    """Improve centres and scales by Gauss-Newton steps with Levenberg-Marquardt damping.

    Returns the points ``[R, 2]`` and their squared errors ``[R]``.
    """
    here = places.copy()
    error, _, _, residuals = _separated(z, y, *here.T)
    damping, refusals = np.full(len(z), 1e-2), np.zeros(len(z), int)
    normal, gradient = np.empty((len(z), 2, 2)), np.empty((len(z), 2))
    moving, moved = np.arange(len(z)), np.arange(len(z))
    for _ in range(3000):
        if len(moved):
            normal[moved], gradient[moved] = _slopes(
                z[moved], y[moved], here[moved], residuals[moved]
            )
        damped = normal[moving].copy()
        for axis in range(2):
            damped[:, axis, axis] *= 1 + damping[moving]
            damped[:, axis, axis] += 1e-30
        steps = _solved(damped, gradient[moving])
        there = here[moving] - steps
        there[:, 1] = np.clip(there[:, 1], -30, 9)
        found, _, _, new = _separated(z[moving], y[moving], *there.T)
        better = found < error[moving]
        moved, refused = moving[better], moving[~better]
        gain = error[moved] - found[better]
        settled = moved[gain <= 1e-12 * error[moved]]
        here[moved], error[moved], residuals[moved] = there[better], found[better], new[better]
        damping[moved] = np.maximum(damping[moved] / 10, 1e-12)
        damping[refused] *= 10
        refusals[moved] = 0
        refusals[refused] += 1
        moving = np.setdiff1d(moving, [*settled, *refused[refusals[refused] >= 12]])
        moved = np.setdiff1d(moved, settled)
        if not len(moving):
            break
    return here, error


def _slopes(z: Floats, y: Floats, here: Floats, residuals: Floats) -> tuple[Floats, Floats]:
    """Return the normal equations ``[R, 2, 2]`` and the gradient ``[R, 2]`` of the residuals."""
    sizes = 1e-6 * np.maximum(1, np.abs(here))
    slopes = []
    for axis in range(2):
        step = np.zeros_like(here)
        step[:, axis] = sizes[:, axis]
        ahead, behind = (_separated(z, y, *(here + s).T)[3] for s in (step, -step))
        slopes.append((ahead - behind) / (2 * sizes[:, axis, None]))
    jacobian = np.stack(slopes, axis=1)
    return (
        np.einsum("ran,rbn->rab", jacobian, jacobian),
        np.einsum("ran,rn->ra", jacobian, residuals),
    )


def _solved(normal: Floats, gradient: Floats) -> Floats:
    """Solve the two equations of each row; rows without a solution get a step of 0."""
    (a, b), (c, d) = normal.transpose(1, 2, 0)
    determinant = a * d - b * c
    fine = np.abs(determinant) > 1e-300
    safe = np.where(fine, determinant, 1.0)
    first = (d * gradient[:, 0] - b * gradient[:, 1]) / safe
    second = (a * gradient[:, 1] - c * gradient[:, 0]) / safe
    return np.where(fine[:, None], np.stack([first, second], axis=-1), 0.0)
