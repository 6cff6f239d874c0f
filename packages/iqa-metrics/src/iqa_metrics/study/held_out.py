"""Choose the best of many series on some references, and judge it on the others.

The best of many layers looks better on the data that it was chosen on than it is. So each reference
image is judged by the series that agrees best with people on all other references.

For that, the agreement of a series is split into the contributions of the references: jackknife
pseudo-values, whose mean is the agreement. The held-out value is the mean of the contributions
that each reference makes with the series that was chosen without it. If the same series is chosen
every time, that is its agreement. In each bootstrap replicate everything is chosen again, because
another choice on other references is part of how uncertain the result is. Intervals that take the
choice for granted are far too narrow when several series are about equally good.

Several databases are held out one by one, in the same way.

References
----------
M. Stone, "Cross-validatory choice and assessment of statistical predictions", Journal of the Royal
Statistical Society B 36(2), 1974; B. Efron and R. J. Tibshirani, "An Introduction to the
Bootstrap", 1993, chapters 11 (pseudo-values) and 17; G. C. Cawley and N. L. C. Talbot, "On
over-fitting in model selection and subsequent selection bias in performance evaluation", JMLR 11,
2010.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from iqa_metrics import statistics
from iqa_metrics.statistics import Bootstrap
from iqa_metrics.study.distances import Floats

Places = NDArray[np.intp]
_LARGEST = 2**22
"""Most values in a temporary table."""
_WORST = -2.0
"""What a series without a correlation counts as when the best is chosen."""


@dataclass(frozen=True)
class HeldOut:
    """The result of choosing among series.

    Attributes
    ----------
    agreement
        The held-out agreement, a scalar with bootstrap replicates.
    chosen
        The index of the series that was chosen for each fold.
    """

    agreement: Bootstrap
    chosen: Places


class Folds(Protocol):
    """The parts of the data that are held out one by one, and the agreement of series on them."""

    def held_out(self, candidates: Sequence[int]) -> HeldOut:
        """Return the agreement where each fold is judged by the candidate chosen without it.

        Parameters
        ----------
        candidates
            Indices of series, as in the scope that the folds belong to.
        """


class ReferenceFolds:
    """Folds of one reference image each.

    Parameters
    ----------
    agreement
        The agreement of S series, with bootstrap replicates.
    contributions
        Returns the contribution of each of R references to each agreement, ``[R, S]``. It is
        called at most once, and only if something is chosen.
    drawn
        How often each replicate contains each reference, ``[draws, R]``.
    """

    def __init__(
        self, agreement: Bootstrap, contributions: Callable[[], Floats], drawn: Floats
    ) -> None:
        self._agreement = agreement
        self._compute = contributions
        self._drawn = drawn

    @cached_property
    def contributions(self) -> Floats:
        """The contribution of each reference to the agreement of each series, ``[R, S]``."""
        return self._compute()

    def held_out(self, candidates: Sequence[int]) -> HeldOut:
        """Return the agreement where each reference is judged by the candidate chosen without it.

        The candidate that is best on all of the data has replicates of its own. What the others
        add where they are chosen instead is computed from the contributions.
        """
        among = np.asarray(candidates, dtype=np.intp)
        if len(among) == 1:
            return HeldOut(self._agreement[int(among[0])], np.repeat(among, self._drawn.shape[1]))
        best = int(np.nan_to_num(self._agreement.value[among], nan=_WORST).argmax())
        of = self.contributions[:, among]
        references = np.arange(len(of))
        chosen = self._choose(of, np.ones((1, len(of))))[0]
        gained = of - of[:, [best]]
        value = self._agreement.value[among[best]] + gained[references, chosen].mean()
        samples = self._agreement.samples[:, among[best]].copy()
        step = max(1, _LARGEST // of.size)
        for first in range(0, len(samples), step):
            drawn = self._drawn[first : first + step]
            again = self._choose(of, drawn)
            samples[first : first + step] += (drawn * gained[references, again]).sum(1) / len(of)
        found = Bootstrap(np.asarray(np.clip(value, -1, 1)), np.clip(samples, -1, 1))
        return HeldOut(found, among[chosen])

    @staticmethod
    def _choose(of: Floats, drawn: Floats) -> Places:
        """Return which candidate is best without each reference, ``[draws, R]``."""
        total = np.nan_to_num(of, nan=_WORST)
        left = (drawn @ total)[:, None, :] - drawn[:, :, None] * total
        # The number of references that are left is the same for all candidates.
        found: Places = left.argmax(axis=2)
        return found


class DatabaseFolds:
    """Folds of one database each, where agreement is pooled over databases by Fisher's z.

    Parameters
    ----------
    parts
        The agreement of each series on each database.
    counts
        The number of pairs of each database.
    """

    def __init__(self, parts: Sequence[Bootstrap], counts: Sequence[int]) -> None:
        self._parts = tuple(parts)
        self._counts = np.array(counts)

    def held_out(self, candidates: Sequence[int]) -> HeldOut:
        """Return the agreement where each database is judged by the candidate chosen without it."""
        among = np.asarray(candidates, dtype=np.intp)
        values = np.stack([part.value[among] for part in self._parts])
        chosen = self._choose(values[:, None])[:, 0]
        value = self._judged(values[:, None], chosen[:, None])[0]
        draws = self._parts[0].samples.shape[0]
        samples = np.empty(draws)
        step = max(1, _LARGEST // values.size)
        for first in range(0, draws, step):
            rows = slice(first, first + step)
            drawn = np.stack([part.samples[rows][:, among] for part in self._parts])
            samples[rows] = self._judged(drawn, self._choose(drawn))
        return HeldOut(Bootstrap(np.asarray(value), samples), among[chosen])

    def _choose(self, values: Floats) -> Places:
        """Return which candidate is best without each database, ``[databases, draws]``."""
        places = np.arange(len(self._parts))
        return np.stack(
            [
                np.nan_to_num(
                    statistics.pooled(values[places != at], self._counts[places != at]), nan=_WORST
                ).argmax(axis=-1)
                for at in places
            ]
        )

    def _judged(self, values: Floats, chosen: Places) -> Floats:
        """Return the pooled agreement, ``[draws]``, from ``[databases, draws, candidates]``."""
        each = np.take_along_axis(values, chosen[:, :, None], axis=2)[:, :, 0]
        found = statistics.pooled(each, self._counts)
        # A database without replicates says nothing of how certain the mean is.
        return np.where(np.isnan(each).any(axis=0), np.nan, found)


def contributions(without: Floats, agreement: Floats) -> Floats:
    """Return pseudo-values whose mean is the agreement.

    Parameters
    ----------
    without
        The agreement of each series without each reference, ``[R, S]``.
    agreement
        The agreement with all references, ``[S]``.

    Returns
    -------
    ndarray
        ``[R, S]``.
    """
    found: Floats = agreement - (len(without) - 1) * (without - without.mean(axis=0))
    return found
