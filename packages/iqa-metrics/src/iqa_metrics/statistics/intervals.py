"""Intervals of correlations and their differences, by a bootstrap over reference images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iqa_metrics.statistics.correlations import AT_ONCE, Floats, Ties, fitting, srocc
from iqa_metrics.statistics.replicates import ByReference, srocc_replicates, sums_are_faster

FEWEST_REFERENCES = 4
"""Smallest number of reference images that studies give intervals for.

Three references have only ten different bootstrap samples, and one in nine of them repeats a single
reference."""
_NOTHING = 1e-12


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval, for each row of a table.

    Attributes
    ----------
    value
        The estimate on all pairs, ``[...]``.
    low, high
        The ends of the interval, ``[...]``. NaN where a bootstrap replicate has no value: with few
        references, a replicate may consist of a single one whose opinions or distances do not vary.
    p
        Two-sided p-value of the value being 0, from the share of replicates on the other side of 0,
        ``[...]``.
    draws
        Number of bootstrap replicates.
    """

    value: Floats
    low: Floats
    high: Floats
    p: Floats
    draws: int

    @classmethod
    def unknown(cls, value: Floats) -> "Interval":
        """Return estimates whose ends and p-values are NaN, where references are too few."""
        none = np.full_like(value, np.nan, dtype=np.float64)
        return cls(np.asarray(value, dtype=np.float64), none, none, none, 0)


@dataclass(frozen=True)
class Resampling:
    """Bootstrap replicates of the reference images, shared by everything that is compared.

    Parameters
    ----------
    references
        The reference of each pair, ``[n]``.
    draws
        Number of bootstrap replicates. Each draws as many references as there are, with
        replacement.
    seed
        Seed of the replicates, which are the same for the same references in the same order.
    """

    references: Sequence[str]
    draws: int = 1000
    seed: int = 0

    def counts(self) -> Floats:
        """Return how often each replicate contains each pair, ``[draws, n]``.

        Raises
        ------
        ValueError
            If there are fewer than 2 references, or no replicates.
        """
        drawn = self.of_references()
        _, index = np.unique(np.asarray(self.references, dtype=str), return_inverse=True)
        return drawn[:, index.reshape(-1)]

    def by_reference(self) -> ByReference:
        """Return the pairs sorted by reference, with how often each replicate holds each.

        Raises
        ------
        ValueError
            If there are fewer than 2 references, or no replicates.
        """
        return ByReference.of(self.references, self.of_references())

    def of_references(self) -> Floats:
        """Return how often each replicate contains each reference, ``[draws, R]``, by sorted name.

        Raises
        ------
        ValueError
            If there are fewer than 2 references, or no replicates.
        """
        names = np.unique(np.asarray(self.references, dtype=str))
        if len(names) < 2:
            raise ValueError(
                f"expected pairs of at least 2 references, got {len(names)}: an interval says how "
                "much other references would have changed the result"
            )
        if self.draws < 1:
            raise ValueError(f"draws: expected at least 1, got {self.draws}")
        stream = np.random.default_rng(self.seed)
        drawn = stream.multinomial(len(names), np.full(len(names), 1 / len(names)), self.draws)
        return drawn.astype(np.float64)


@dataclass(frozen=True)
class Bootstrap:
    """Estimates, and what they would have been with other references.

    Two bootstraps of the same pairs and replicates can be subtracted: what makes a reference hard
    for both cancels out.

    Attributes
    ----------
    value
        The estimates on all pairs, ``[...]``.
    samples
        The estimates on each bootstrap replicate, ``[draws, ...]``.
    """

    value: Floats
    samples: Floats

    def __getitem__(self, index: int | NDArray[np.intp]) -> "Bootstrap":
        """Return some of the estimates, chosen along the first axis of ``value``."""
        return Bootstrap(self.value[index], self.samples[:, index])

    def __sub__(self, other: "Bootstrap") -> "Bootstrap":
        return Bootstrap(self.value - other.value, self.samples - other.samples)

    def __mul__(self, factor: Floats | float) -> "Bootstrap":
        return Bootstrap(self.value * factor, self.samples * factor)

    def interval(self, confidence: float = 0.95) -> Interval:
        """Return the interval between percentiles of the replicates.

        Raises
        ------
        ValueError
            If the confidence is not between 0 and 1.
        """
        return _interval(self.value, self.samples, confidence)

    def student_interval(self, references: int, confidence: float = 0.95) -> Interval:
        """Return the interval by Student's t, which is wide where references are few.

        With few references, percentiles of the replicates are too close together, and no share of
        replicates is small enough for a family of many tests. Here the replicates give the standard
        error, which is enlarged by ``sqrt(R / (R - 1))``, and Student's t has ``R - 1`` degrees of
        freedom. It is meant for differences; percentiles are better for correlations near 1.

        Parameters
        ----------
        references
            Number of reference images, R, at least 2.
        confidence
            The confidence level of the interval.

        Returns
        -------
        Interval
            Its ends and p are NaN where all replicates agree on a difference: they tell too little
            about how certain the difference is.

        Raises
        ------
        ValueError
            If there are fewer than 2 references, or the confidence is not between 0 and 1.

        References
        ----------
        A. C. Cameron and D. L. Miller, "A Practitioner's Guide to Cluster-Robust Inference",
        Journal of Human Resources 50(2), 2015, section VI.
        """
        from scipy.stats import t

        _check_confidence(confidence)
        if references < 2:
            raise ValueError(f"references: expected at least 2, got {references}")
        error = self.samples.std(axis=0, ddof=1) * np.sqrt(references / (references - 1))
        reach = t.ppf((1 + confidence) / 2, references - 1) * error
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(self.value == 0, 0.0, np.abs(self.value) / error)
        # Replicates that all agree say nothing about how much others would differ.
        silent = (error <= _NOTHING) & (np.abs(self.value) > _NOTHING)
        p = np.where(silent, np.nan, 2 * t.sf(ratio, references - 1))
        reach = np.where(silent, np.nan, reach)
        return Interval(self.value, self.value - reach, self.value + reach, p, len(self.samples))


def srocc_bootstrap(
    distances: ArrayLike,
    opinion: ArrayLike,
    references: Sequence[str],
    *,
    draws: int = 1000,
    seed: int = 0,
) -> Bootstrap:
    """Return SROCC on all pairs and on each bootstrap replicate.

    Parameters and errors are those of :func:`srocc_interval`.
    """
    x, y = fitting(distances, opinion)
    drawn = Resampling(references, draws, seed).of_references()
    return Bootstrap(srocc(x, y), _replicated(x, y, references, drawn))


def srocc_without(
    distances: ArrayLike, opinion: ArrayLike, references: Sequence[str]
) -> tuple[tuple[str, ...], Floats]:
    """Return SROCC on all pairs but those of one reference, for each reference.

    Parameters
    ----------
    distances
        ``[..., n]``.
    opinion
        ``[n]``.
    references
        The reference image of each pair, ``[n]``.

    Returns
    -------
    tuple
        The names of the R references in sorted order, and the correlations without each,
        ``[R, ...]``. NaN where the remaining pairs do not vary.

    Raises
    ------
    ValueError
        If the shapes do not fit, or there are fewer than 2 references.
    """
    x, y = fitting(distances, opinion)
    names = np.unique(np.asarray(references, dtype=str))
    if len(names) < 2:
        raise ValueError(f"expected pairs of at least 2 references, got {len(names)}")
    return tuple(names.tolist()), _replicated(x, y, references, 1 - np.eye(len(names)))


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
        Share of the replicates inside the interval (percentiles).

    Raises
    ------
    ValueError
        If the shapes do not fit, or there are fewer than 2 references.
    """
    found = srocc_bootstrap(distances, opinion, references, draws=draws, seed=seed)
    return found.interval(confidence)


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

    Both are measured on the same bootstrap replicates, so that what makes a reference hard for both
    cancels out.

    Parameters
    ----------
    first, second
        Distances or similarities, ``[..., n]`` each; one of them may be a single row.
    absolute
        Compare the strength of the correlations regardless of their signs, as is right for a
        distance and a similarity.
    opinion, references, draws, seed, confidence
        As for :func:`srocc_interval`.

    Returns
    -------
    Interval
        The interval of the first's SROCC minus the second's.
    """
    a, y = fitting(first, opinion)
    b, _ = fitting(second, opinion)
    a, b = np.broadcast_arrays(a, b)  # a table beside one baseline
    found = []
    for x in (a, b):
        one = srocc_bootstrap(x, y, references, draws=draws, seed=seed)
        # The sign is that of all pairs: a replicate of the other sign counts against it.
        found.append(one * np.where(one.value < 0, -1.0, 1.0) if absolute else one)
    return (found[0] - found[1]).interval(confidence)


def _replicated(x: Floats, y: Floats, references: Sequence[str], drawn: Floats) -> Floats:
    """Return SROCC on samples with ``drawn[d, r]`` copies of reference r, ``[draws, ...]``."""
    if len(references) != y.shape[-1]:
        raise ValueError(f"expected a reference for each of {y.shape[-1]} pairs")
    if y.ndim != 1 or not sums_are_faster(drawn.shape[1], len(y)):
        _, index = np.unique(np.asarray(references, dtype=str), return_inverse=True)
        return _srocc_draws(x, y, drawn[:, index.reshape(-1)])
    by = ByReference.of(references, drawn)
    return srocc_replicates(x.reshape(-1, x.shape[-1]), y, by).reshape(-1, *x.shape[:-1])


def _srocc_draws(x: Floats, y: Floats, counts: Floats) -> Floats:
    """Return SROCC on samples with ``counts[d, i]`` copies of pair i, ``[draws, ...]``."""
    if counts.shape[1] != y.shape[-1]:
        raise ValueError(f"expected a reference for each of {y.shape[-1]} pairs")
    if y.ndim != 1:
        raise ValueError(f"opinion: expected [n], got {list(y.shape)}")
    rows = x.reshape(-1, x.shape[-1])
    found = np.empty((len(counts), len(rows)))
    step = max(1, AT_ONCE // counts.shape[1])
    of_rows = [None if np.isnan(row).any() else Ties(row) for row in rows]
    of_opinion = None if np.isnan(y).any() else Ties(y)
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
    """Standardise each row: its weighted mean is 0 and its weighted sum of squares is 1."""
    total = counts.sum(-1, keepdims=True)
    centred = values - np.einsum("dn,dn->d", counts, values)[:, None] / total
    length = np.sqrt(np.einsum("dn,dn,dn->d", counts, centred, centred))[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(length > 0, centred / length, np.nan)


def _interval(value: Floats, samples: Floats, confidence: float) -> Interval:
    _check_confidence(confidence)
    tail = (1 - confidence) / 2
    low, high = np.quantile(samples, [tail, 1 - tail], axis=0)
    draws = len(samples)
    # The value itself counts as one more replicate: p is never 0, which no sample could show.
    sides = [(samples <= 0).sum(0), (samples >= 0).sum(0)]
    p = np.minimum(1.0, 2 * (np.minimum(*sides) + 1) / (draws + 1))
    p = np.where(np.isnan(samples).any(0), np.nan, p)
    return Interval(value, low, high, p, draws)


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: expected a number between 0 and 1, got {confidence}")
