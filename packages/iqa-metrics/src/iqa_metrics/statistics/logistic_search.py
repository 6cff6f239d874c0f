"""The search for the least squares logistic, for many series of distances at once.

For any centre and scale, the best asymptotes are a linear regression, so only two numbers are
searched for. Their error has many local minima: steep curves between any two distances, and curves
of which the data shows only one end. So the search starts from every local minimum on a grid that
does not depend on units and from the best step functions, and refines each of them by damped
Gauss-Newton steps. Where pairs are many, the first refinement uses the means of neighbouring ones.

References
----------
G. H. Golub and V. Pereyra, SIAM Journal on Numerical Analysis 10(2), 1973 (the separation of linear
and nonlinear parameters); L. Kaufman, BIT 15, 1975 (the slopes of the separated problem).
"""

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iqa_metrics.statistics.correlations import Floats

Ints = NDArray[np.intp]

_BINS = 240
"""Most points that starts are searched on."""
_SCALES = 26
_GRID = 2**17
"""Number of values that are computed together, so that they fit in the cache."""
_STARTS = 8
_FINALISTS = 3
_FEW = 40
"""Up to so many points, the search leaves no stone unturned."""
_SATURATED = 80.0
"""So many scales from the centre, the curve equals its asymptote to the last digit."""
_OUTSIDE = 25.0
"""So many scales outside of the distances, the curve can't be told from an exponential."""
_LEAST_LOG, _MOST_LOG = -34.0, 9.0


@dataclass(frozen=True)
class _Points:
    """Distances in [0, 1], sorted, with opinions and weights, ``[R, n]`` each.

    ``least`` is the logarithm of a scale at which every curve is a step, ``[R]``.
    """

    z: Floats
    y: Floats
    weights: Floats
    least: Floats

    def of(self, rows: Ints | slice) -> "_Points":
        return _Points(self.z[rows], self.y[rows], self.weights[rows], self.least[rows])


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
    whole = _Points(
        z,
        (y - middle[:, None]) / height[:, None],
        np.ones_like(z),
        np.maximum(np.log(narrowest / (4 * _SATURATED)), _LEAST_LOG),
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


def _searched(whole: _Points) -> Floats:
    """Return the best centre and logarithm of the scale of each row, ``[R, 2]``."""
    count, n = whole.z.shape
    many = n > _BINS
    coarse = _binned(whole) if many else whole
    rows, places = _grid_minima(coarse)
    places, errors = _refined(coarse.of(rows), places, 20)
    few = n <= _FEW
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
    more_rows, more = _steps(whole, (0.0,) if many else (0.0, 2.5, 4.0, 5.5))
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


def _binned(whole: _Points) -> _Points:
    """Return the means of neighbouring points, equally many in each."""
    n = whole.z.shape[1]
    edges = np.linspace(0, n, _BINS + 1).astype(np.intp)[:-1]
    sizes = np.diff([*edges, n]).astype(np.float64)
    z, y = (np.add.reduceat(of, edges, axis=-1) / sizes for of in (whole.z, whole.y))
    return _Points(z, y, np.broadcast_to(sizes, z.shape), whole.least)


def _grid_minima(points: _Points) -> tuple[Ints, Floats]:
    """Return the row and the place of the lowest local minima on a grid."""
    z = points.z
    count, n = z.shape
    # The bend may lie where most pairs are, however far away the others are.
    inner = np.quantile(z, np.linspace(0, 1, 49 if n <= _FEW else 29), axis=-1).T
    even = np.broadcast_to(np.linspace(0, 1, 12)[1:-1], (count, 10))
    inner = np.sort(np.concatenate([inner, even], axis=-1), axis=-1)
    gaps = np.diff(inner)
    narrowest = np.where(gaps > 0, gaps, 1.0).min(-1)
    ends = np.log(np.maximum(1e-9, narrowest) / 3)
    log_scales = np.linspace(ends, np.full(count, np.log(4.0)), _SCALES, axis=-1)
    scales = np.exp(log_scales)[:, None, :]
    shape = (count, inner.shape[1], _SCALES)
    # Beyond the distances: the data shows only one end of the curve.
    reach = [7.0, 3.0, 1.0]
    centres = np.concatenate(
        [
            *(-r * scales for r in reach),
            np.broadcast_to(inner[:, :, None], shape),
            *(1 + r * scales for r in reversed(reach)),
        ],
        axis=1,
    )
    errors = np.empty(centres.shape)
    step = max(1, _GRID // (n * _SCALES))
    for begin in range(0, count, step):
        part = slice(begin, begin + step)
        few = points.of(part)
        for at in range(centres.shape[1]):
            errors[part, at] = _gains(few, centres[part, at], scales[part, 0])
    padded = np.pad(errors, ((0, 0), (1, 1), (1, 1)), constant_values=np.inf)
    # Of neighbours that are equal to rounding errors, the first one counts.
    noise = 1e-10 * np.abs(errors).max((1, 2), keepdims=True)
    minima = np.ones(errors.shape, bool)
    height, width = inner.shape[1] + 2 * len(reach), _SCALES
    for i, j in itertools.product((-1, 0, 1), repeat=2):
        beside = padded[:, 1 + i : 1 + i + height, 1 + j : 1 + j + width]
        if (i, j) != (0, 0):
            minima &= errors < beside + (noise if (i, j) > (0, 0) else -noise)
    ranked = np.where(minima, errors, np.inf).reshape(count, -1)
    order = np.argsort(ranked, axis=-1, kind="stable")
    order = order[:, : 4 * _STARTS if n <= _FEW else _STARTS]
    there = np.isfinite(np.take_along_axis(ranked, order, -1))
    there[:, 0] = True
    rows, which = np.nonzero(there)
    chosen = order[rows, which]
    log_scales = np.broadcast_to(log_scales[:, None, :], errors.shape).reshape(count, -1)
    places = np.stack([centres.reshape(count, -1)[rows, chosen], log_scales[rows, chosen]], -1)
    return rows, places


def _gains(points: _Points, centres: Floats, scales: Floats) -> Floats:
    """Return by how much curves reduce the squared error of a constant, ``[R, S]``, negative."""
    share = np.tanh((points.z[:, None] - centres[..., None]) * (0.5 / scales)[..., None])
    weighted = points.weights[:, None] * share
    total = points.weights.sum(-1)[:, None]
    mean = weighted.sum(-1) / total
    mean_y = np.einsum("rn,rn->r", points.weights, points.y)[:, None] / total
    variance = np.einsum("rsn,rsn->rs", weighted, share) - total * mean**2
    covariance = np.einsum("rsn,rn->rs", weighted, points.y) - total * mean * mean_y
    bends = variance > 1e-12 * total
    found: Floats = -np.where(bends, covariance**2 / np.where(bends, variance, 1.0), 0.0)
    return found


def _steps(points: _Points, wider: tuple[float, ...]) -> tuple[Ints, Floats]:
    """Return the row and the place of the best steps: with no, or with one, distance on the rise.

    Sums over the sorted distances give the errors of all of them at once. The best one comes in
    several widths, whose logarithms are larger by ``wider``.
    """
    z, y = points.z, points.y
    count, n = z.shape
    new = np.ones(z.shape, bool)
    new[:, 1:] = z[:, 1:] != z[:, :-1]
    places = np.arange(n)
    first = np.maximum.accumulate(np.where(new, places, 0), axis=-1)
    ending = np.roll(new, -1, axis=-1)
    last = np.minimum.accumulate(np.where(ending, places, n)[:, ::-1], axis=-1)[:, ::-1]
    sums = np.concatenate([np.zeros((count, 1)), np.cumsum(y, axis=-1)], axis=-1)
    below, upto, total = (
        np.take_along_axis(sums, first, -1),
        np.take_along_axis(sums, last + 1, -1),
        sums[:, -1:],
    )
    n_low, n_on, n_high = first, last + 1 - first, n - 1 - last
    with np.errstate(divide="ignore", invalid="ignore"):
        low, on, high = below / n_low, (upto - below) / n_on, (total - upto) / n_high
        two = np.where(n_low > 0, n_low * low**2 + (total - below) ** 2 / (n - n_low), -np.inf)
        three = n_low * low**2 + n_on * on**2 + n_high * high**2
        rise = (on - low) / (high - low)
    inside = (n_low > 0) & (n_high > 0) & (rise > 0) & (rise < 1)
    three = np.where(inside, three, -np.inf)
    rows = np.arange(count)
    left = np.take_along_axis(z, np.maximum(first - 1, 0), -1)
    right = np.take_along_axis(z, np.minimum(last + 1, n - 1), -1)
    found_rows, found = [], []
    for kind, gains in (("two", two), ("three", three)):
        for place, at in enumerate(np.argsort(-gains, axis=-1, kind="stable")[:, :3].T):
            there = np.isfinite(gains[rows, at])
            here, before, after = (of[rows, at] for of in (z, left, right))
            gap = here - before if kind == "two" else np.minimum(here - before, after - here)
            scale = np.where(gap > 0, gap, 1.0) / (2 * _SATURATED)
            scale = np.maximum(scale, np.exp(points.least))
            if kind == "two":
                centre = (here + before) / 2
            else:
                share = np.clip(rise[rows, at], 1e-12, 1 - 1e-12)
                centre = here - scale * np.log(share / (1 - share))
            for width in wider if place == 0 else wider[:1]:
                found_rows.append(rows[there])
                found.append(np.stack([centre, np.log(scale) + width], -1)[there])
    return np.concatenate(found_rows), np.concatenate(found)


def _separated(points: _Points, centre: Floats, log_scale: Floats) -> _Fit:
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


def _refined(points: _Points, places: Floats, most: int) -> tuple[Floats, Floats]:
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


def _polished(points: _Points, places: Floats) -> tuple[Floats, Floats]:
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


def _gradient(points: _Points, places: Floats) -> Floats:
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


def _slopes(points: _Points, here: Floats, fit: _Fit) -> tuple[Floats, Floats]:
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
