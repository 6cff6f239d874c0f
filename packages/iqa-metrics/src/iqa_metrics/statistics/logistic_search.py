"""The search for the least squares logistic, for many series of distances at once.

For any centre and scale, the best asymptotes are a linear regression, so only two numbers are
searched for. Starts (see :mod:`iqa_metrics.statistics.logistic_starts`) are refined by damped
Gauss-Newton steps, and the best of them by Newton's. Where pairs are many, the first steps use the
means of neighbouring ones.

References
----------
G. H. Golub and V. Pereyra, SIAM Journal on Numerical Analysis 10(2), 1973 (the separation of linear
and nonlinear parameters); L. Kaufman, BIT 15, 1975 (the slopes of the separated problem).
"""

import itertools
from dataclasses import dataclass

import numpy as np

from iqa_metrics.statistics.correlations import Floats
from iqa_metrics.statistics.logistic_starts import (
    BINS,
    FEW,
    SATURATED,
    Ints,
    Points,
    best_steps,
    binned,
    grid_minima,
)

_FINALISTS = 3
_OUTSIDE = 25.0
"""So many scales outside of the distances, the curve can't be told from an exponential."""
_LEAST_LOG, _MOST_LOG = -34.0, 9.0


@dataclass(frozen=True)
class _Fit:
    """The best asymptotes for given centres and scales: ``[R]`` each, except as noted.

    ``share``, the way from the nearer asymptote, ``residuals`` and ``apart``, the curve less its
    mean, are ``[R, n]``.
    """

    error: Floats
    low: Floats
    high: Floats
    slope: Floats
    variance: Floats
    share: Floats
    apart: Floats
    residuals: Floats


def fitted(x: Floats, y: Floats) -> Floats:
    """Fit a curve to each row ``[R, n]``: low, high, centre and scale, ``[R, 4]``.

    Rows are fitted together but independently of each other.
    """
    shift, spread = x.min(-1), np.ptp(x, axis=-1)
    # Nothing to fit a curve to: the values vary by rounding errors alone.
    flat = (spread <= 1e-12 * np.abs(x).max(-1)) | (spread < 1e-200)
    unit = np.where(flat, 1.0, spread)
    z = (x - shift[:, None]) / unit[:, None]
    order = np.argsort(z, axis=-1, kind="stable")
    z = np.take_along_axis(z, order, -1)
    y = np.take_along_axis(np.broadcast_to(y, x.shape), order, -1)
    # Opinions near 0 with a spread near 1 keep their digits when they are squared.
    middle, height = y.mean(-1), np.ptp(y, axis=-1)
    level = (height <= 1e-12 * np.abs(y).max(-1)) | (height < 1e-200)
    height = np.where(level, 1.0, height)
    gaps = np.diff(z)
    narrowest = np.where(gaps > 0, gaps, 1.0).min(-1)
    whole = Points(
        z,
        (y - middle[:, None]) / height[:, None],
        np.ones_like(z),
        np.maximum(np.log(narrowest / (4 * SATURATED)), _LEAST_LOG),
    )
    centre, log_scale = _searched(whole).T
    found = _separated(whole, centre, log_scale)
    nothing = flat | level
    low = np.where(nothing, middle, middle + height * found.low)
    high = np.where(nothing, middle, middle + height * found.high)
    centre = np.where(flat, x[:, 0], shift + unit * centre)
    return np.stack([low, high, centre, unit * np.exp(log_scale)], axis=-1)


def curve(
    x: Floats,
    low: Floats | float,
    high: Floats | float,
    centre: Floats | float,
    scale: Floats | float,
) -> Floats:
    """Return the logistic of distances; the parameters are broadcast."""
    with np.errstate(over="ignore"):
        share = 1 / (1 + np.exp(np.abs(x - centre) / scale))
    # Each half is measured from its own asymptote, so that neither loses digits.
    found: Floats = np.where(x > centre, high, low) + np.where(x > centre, -1, 1) * (
        (high - low) * share
    )
    return found


def _searched(whole: Points) -> Floats:
    """Return the best centre and logarithm of the scale of each row, ``[R, 2]``."""
    count, n = whole.z.shape
    many = n > BINS
    coarse = binned(whole) if many else whole
    rows, places = grid_minima(coarse)
    places, errors = _refined(coarse.of(rows), places, 20)
    few = n <= FEW
    keep = _lowest(rows, places, errors, count, most=4 * _FINALISTS if few else _FINALISTS)
    rows, places, errors = rows[keep], places[keep], errors[keep]
    if not many:
        # Between few points there are many small steps; some are seen only from close by.
        which = np.arange(len(rows)) if few else _lowest(rows, places, errors, count, most=1)
        moves = np.array(list(itertools.product((-1.5, 0.0, 1.5), (-1.2, 0.6))))
        beside = np.repeat(places[which], len(moves), axis=0)
        moves = np.tile(moves, (len(which), 1))
        beside[:, 0] += moves[:, 0] * np.exp(beside[:, 1])
        beside[:, 1] += moves[:, 1]
        rows = np.concatenate([rows, np.repeat(rows[which], len(moves) // len(which))])
        places = np.concatenate([places, beside])
    more_rows, more = best_steps(whole, (0.0,) if many else (0.0, 2.5, 4.0, 5.5))
    rows, places = np.concatenate([rows, more_rows]), np.concatenate([places, more])
    places, errors = _refined(whole.of(rows), places, 10)
    keep = _lowest(rows, places, errors, count, most=6 if few else 2)
    rows, places = rows[keep], places[keep]
    places, errors = _polished(whole.of(rows), places)
    order = np.lexsort((errors, rows))
    first = np.searchsorted(rows[order], np.arange(count))
    best: Floats = places[order[first]]
    return best


def _lowest(rows: Ints, places: Floats, errors: Floats, count: int, most: int) -> Ints:
    """Return the indices of the few lowest minima of each row, each minimum once."""
    order = np.lexsort((errors, rows))
    chosen: list[int] = []
    kept: list[list[Floats]] = [[] for _ in range(count)]
    for at in order.tolist():
        here, known = places[at], kept[rows[at]]
        near = any(
            abs(here[1] - one[1]) < 0.05 and abs(here[0] - one[0]) < 0.05 * np.exp(one[1])
            for one in known
        )
        if len(known) < most and not near:
            known.append(here)
            chosen.append(at)
    return np.array(chosen, dtype=np.intp)


def _separated(points: Points, centre: Floats, log_scale: Floats) -> _Fit:
    """Return the best asymptotes and what they leave unexplained."""
    z, y, weights = points.z, points.y, points.weights
    # Measured from the nearer asymptote, the curve keeps its digits far outside of the distances.
    side = np.where(centre < 0.5, -1.0, 1.0)
    with np.errstate(over="ignore"):
        share = 1 / (1 + np.exp((centre[:, None] - z) * (side / np.exp(log_scale))[:, None]))
    signed = side[:, None] * share
    total = weights.sum(-1)
    mean = np.einsum("rn,rn->r", weights, signed) / total
    mean_y = np.einsum("rn,rn->r", weights, y) / total
    apart, wanted = signed - mean[:, None], y - mean_y[:, None]
    weighted = weights * apart
    variance = np.einsum("rn,rn->r", weighted, apart)
    covariance = np.einsum("rn,rn->r", weighted, wanted)
    # What varies by rounding errors alone does not bend.
    bends = variance > 1e-28 * total * np.square(share).max(-1)
    slope = np.where(bends, covariance / np.where(bends, variance, 1.0), 0.0)
    residuals = wanted - slope[:, None] * apart
    error = np.einsum("rn,rn,rn->r", weights, residuals, residuals)
    near = mean_y - slope * mean
    low = np.where(side > 0, near, near - slope)
    high = np.where(side > 0, near + slope, near)
    return _Fit(error, low, high, slope, variance, share, apart, residuals)


def _refined(points: Points, places: Floats, most: int) -> tuple[Floats, Floats]:
    """Improve centres and scales by Gauss-Newton steps with Levenberg-Marquardt damping.

    Returns the places ``[R, 2]`` and their squared errors ``[R]``.
    """
    here = places.copy()
    fit = _separated(points, *here.T)
    error = fit.error.copy()
    normal, gradient = _slopes(points, here, fit)
    damping = np.full(len(here), 1e-3)
    idle = np.zeros(len(here), int)
    moving = np.arange(len(here))
    for _ in range(most):
        damped = normal[moving].copy()
        for axis in range(2):
            damped[:, axis, axis] *= 1 + damping[moving]
            damped[:, axis, axis] += 1e-30
        there = _stepped(here[moving], _solved(damped, gradient[moving]), points.least[moving])
        found = _separated(points.of(moving), *there.T)
        better = found.error < error[moving]
        moved, refused = moving[better], moving[~better]
        gain = error[moved] - found.error[better]
        idle[moved] = np.where(gain <= 1e-9 * error[moved], idle[moved] + 1, 0)
        idle[refused] += 1
        here[moved], error[moved] = there[better], found.error[better]
        damping[moved] = np.maximum(damping[moved] / 8, 1e-12)
        damping[refused] *= 6
        if len(moved):
            kept = _Fit(*(getattr(found, name)[better] for name in _Fit.__dataclass_fields__))
            normal[moved], gradient[moved] = _slopes(points.of(moved), here[moved], kept)
        moving = moving[(idle[moving] < 6) & (error[moving] > 1e-26)]
        if not len(moving):
            break
    return here, error


def _polished(points: Points, places: Floats) -> tuple[Floats, Floats]:
    """Go from near a minimum to its bottom by Newton's steps, with slopes of the gradient.

    Where residuals are large, Gauss-Newton steps overshoot and need hundreds of iterations.
    Returns the places ``[R, 2]`` and their squared errors ``[R]``.
    """
    here = places.copy()
    error = _separated(points, *here.T).error
    moving = np.arange(len(here))
    for _ in range(12):
        part, start = points.of(moving), here[moving]
        gradient = _gradient(part, start)
        units = np.stack([np.where(_outside(start)[1] == 0, np.exp(start[:, 1]), 1.0)] * 2, -1)
        units[:, 1] = 1.0
        sizes = 1e-4 * units
        sizes[:, 0] *= np.where(_outside(start)[1] == 0, 1.0, _outside(start)[0])
        normal = np.empty((len(moving), 2, 2))
        for axis in range(2):
            step = np.zeros_like(start)
            step[:, axis] = sizes[:, axis]
            ahead, behind = (_gradient(part, _stepped(start, s, part.least)) for s in (step, -step))
            normal[:, axis] = (behind - ahead) / (2 * sizes[:, axis, None])
        normal = (normal + normal.transpose(0, 2, 1)) / 2
        steps = _solved(normal, gradient)
        # Downhill only: where the bottom is not in sight, the step is one of the gradient's.
        rises = (np.linalg.det(normal) <= 0) | (normal[:, 0, 0] <= 0)
        diagonal = np.abs(normal[:, [0, 1], [0, 1]]) + 1e-30
        steps = np.where(rises[:, None], gradient / diagonal, steps)
        before = error[moving].copy()
        for _ in range(4):
            there = _stepped(start, steps, part.least)
            found = _separated(part, *there.T).error
            better = found < error[moving]
            here[moving[better]], error[moving[better]] = there[better], found[better]
            if better.all():
                break
            steps = np.where((error[moving] < before)[:, None], 0.0, steps / 4)
        moving = moving[(before - error[moving] > 1e-11 * before)]
        if not len(moving):
            break
    return here, error


def _gradient(points: Points, places: Floats) -> Floats:
    return _slopes(points, places, _separated(points, *places.T))[1]


def _outside(places: Floats) -> tuple[Floats, Floats]:
    """Return ``exp(-d)``, ``[R]``, for centres d scales outside of [0, 1], and their sides.

    The side is -1 below, 1 above and 0 inside. Far outside, the curve does not change with the
    centre any more, but linearly with this.
    """
    centre, scale = places[:, 0], np.exp(places[:, 1])
    side = np.where(centre < 0, -1.0, np.where(centre > 1, 1.0, 0.0))
    beyond = np.where(side < 0, -centre, np.where(side > 0, centre - 1, 0.0))
    return np.exp(-np.minimum(beyond / scale, _OUTSIDE)), side


def _stepped(places: Floats, steps: Floats, least: Floats) -> Floats:
    """Return the places after steps, whose first coordinate outside is that of :func:`_outside`."""
    nearness, side = _outside(places)
    log_scale = np.clip(places[:, 1] + steps[:, 1], least, _MOST_LOG)
    scale = np.exp(log_scale)
    moved = nearness + steps[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        beyond = np.where(moved > 1, 1 - moved, -np.log(np.maximum(moved, np.exp(-_OUTSIDE))))
    inside = places[:, 0] + steps[:, 0]
    reach = _OUTSIDE * scale
    centre = np.where(
        side < 0,
        -scale * beyond,
        np.where(side > 0, 1 + scale * beyond, np.clip(inside, -reach, 1 + reach)),
    )
    return np.stack([centre, log_scale], axis=-1)


def _slopes(points: Points, here: Floats, fit: _Fit) -> tuple[Floats, Floats]:
    """Return the normal equations ``[R, 2, 2]`` and the downhill gradient ``[R, 2]``."""
    scale = np.exp(here[:, 1:])
    nearness, side = _outside(here)
    # The slope along the centre is -share (1 - share) / scale, of which the regression explains the
    # first part.
    along_centre = (
        np.square(fit.share) * np.where(side == 0, 1 / scale[:, 0], -side / nearness)[:, None]
    )
    fixed = np.where(side < 0, 0.0, np.where(side > 0, 1.0, here[:, 0]))[:, None]
    along_scale = -fit.share * (1 - fit.share) * (points.z - fixed) / scale
    variance = np.where(fit.variance > 0, fit.variance, 1.0)[:, None]
    total = points.weights.sum(-1, keepdims=True)
    columns = []
    for slope in (along_centre, along_scale):
        weighted = points.weights * slope
        along = np.einsum("rn,rn->r", weighted, fit.apart)[:, None] / variance
        slope = slope - weighted.sum(-1, keepdims=True) / total - along * fit.apart
        columns.append(fit.slope[:, None] * slope)
    jacobian = np.stack(columns, axis=1)
    weighted = jacobian * points.weights[:, None]
    gradient = np.einsum("ran,rn->ra", weighted, fit.residuals)
    # An exponential is the farthest that a curve can go: there, only its scale moves on.
    farthest = (nearness <= 1.001 * np.exp(-_OUTSIDE)) & (gradient[:, 0] < 0)
    jacobian[farthest, 0], gradient[farthest, 0] = 0.0, 0.0
    return np.einsum("ran,rbn->rab", jacobian * points.weights[:, None], jacobian), gradient


def _solved(normal: Floats, gradient: Floats) -> Floats:
    """Solve the two equations of each row; rows without a solution get a step of 0."""
    (a, b), (c, d) = normal.transpose(1, 2, 0)
    determinant = a * d - b * c
    fine = np.abs(determinant) > 1e-300
    safe = np.where(fine, determinant, 1.0)
    first = (d * gradient[:, 0] - b * gradient[:, 1]) / safe
    second = (a * gradient[:, 1] - c * gradient[:, 0]) / safe
    return np.where(fine[:, None], np.stack([first, second], axis=-1), 0.0)
