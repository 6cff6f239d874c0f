"""Channel weights learned from opinion and judged on reference images that they have not seen.

Folds are of reference images, the strength of the penalty is chosen inside each training part, and
the gain over equal weights is a paired comparison with its interval.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iqa_metrics import statistics
from iqa_metrics.channel_weights.fitting import Floats, Problem, checked

STRENGTHS: tuple[float, ...] = tuple(float(s) for s in np.geomspace(1e-4, 1e4, 9))
"""Penalties that are tried, relative to the scale of the problem."""


@dataclass(frozen=True)
class LearnedWeights:
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


def learn_weights(
    squares: ArrayLike,
    opinion: ArrayLike,
    references: Sequence[str],
    *,
    folds: int = 5,
    strengths: Iterable[float] = STRENGTHS,
    draws: int = 1000,
    seed: int = 0,
) -> LearnedWeights:
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
    x, y = checked(squares, opinion)
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
        weights = Problem.of(x[training], y[training]).weights(strength)
        # Folds with unlike weights have unlike scales: each is brought to that of equal weights.
        level = x[training].sum() / max((x[training] @ weights).sum(), 1e-300)
        held_out[part] = np.sqrt(x[part] @ weights * level)
    uniform = np.sqrt(x.sum(1))
    strength = _chosen(x, y, names, folds, tried, seed)
    return LearnedWeights(
        weights=Problem.of(x, y).weights(strength),
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
        problem = Problem.of(x[~part], y[~part])
        distances = np.stack([np.sqrt(x[part] @ problem.weights(s)) for s in strengths])
        found = np.nan_to_num(statistics.srocc(distances, y[part]))
        scores = np.concatenate([scores, found[:, None] * part.sum()], axis=1)
    # Of equals, the one that trusts opinion least.
    totals = np.round(scores.sum(1), 12)
    return (
        strengths[int(np.flatnonzero(totals == totals.max())[-1])] if totals.size else strengths[-1]
    )
