"""Channel relevance: how much each channel of a network counts, learned from opinion.

The weighted Euclidean distance of a pair is ``sqrt(sum over channels(w d²))``, where ``d²`` is the
sum over positions of a channel's squared difference. These numbers are computed once, a row a pair;
everything after that is a small problem on a table.

Weights are fitted so that the squared distance, times a factor and plus a constant, is opinion, in
least squares, with weights of at least 0. A penalty draws them towards equal weights: strong where
opinions are few, weak where they decide. Its strength is chosen by cross-validation. The problem is
convex and has one solution.

All judgement is on references that the weights have not seen: folds are of reference images, the
strength is chosen inside each training part, and the gain over equal weights is a paired comparison
with its interval.

References
----------
P. Hernández-Cámara, J. Vila-Tomás, V. Laparra and J. Malo, "Analysis of Deep Image Quality Models",
arXiv:2302.13345; C. L. Lawson and R. J. Hanson, "Solving Least Squares Problems", 1974; J. Kim
and H. Park, SIAM Journal on Scientific Computing 33(6), 2011, for the block principal pivoting.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iqa_metrics import statistics

Floats = NDArray[np.float64]

STRENGTHS: tuple[float, ...] = tuple(float(s) for s in np.geomspace(1e-4, 1e4, 9))
"""Penalties that are tried, relative to the scale of the problem."""

_PATIENCE = 5


@dataclass(frozen=True)
class Calibration:
    """Weights for channels, and how they did on references that they had not seen.

    Attributes
    ----------
    weights
        ``[C]``, at least 0, their mean 1; all 1 where opinion decides nothing.
    strength
        The penalty that was chosen for them.
    held_out, uniform
        Distances of each pair, ``[n]``: by weights fitted without its reference, by equal ones.
    gain
        SROCC of the former less that of the latter, without signs, with its interval.
    strengths
        The penalty that was chosen in each fold.
    """

    weights: Floats
    strength: float
    held_out: Floats
    uniform: Floats
    gain: statistics.Interval
    strengths: tuple[float, ...]


def fit_weights(squares: ArrayLike, opinion: ArrayLike, strength: float) -> Floats:
    """Fit non-negative weights to opinion.

    Parameters
    ----------
    squares
        Squared differences of each channel, ``[n, C]``.
    opinion
        ``[n]``, higher for worse looking images.
    strength
        Penalty for being unequal, relative to the scale of the problem; positive.

    Returns
    -------
    ndarray
        ``[C]``, at least 0, their mean 1.

    Raises
    ------
    ValueError
        If shapes do not fit, or a value is not finite or a square negative.
    """
    x, y = _checked(squares, opinion)
    if not strength > 0:
        raise ValueError(f"strength: expected a positive number, got {strength}")
    return _fitted(_Problem.of(x, y), strength)


def calibrate(
    squares: ArrayLike,
    opinion: ArrayLike,
    references: Sequence[str],
    *,
    folds: int = 5,
    strengths: Iterable[float] = STRENGTHS,
    draws: int = 1000,
    seed: int = 0,
) -> Calibration:
    """Learn channel weights, and measure on unseen references what they gain.

    Parameters
    ----------
    squares
        Squared differences of each channel, ``[n, C]``.
    opinion
        ``[n]``, higher for worse looking images: turn MOS around first.
    references
        The reference image of each pair, ``[n]``. No reference is on both sides of a fold.
    folds
        How many parts the references are split into; at most as many as there are.
    strengths
        The penalties to choose from.
    draws, seed
        As for :class:`iqa_metrics.statistics.Resampling`; the seed splits the folds as well.

    Raises
    ------
    ValueError
        If shapes do not fit, a value is not finite, or there are fewer than 3 references.
    """
    x, y = _checked(squares, opinion)
    names = np.asarray(references, dtype=str)
    if names.shape != y.shape:
        raise ValueError(f"references: expected one a pair, {len(y)}, got {len(names)}")
    check_references(list(references), folds, draws)
    tried = sorted(strengths)
    parts = _folds(names, folds, seed)
    held_out, chosen = np.empty(len(y)), []
    for number, part in enumerate(parts):
        training = ~part
        strength = _chosen(x[training], y[training], names[training], folds, tried, seed + number)
        chosen.append(strength)
        weights = _fitted(_Problem.of(x[training], y[training]), strength)
        # Folds with unlike weights have unlike scales: each is brought to that of equal weights.
        level = x[training].sum() / max((x[training] @ weights).sum(), 1e-300)
        held_out[part] = np.sqrt(x[part] @ weights * level)
    uniform = np.sqrt(x.sum(1))
    strength = _chosen(x, y, names, folds, tried, seed)
    return Calibration(
        weights=_fitted(_Problem.of(x, y), strength),
        strength=strength,
        held_out=held_out,
        uniform=uniform,
        gain=statistics.srocc_difference(held_out, uniform, y, references, draws=draws, seed=seed),
        strengths=tuple(chosen),
    )


def check_references(references: Sequence[str], folds: int, draws: int) -> None:
    """Raise ValueError unless weights can be fitted, chosen and judged with those references."""
    unique = len(set(references))
    if unique < 3:
        raise ValueError(
            f"expected pairs of at least 3 references, got {unique}: weights are fitted on some, "
            "chosen on others, and judged on others again"
        )
    if folds < 2:
        raise ValueError(f"folds: expected at least 2, got {folds}")
    if draws < 1:
        raise ValueError(f"draws: expected at least 1, got {draws}")


def by_layer(weights: Floats, channels: Mapping[str, int]) -> dict[str, list[float]]:
    """Split weights ``[C]`` by layers' channels, in order: what metrics take as channel weights."""
    if sum(channels.values()) != len(weights):
        raise ValueError(f"expected {sum(channels.values())} weights, got {len(weights)}")
    ends = np.cumsum(list(channels.values()))
    parts = np.split(weights, ends[:-1])
    return {layer: part.tolist() for layer, part in zip(channels, parts, strict=True)}


def _checked(squares: ArrayLike, opinion: ArrayLike) -> tuple[Floats, Floats]:
    x, y = (np.asarray(values, dtype=np.float64) for values in (squares, opinion))
    if x.ndim != 2 or y.shape != x.shape[:1] or not x.size:
        raise ValueError(
            f"expected squares [n, C] and opinion [n], got {list(x.shape)} and {list(y.shape)}"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all() and (x >= 0).all()):
        raise ValueError("expected finite opinion and finite squares of at least 0")
    return x, y


def _folds(names: NDArray[np.str_], count: int, seed: int) -> list[NDArray[np.bool_]]:
    """Return for each fold which pairs are held out, references dealt out at random."""
    unique = np.unique(names)
    dealt = np.random.default_rng(seed).permutation(unique)
    return [np.isin(names, dealt[first::count]) for first in range(min(count, len(unique)))]


def _chosen(
    x: Floats,
    y: Floats,
    names: NDArray[np.str_],
    folds: int,
    strengths: Sequence[float],
    seed: int,
) -> float:
    """Return the penalty whose weights order unseen references' pairs best, by mean SROCC."""
    if len(strengths) == 1:
        return strengths[0]
    scores = np.zeros((len(strengths), 0))
    for part in _folds(names, folds, seed):
        if len(np.unique(y[part])) < 2 or part.all():
            continue
        problem = _Problem.of(x[~part], y[~part])
        distances = np.stack([np.sqrt(x[part] @ _fitted(problem, s)) for s in strengths])
        found = np.nan_to_num(statistics.srocc(distances, y[part]))
        scores = np.concatenate([scores, found[:, None] * part.sum()], axis=1)
    # Of equals, the one that trusts opinion least.
    totals = np.round(scores.sum(1), 12)
    return (
        strengths[int(np.flatnonzero(totals == totals.max())[-1])] if totals.size else strengths[-1]
    )


@dataclass(frozen=True)
class _Problem:
    """Least squares with free scale and constant, as its normal equations.

    Attributes
    ----------
    gram, moment
        ``X'X / n`` and ``X'y / n`` of centred channels, in units of the distance by equal weights.
    uniform
        The factor of equal weights in least squares, at least 0.
    unit
        By which channels were divided.
    """

    gram: Floats
    moment: Floats
    uniform: float
    unit: float

    @classmethod
    def of(cls, x: Floats, y: Floats) -> "_Problem":
        total = x.sum(1)
        unit = float(total.std()) or 1.0
        centred = (x - x.mean(0)) / unit
        moment = centred.T @ (y - y.mean()) / len(y)
        # The total has variance 1 in that unit, so its factor is its covariance.
        return cls(centred.T @ centred / len(y), moment, max(0.0, float(moment.sum())), unit)


def _fitted(problem: _Problem, strength: float) -> Floats:
    """Return weights of mean 1 that minimise the penalised error."""
    count = len(problem.moment)
    # The penalty is on (w - uniform)², in units of the mean curvature.
    penalty = strength * float(np.trace(problem.gram)) / count or 1.0
    gram = problem.gram + penalty * np.eye(count)
    weights = _non_negative(gram, problem.moment + penalty * problem.uniform)
    total = weights.sum()
    return np.ones(count) if total <= 0 else weights * (count / total)


def _non_negative(gram: Floats, target: Floats) -> Floats:
    """Return w of at least 0 that minimises ``w'Gw / 2 - t'w``, by block principal pivoting.

    Which weights are 0 is guessed; the others then follow from linear equations, and all that
    contradicts the guess changes sides. Mostly a few guesses do. Where they do not come nearer any
    more, weights are freed one by one instead.
    """
    count = len(target)
    # What rounding leaves is no contradiction.
    least = 1e-10 * max(float(np.abs(target).max()), 1e-300)
    diagonal = np.diag(gram)
    free = np.ones(count, bool)
    fewest, patience = count + 1, _PATIENCE
    while patience:
        weights = np.zeros(count)
        weights[free] = np.linalg.solve(gram[np.ix_(free, free)], target[free])
        wrong = np.where(free, weights * diagonal < -least, gram @ weights - target < -least)
        number = int(wrong.sum())
        if not number:
            return np.maximum(weights, 0.0)
        patience = _PATIENCE if number < fewest else patience - 1
        fewest = min(fewest, number)
        free ^= wrong
    return _one_by_one(gram, target, least)


def _one_by_one(gram: Floats, target: Floats, least: float) -> Floats:
    """Return the same by Lawson and Hanson's way, which is sure to end."""
    weights = np.zeros(len(target))
    free = np.zeros(len(target), bool)
    for _ in range(3 * len(target)):
        slope = np.where(free, 0.0, gram @ weights - target)
        if slope.min() >= -least:
            break
        free[slope.argmin()] = True
        while free.any():
            wanted = np.zeros(len(target))
            wanted[free] = np.linalg.solve(gram[np.ix_(free, free)], target[free])
            low = free & (wanted <= 0)
            if not low.any():
                weights = wanted
                break
            # As far as the first of them that would fall below 0.
            reach = (weights[low] / (weights[low] - wanted[low])).min()
            weights = np.where(free, weights + reach * (wanted - weights), 0.0)
            free &= weights > 1e-15 * weights.max(initial=0.0)
            weights[~free] = 0.0
    return weights
