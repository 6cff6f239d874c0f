"""Intervals of correlations and of their differences, by a bootstrap over reference images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iqa_metrics.statistics.correlations import AT_ONCE, Floats, Ties, fitting, srocc

_NOTHING = 1e-12


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


@dataclass(frozen=True)
class Bootstrap:
    """Estimates, and what they would have been with other choices of references.

    Two of them that come from the same pairs and draws can be subtracted: what makes a reference
    hard for both falls out of the difference.

    Attributes
    ----------
    value
        The estimates on all pairs, ``[...]``.
    samples
        Those on each draw, ``[draws, ...]``.
    """

    value: Floats
    samples: Floats

    def __getitem__(self, index: int | NDArray[np.intp]) -> "Bootstrap":
        """Return some of the estimates, of the first axis of ``value``."""
        return Bootstrap(self.value[index], self.samples[:, index])

    def __sub__(self, other: "Bootstrap") -> "Bootstrap":
        return Bootstrap(self.value - other.value, self.samples - other.samples)

    def __mul__(self, factor: Floats | float) -> "Bootstrap":
        return Bootstrap(self.value * factor, self.samples * factor)

    def interval(self, confidence: float = 0.95) -> Interval:
        """Return the interval between percentiles of the draws.

        Raises
        ------
        ValueError
            If the confidence is no share between 0 and 1.
        """
        return _interval(self.value, self.samples, confidence)

    def student_interval(self, references: int, confidence: float = 0.95) -> Interval:
        """Return the interval by Student's t, which few references make wide, as they should.

        Percentiles of draws are too near to each other where references are few, and no share of
        draws is small enough for a family of many tests. Here the draws give the standard error,
        enlarged by ``sqrt(R / (R - 1))``, and t with ``R - 1`` degrees of freedom gives the rest.
        Meant for differences; correlations near 1 are better off with percentiles.

        Parameters
        ----------
        references
            How many reference images were drawn from, at least 2.
        confidence
            Of the interval.

        Returns
        -------
        Interval
            NaN at its ends, and as p, where all draws agree on a difference: they hold too little
            to say how sure it is.

        Raises
        ------
        ValueError
            If there are fewer than 2 references, or the confidence is no share.

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
        # Draws that all say the same say nothing about how much others would differ.
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
    """Return SROCC of all pairs and of each draw of references.

    Parameters and errors as of :func:`srocc_interval`.
    """
    x, y = fitting(distances, opinion)
    return Bootstrap(srocc(x, y), _srocc_draws(x, y, Resampling(references, draws, seed)))


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
    a, y = fitting(first, opinion)
    b, _ = fitting(second, opinion)
    a, b = np.broadcast_arrays(a, b)  # a table beside one baseline
    found = []
    for x in (a, b):
        one = srocc_bootstrap(x, y, references, draws=draws, seed=seed)
        # The sign is that of all pairs: a draw of the other sign counts against it.
        found.append(one * np.where(one.value < 0, -1.0, 1.0) if absolute else one)
    return (found[0] - found[1]).interval(confidence)


def _srocc_draws(x: Floats, y: Floats, resampling: Resampling) -> Floats:
    """Return SROCC of each draw, ``[draws, ...]``."""
    counts = resampling.counts()
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
    """Return values whose counted mean is 0 and whose counted square sums to 1, by row."""
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
    # Counted as if the value itself were one more draw: never 0, which no sample could show.
    sides = [(samples <= 0).sum(0), (samples >= 0).sum(0)]
    p = np.minimum(1.0, 2 * (np.minimum(*sides) + 1) / (draws + 1))
    p = np.where(np.isnan(samples).any(0), np.nan, p)
    return Interval(value, low, high, p, draws)


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: expected a share between 0 and 1, got {confidence}")
