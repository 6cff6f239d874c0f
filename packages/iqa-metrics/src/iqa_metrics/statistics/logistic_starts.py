"""Where the search for the least squares logistic starts: grids and steps.

The error of centres and scales has many local minima: steep curves between any two distances, and
curves of which the data shows only one end. So there is a start in every local minimum on a grid
that does not depend on units, and in the best step functions.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iqa_metrics.statistics.correlations import Floats

Ints = NDArray[np.intp]

FEW = 40
"""Up to so many points, the search leaves no stone unturned."""
BINS = 240
"""Most points that starts are searched on."""
SATURATED = 80.0
"""So many scales from the centre, the curve equals its asymptote to the last digit."""
_SCALES = 26
_STARTS = 8
_GRID = 2**17
"""Number of values that are computed together, so that they fit in the cache."""


@dataclass(frozen=True)
class Points:
    """Distances in [0, 1], sorted, with opinions and weights, ``[R, n]`` each.

    ``least`` is the logarithm of a scale at which every curve is a step, ``[R]``.
    """

    z: Floats
    y: Floats
    weights: Floats
    least: Floats

    def of(self, rows: Ints | slice) -> "Points":
        """Return the points of some rows."""
        return Points(self.z[rows], self.y[rows], self.weights[rows], self.least[rows])


def binned(whole: Points) -> Points:
    """Return the means of neighbouring points, equally many in each."""
    n = whole.z.shape[1]
    edges = np.linspace(0, n, BINS + 1).astype(np.intp)[:-1]
    sizes = np.diff([*edges, n]).astype(np.float64)
    z, y = (np.add.reduceat(of, edges, axis=-1) / sizes for of in (whole.z, whole.y))
    return Points(z, y, np.broadcast_to(sizes, z.shape), whole.least)


def grid_minima(points: Points) -> tuple[Ints, Floats]:
    """Return the row and the place of the lowest local minima on a grid."""
    z = points.z
    count, n = z.shape
    # The bend may lie where most pairs are, however far away the others are.
    inner = np.quantile(z, np.linspace(0, 1, 49 if n <= FEW else 29), axis=-1).T
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
    order = order[:, : 4 * _STARTS if n <= FEW else _STARTS]
    there = np.isfinite(np.take_along_axis(ranked, order, -1))
    there[:, 0] = True
    rows, which = np.nonzero(there)
    chosen = order[rows, which]
    log_scales = np.broadcast_to(log_scales[:, None, :], errors.shape).reshape(count, -1)
    places = np.stack([centres.reshape(count, -1)[rows, chosen], log_scales[rows, chosen]], -1)
    return rows, places


def _gains(points: Points, centres: Floats, scales: Floats) -> Floats:
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


def best_steps(points: Points, wider: tuple[float, ...]) -> tuple[Ints, Floats]:
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
            scale = np.where(gap > 0, gap, 1.0) / (2 * SATURATED)
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
