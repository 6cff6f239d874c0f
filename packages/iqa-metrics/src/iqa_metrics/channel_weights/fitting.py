"""Fit channel weights to opinion scores: least squares with non-negative weights.

The weighted Euclidean distance of a pair is ``sqrt(sum over channels(w d²))``, where ``d²`` is the
sum over positions of a channel's squared difference. The ``d²`` are computed once, one row per
pair; everything after that is a small problem on a table.

Weights are fitted so that the squared distance, times a factor plus a constant, approximates the
opinion scores in least squares. A penalty pulls them towards equal weights; its strength is chosen
elsewhere, in :mod:`iqa_metrics.channel_weights.held_out`. The problem is convex and has one
solution.

References
----------
P. Hernández-Cámara, J. Vila-Tomás, V. Laparra and J. Malo, "Analysis of Deep Image Quality Models",
arXiv:2302.13345, which learns the relevance of channels; C. L. Lawson and R. J. Hanson, "Solving
Least Squares Problems", 1974; J. Kim and H. Park, SIAM Journal on Scientific Computing 33(6), 2011,
for the block principal pivoting.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_PATIENCE = 5


def fit_weights(squares: ArrayLike, opinion: ArrayLike, strength: float) -> Floats:
    """Fit non-negative weights to opinion scores.

    Parameters
    ----------
    squares
        The squared difference of each channel, ``[n, C]``.
    opinion
        The opinion scores, ``[n]``, higher for worse-looking images.
    strength
        The strength of the penalty on unequal weights, relative to the scale of the problem;
        positive.

    Returns
    -------
    ndarray
        The weights, ``[C]``, at least 0 and with mean 1.

    Raises
    ------
    ValueError
        If the shapes do not fit, if a value is not finite, if a square is negative, or if the
        strength is not positive.
    """
    x, y = checked(squares, opinion)
    if not strength > 0:
        raise ValueError(f"strength: expected a positive number, got {strength}")
    return Problem.of(x, y).weights(strength)


def checked(squares: ArrayLike, opinion: ArrayLike) -> tuple[Floats, Floats]:
    """Return squares and opinion scores as float64, or raise ValueError if they can't be used."""
    x, y = (np.asarray(values, dtype=np.float64) for values in (squares, opinion))
    if x.ndim != 2 or y.shape != x.shape[:1] or not x.size:
        raise ValueError(
            f"expected squares [n, C] and opinion scores [n], got {list(x.shape)} and "
            f"{list(y.shape)}"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all() and (x >= 0).all()):
        raise ValueError("expected finite opinion scores, and finite squares of at least 0")
    return x, y


@dataclass(frozen=True)
class Problem:
    """Least squares with a free scale and constant, as normal equations.

    Attributes
    ----------
    gram, moment
        ``X'X / n`` and ``X'y / n`` of centred channels, divided by ``unit``.
    uniform
        The factor that equal weights get in least squares, at least 0.
    unit
        The standard deviation of the squared distance with equal weights.
    """

    gram: Floats
    moment: Floats
    uniform: float
    unit: float

    @classmethod
    def of(cls, x: Floats, y: Floats) -> "Problem":
        """Make the problem from squares ``[n, C]`` and opinion scores ``[n]``."""
        total = x.sum(1)
        unit = float(total.std()) or 1.0
        centred = (x - x.mean(0)) / unit
        moment = centred.T @ (y - y.mean()) / len(y)
        # In this unit the total has variance 1, so its least-squares factor is its covariance.
        return cls(centred.T @ centred / len(y), moment, max(0.0, float(moment.sum())), unit)

    def weights(self, strength: float) -> Floats:
        """Return the weights that minimise the penalised error, scaled to mean 1."""
        count = len(self.moment)
        # The penalty applies to (w - uniform)², in units of the mean curvature.
        penalty = strength * float(np.trace(self.gram)) / count or 1.0
        gram = self.gram + penalty * np.eye(count)
        weights = _non_negative(gram, self.moment + penalty * self.uniform)
        total = weights.sum()
        return np.ones(count) if total <= 0 else weights * (count / total)


def _non_negative(gram: Floats, target: Floats) -> Floats:
    """Return the non-negative w that minimises ``w'Gw / 2 - t'w``, by block principal pivoting.

    The algorithm guesses which weights are 0 and gets the others from linear equations. All weights
    that contradict the guess then change sides. A few iterations are usually enough. If they stop
    making progress, weights are freed one by one instead.
    """
    count = len(target)
    # Contradictions below this size are rounding errors.
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
    """Return the same by Lawson and Hanson's method, which is guaranteed to end."""
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
            # Go as far as the first weight that would become negative.
            reach = (weights[low] / (weights[low] - wanted[low])).min()
            weights = np.where(free, weights + reach * (wanted - weights), 0.0)
            free &= weights > 1e-15 * weights.max(initial=0.0)
            weights[~free] = 0.0
    return weights
