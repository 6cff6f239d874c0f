"""How well distances agree with people's opinion, and how sure that is.

Correlations take whole tables: distances ``[..., n]`` with one opinion ``[n]`` give ``[...]``, so a
study's thousand readouts are one call. Signs are kept: a good distance has a negative correlation
with MOS and a positive one with DMOS. Ties get mean ranks, and constant input gives NaN, as in
scipy. NaN in the data gives NaN.

Intervals come from a bootstrap that draws **reference images**, all of a reference's pairs with it.
Pairs of one reference are alike, so drawing pairs would make intervals far too narrow. A draw is a
count for each reference; no pair is copied, and all draws share one sort.

References
----------
B. Efron and R. J. Tibshirani, "An Introduction to the Bootstrap", 1993; M. G. Kendall, "Rank
Correlation Methods", 1948; ITU-T P.1401 (2020); VQEG, "Final Report on the Validation of Objective
Models of Video Quality Assessment", 2000; S. Holm, Scandinavian Journal of Statistics 6, 1979.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Correlation = Callable[[Floats, Floats], Floats]

_STARTS = 4
_DRAWS_AT_ONCE = 2**22
"""Elements of a temporary table: 32 MiB."""


# Correlations -----------------------------------------------------------------------------------


def plcc(distances: ArrayLike, opinion: ArrayLike) -> Floats:
    """Return Pearson's linear correlation coefficient.

    Parameters
    ----------
    distances
        ``[..., n]``.
    opinion
        ``[n]``, or of the distances' shape.

    Returns
    -------
    ndarray
        ``[...]``, in [-1, 1].

    Raises
    ------
    ValueError
        If the shapes do not fit, or there are fewer than 2 pairs.
    """
    x, y = _fitting(distances, opinion)
    return _pearson(x, y)


def srocc(distances: ArrayLike, opinion: ArrayLike) -> Floats:
    """Return Spearman's rank-order correlation coefficient; ties get their mean rank.

    Parameters, result and errors as of :func:`plcc`.
    """
    x, y = _fitting(distances, opinion)
    return _pearson(ranks(x), ranks(y))


def krocc(distances: ArrayLike, opinion: ArrayLike) -> Floats:
    """Return Kendall's rank-order correlation coefficient tau-b, which corrects for ties.

    Parameters, result and errors as of :func:`plcc`. All pairs of pairs are compared, in blocks.
    """
    x, y = _fitting(distances, opinion)
    shape, n = x.shape[:-1], x.shape[-1]
    x = x.reshape(-1, n)
    y = np.broadcast_to(y, (*shape, n)).reshape(-1, n) if y.ndim > 1 else y[None]
    found = [_tau_b(row, y[index % len(y)]) for index, row in enumerate(x)]
    return np.array(found, dtype=np.float64).reshape(shape)


def rmse(predicted: ArrayLike, opinion: ArrayLike) -> Floats:
    """Return the root of the mean squared error of predictions ``[..., n]``, in opinion's units."""
    x, y = _fitting(predicted, opinion)
    found: Floats = np.sqrt(np.square(x - y).mean(-1))
    return found


def two_afc(first: ArrayLike, second: ArrayLike, chose_second: ArrayLike) -> Floats:
    """Return the share of people whom a metric agrees with about which of two images is worse.

    Parameters
    ----------
    first, second
        Distances of both images from the reference, ``[..., n]``.
    chose_second
        Share of people who found the second one nearer to the reference, ``[n]``, in [0, 1].

    Returns
    -------
    ndarray
        ``[...]``, in [0, 1]; equal distances agree with one half.

    References
    ----------
    R. Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR
    2018, section 4.
    """
    a, b = _fitting(first, second)
    share = np.asarray(chose_second, dtype=np.float64)
    agreed = np.where(a < b, 1 - share, np.where(a > b, share, 0.5))
    found: Floats = np.where(np.isnan(a + b + share), np.nan, agreed).mean(-1)
    return found


def ranks(values: ArrayLike) -> Floats:
    """Return ranks from 1 along the last axis; equal values get the mean of their ranks.

    A row with NaN in it has ranks of NaN.
    """
    values = np.asarray(values, dtype=np.float64)
    found = np.full(values.shape, np.nan)
    for index in np.ndindex(values.shape[:-1]):
        if not np.isnan(values[index]).any():
            found[index] = _Ties(values[index]).mean_ranks()
    return found


def _fitting(distances: ArrayLike, opinion: ArrayLike) -> tuple[Floats, Floats]:
    x, y = (np.asarray(values, dtype=np.float64) for values in (distances, opinion))
    if x.ndim < 1 or y.shape not in (x.shape, x.shape[-1:]) or x.shape[-1] < 2:
        raise ValueError(
            "expected distances [..., n] and opinion [n] or of the same shape, n at least 2; got "
            f"{list(x.shape)} and {list(y.shape)}"
        )
    return x, y


def _pearson(x: Floats, y: Floats, weights: Floats | float = 1.0) -> Floats:
    """Return the correlation along the last axis; NaN where one does not vary."""
    weights = np.broadcast_to(np.asarray(weights, dtype=np.float64), np.broadcast(x, y).shape)
    total = weights.sum(-1, keepdims=True)
    # What is left of a constant by rounding is no variation.
    least = [1e-30 * np.square(np.abs(v).max(-1, initial=0)) * total[..., 0] for v in (x, y)]
    with np.errstate(invalid="ignore", divide="ignore"):
        x, y = (v - (weights * v).sum(-1, keepdims=True) / total for v in (x, y))
        xx, yy = ((weights * v * v).sum(-1) for v in (x, y))
        found = (weights * x * y).sum(-1) / np.sqrt(xx * yy)
    flat = (xx <= least[0]) | (yy <= least[1])
    return np.where(flat, np.nan, np.clip(found, -1, 1))


def _tau_b(x: Floats, y: Floats) -> float:
    if np.isnan(x).any() or np.isnan(y).any():
        return float("nan")
    # Ranks have the same signs of differences, and can't overflow; a sign fits a byte.
    a, b = (_Ties(v).mean_ranks().astype(np.float32) for v in (x, y))
    n = len(x)
    step = max(1, _DRAWS_AT_ONCE // n)
    agree = untied_x = untied_y = 0
    for first in range(0, n, step):
        rows = slice(first, first + step)
        sx, sy = (np.sign(v[rows, None] - v[None, :]).astype(np.int8) for v in (a, b))
        agree += int((sx * sy).sum(dtype=np.int64))
        untied_x += int(np.count_nonzero(sx))
        untied_y += int(np.count_nonzero(sy))
    if not untied_x or not untied_y:
        return float("nan")
    return float(agree / np.sqrt(float(untied_x) * float(untied_y)))


class _Ties:
    """Values sorted once, to rank any number of samples of them.

    Parameters
    ----------
    values
        ``[n]``.
    """

    def __init__(self, values: Floats) -> None:
        self.order = np.argsort(values, kind="stable")
        ordered = values[self.order]
        self.starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        self.group = np.repeat(np.arange(len(self.starts)), np.diff([*self.starts, len(values)]))

    def mean_ranks(self, counts: Floats | None = None) -> Floats:
        """Return ranks of a sample that holds value i ``counts[..., i]`` times, ``[..., n]``.

        Values that it does not hold get the rank that they would have between the others.
        """
        n = len(self.order)
        counts = np.ones(n) if counts is None else counts
        of_group = np.add.reduceat(counts[..., self.order], self.starts, axis=-1)
        below = np.cumsum(of_group, axis=-1) - of_group
        mean = below + (of_group + 1) / 2
        found = np.empty_like(counts, dtype=np.float64)
        found[..., self.order] = mean[..., self.group]
        return found


# The logistic of VQEG -----------------------------------------------------------------------------


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
    x, y = _fitting(distances, opinion)
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
    x, y = _fitting(distances, opinion)
    rows = x.reshape(-1, x.shape[-1])
    found = np.full((2, len(rows)), np.nan)
    for index, row in enumerate(rows):
        if np.isfinite(row).all() and np.isfinite(y).all() and len(row) >= 4:
            predicted = fit_logistic(row, y)(row)
            found[:, index] = _pearson(predicted, y), rmse(predicted, y)
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


# Intervals --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval, for each row of a table.

    Attributes
    ----------
    value
        The estimate on all pairs, ``[...]``.
    low, high
        The interval's ends, ``[...]``. NaN where a draw has no value: of few references, one may
        hold a single reference whose opinions or distances do not vary.
    p
        Two-sided p-value of the value being 0, by the share of draws on its other side, ``[...]``.
    draws
        How many draws of references it comes from.
    """

    value: Floats
    low: Floats
    high: Floats
    p: Floats
    draws: int


@dataclass(frozen=True)
class Resampling:
    """Draws of reference images, the same for all that is compared.

    Parameters
    ----------
    references
        The reference of each pair, ``[n]``.
    draws
        How many samples are drawn; each has as many references as there are, some repeatedly.
    seed
        Of the draws. They are the same for the same references in the same order.
    """

    references: Sequence[str]
    draws: int = 1000
    seed: int = 0

    def counts(self) -> Floats:
        """Return how often each pair is in each sample, ``[draws, n]``.

        Raises
        ------
        ValueError
            If there are fewer than 2 references, or no draws.
        """
        names, index = np.unique(np.asarray(self.references, dtype=str), return_inverse=True)
        if len(names) < 2:
            raise ValueError(
                f"expected pairs of at least 2 references, got {len(names)}: an interval says how "
                "much another choice of references would have changed"
            )
        if self.draws < 1:
            raise ValueError(f"draws: expected at least 1, got {self.draws}")
        stream = np.random.default_rng(self.seed)
        drawn = stream.multinomial(len(names), np.full(len(names), 1 / len(names)), self.draws)
        return drawn[:, index].astype(np.float64)


def srocc_interval(
    distances: ArrayLike,
    opinion: ArrayLike,
    references: Sequence[str],
    *,
    draws: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Return SROCC with a bootstrap interval over reference images.

    Parameters
    ----------
    distances
        ``[..., n]``.
    opinion
        ``[n]``.
    references
        The reference image of each pair, ``[n]``.
    draws, seed
        As for :class:`Resampling`.
    confidence
        Share of the draws inside the interval (percentiles).

    Raises
    ------
    ValueError
        If shapes do not fit or there are fewer than 2 references.
    """
    x, y = _fitting(distances, opinion)
    samples = _srocc_draws(x, y, Resampling(references, draws, seed))
    return _interval(srocc(x, y), samples, confidence)


def srocc_difference(
    first: ArrayLike,
    second: ArrayLike,
    opinion: ArrayLike,
    references: Sequence[str],
    *,
    absolute: bool = True,
    draws: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Return how much better one metric agrees with opinion than another, on the same pairs.

    Both are measured on the same draws of references, so that what makes a reference hard for both
    falls out of the difference.

    Parameters
    ----------
    first, second
        Distances or similarities, ``[..., n]`` each; one of them may be a single row.
    absolute
        Compare how strong correlations are whatever their sign, as is right for a distance beside a
        similarity.
    opinion, references, draws, seed, confidence
        As for :func:`srocc_interval`.

    Returns
    -------
    Interval
        Of the first's SROCC minus the second's.
    """
    a, y = _fitting(first, opinion)
    b, _ = _fitting(second, opinion)
    a, b = np.broadcast_arrays(a, b)  # a table beside one baseline
    resampling = Resampling(references, draws, seed)
    values, samples = [], []
    for x in (a, b):
        value, drawn = srocc(x, y), _srocc_draws(x, y, resampling)
        if absolute:
            # The sign is that of all pairs: a draw of the other sign counts against it.
            sign = np.where(value < 0, -1.0, 1.0)
            value, drawn = value * sign, drawn * sign
        values.append(value)
        samples.append(drawn)
    return _interval(values[0] - values[1], samples[0] - samples[1], confidence)


def _srocc_draws(x: Floats, y: Floats, resampling: Resampling) -> Floats:
    """Return SROCC of each draw, ``[draws, ...]``."""
    counts = resampling.counts()
    if counts.shape[1] != y.shape[-1]:
        raise ValueError(f"expected a reference for each of {y.shape[-1]} pairs")
    if y.ndim != 1:
        raise ValueError(f"opinion: expected [n], got {list(y.shape)}")
    rows = x.reshape(-1, x.shape[-1])
    found = np.empty((len(counts), len(rows)))
    step = max(1, _DRAWS_AT_ONCE // counts.shape[1])
    of_rows = [None if np.isnan(row).any() else _Ties(row) for row in rows]
    of_opinion = None if np.isnan(y).any() else _Ties(y)
    for first in range(0, len(counts), step):
        part = counts[first : first + step]
        opinion = None if of_opinion is None else _standardised(of_opinion.mean_ranks(part), part)
        for index, ties in enumerate(of_rows):
            if ties is None or opinion is None:
                found[first : first + step, index] = np.nan
                continue
            ranked = _standardised(ties.mean_ranks(part), part)
            found[first : first + step, index] = np.einsum("dn,dn,dn->d", part, ranked, opinion)
    return found.reshape(len(counts), *x.shape[:-1])


def _standardised(values: Floats, counts: Floats) -> Floats:
    """Return values whose counted mean is 0 and whose counted square sums to 1, by row."""
    total = counts.sum(-1, keepdims=True)
    centred = values - np.einsum("dn,dn->d", counts, values)[:, None] / total
    length = np.sqrt(np.einsum("dn,dn,dn->d", counts, centred, centred))[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(length > 0, centred / length, np.nan)


def _interval(value: Floats, samples: Floats, confidence: float) -> Interval:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: expected a share between 0 and 1, got {confidence}")
    tail = (1 - confidence) / 2
    low, high = np.quantile(samples, [tail, 1 - tail], axis=0)
    draws = len(samples)
    # Counted as if the value itself were one more draw: never 0, which no sample could show.
    sides = [(samples <= 0).sum(0), (samples >= 0).sum(0)]
    p = np.minimum(1.0, 2 * (np.minimum(*sides) + 1) / (draws + 1))
    p = np.where(np.isnan(samples).any(0), np.nan, p)
    return Interval(value, low, high, p, draws)


# Several databases, several tests -----------------------------------------------------------------


def pooled(correlations: ArrayLike, counts: ArrayLike) -> Floats:
    """Return the mean correlation over databases, by Fisher's z and weighted by their size.

    Scales of unlike databases are never mixed: each has a correlation of its own, and these are
    averaged as ``atanh``, with weights ``n - 3``.

    Parameters
    ----------
    correlations
        ``[k, ...]``, a row a database; NaN where a database lacks one, which is left out.
    counts
        Number of pairs of each database, ``[k]``, at least 4.

    Returns
    -------
    ndarray
        ``[...]``. NaN where no database has a value.

    References
    ----------
    R. A. Fisher, Metron 1, 1921.
    """
    r = np.asarray(correlations, dtype=np.float64)
    n = np.asarray(counts, dtype=np.float64)
    if r.ndim < 1 or n.shape != r.shape[:1] or not (n >= 4).all():
        raise ValueError(
            f"expected correlations [k, ...] and counts [k] of at least 4, got {list(r.shape)} and "
            f"{n.tolist()}"
        )
    weights = np.where(np.isnan(r), 0.0, (n - 3).reshape(-1, *[1] * (r.ndim - 1)))
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.arctanh(np.clip(np.nan_to_num(r), -1, 1))
        mean: Floats = np.tanh((weights * np.where(weights > 0, z, 0.0)).sum(0) / weights.sum(0))
    return mean


def holm(p: Iterable[float]) -> Floats:
    """Return p-values corrected for a family of tests, by Holm's step-down procedure.

    Parameters
    ----------
    p
        The family's p-values; NaN where a test could not be made, which does not count.

    Returns
    -------
    ndarray
        In the same order, at most 1.

    References
    ----------
    S. Holm, "A simple sequentially rejective multiple test procedure", 1979.
    """
    given = np.asarray(list(p), dtype=np.float64)
    corrected = np.full(given.shape, np.nan)
    there = np.flatnonzero(~np.isnan(given))
    order = there[np.argsort(given[there], kind="stable")]
    steps = given[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return corrected
