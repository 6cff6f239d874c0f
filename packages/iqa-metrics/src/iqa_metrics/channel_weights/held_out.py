"""Learn channel weights from opinion scores, and test them on unseen reference images.

Reference images are split into folds. The strength of the penalty is selected within each training
set, and the gain over equal weights is a paired comparison with an interval.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iqa_metrics import statistics
from iqa_metrics.channel_weights.fitting import Floats, Problem, checked

STRENGTHS: tuple[float, ...] = tuple(float(s) for s in np.geomspace(1e-4, 1e4, 9))
"""The strengths of the penalty to select from, relative to the scale of the problem."""


@dataclass(frozen=True)
class LearnedWeights:
    """Learned channel weights, and their results on unseen references.

    Attributes
    ----------
    weights
        The weights learned from all pairs, ``[C]``, at least 0 and with mean 1; all 1 if the
        opinion scores say nothing about them.
    strength
        The strength of the penalty that was selected for them.
    held_out, uniform
        The distance of each pair, ``[n]``: with weights that were fitted without the pair's
        reference, and with equal weights.
    gain
        The absolute SROCC of the former minus that of the latter, with its interval.
    strengths
        The strength of the penalty that was selected in each fold.
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
    """Learn channel weights, and measure their gain over equal weights on unseen references.

    Parameters
    ----------
    squares
        The squared difference of each channel, ``[n, C]``.
    opinion
        The opinion scores, ``[n]``, higher for worse-looking images; negate MOS first.
    references
        The name of each pair's reference image, ``[n]``. All pairs of a reference are in the same
        fold.
    folds
        The number of folds. There are never more than references.
    strengths
        The strengths of the penalty to select from.
    draws, seed
        As for :class:`iqa_metrics.statistics.Resampling`; the seed also splits the folds.

    Raises
    ------
    ValueError
        If the shapes do not fit, if a value is not finite, if there are fewer than 3 references, or
        if ``folds`` or ``draws`` is too small.
    """
    x, y = checked(squares, opinion)
    names = np.asarray(references, dtype=str)
    if names.shape != y.shape:
        raise ValueError(
            f"references: expected one per pair, so {len(y)} of them, got {len(names)}"
        )
    check_references(list(references), folds, draws)
    tried = sorted(strengths)
    parts = _folds(names, folds, seed)
    held_out, chosen = np.empty(len(y)), []
    for number, part in enumerate(parts):
        training = ~part
        strength = _chosen(x[training], y[training], names[training], folds, tried, seed + number)
        chosen.append(strength)
        weights = Problem.of(x[training], y[training]).weights(strength)
        # Weights of different folds have different scales; bring each to that of equal weights.
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
    """Raise ValueError if weights can't be learned and tested with these references."""
    unique = len(set(references))
    if unique < 3:
        raise ValueError(
            f"expected pairs with at least 3 references, got {unique}: fitting weights, selecting "
            "the penalty and testing take different references"
        )
    if folds < 2:
        raise ValueError(f"folds: expected at least 2, got {folds}")
    if draws < 1:
        raise ValueError(f"draws: expected at least 1, got {draws}")


def by_layer(weights: Floats, channels: Mapping[str, int]) -> dict[str, list[float]]:
    """Split weights ``[C]`` into those of each layer, as metrics take them."""
    if sum(channels.values()) != len(weights):
        raise ValueError(f"expected {sum(channels.values())} weights, got {len(weights)}")
    ends = np.cumsum(list(channels.values()))
    parts = np.split(weights, ends[:-1])
    return {layer: part.tolist() for layer, part in zip(channels, parts, strict=True)}


def _folds(names: NDArray[np.str_], count: int, seed: int) -> list[NDArray[np.bool_]]:
    """Return a mask of the held-out pairs for each fold; references are assigned at random."""
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
    """Return the strength whose weights have the highest mean SROCC on unseen references."""
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
    # Of several that are equally good, take the strongest penalty.
    totals = np.round(scores.sum(1), 12)
    return (
        strengths[int(np.flatnonzero(totals == totals.max())[-1])] if totals.size else strengths[-1]
    )
