"""Correlations on bootstrap replicates of references, from sums that are computed only once.

A replicate repeats references, each with all of its pairs. So a correlation on it follows from sums
over the pairs of a reference (Pearson, RMSE), of two references (Kendall), or of a reference and
the places of its pairs among those of two others (Spearman). These sums do not depend on the
replicate: all replicates together cost a product of matrices, whatever the number of pairs. Ranks
and signs are sums of halves, which float64 adds up exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iqa_metrics.statistics.correlations import Floats, Ties

_FEW, _MANY = 60, 128
_PER_PAIR = 250

_AT_ONCE = 2**20
_PRODUCTS = 2**24
"""Most elements of the products of counts that are kept: 128 MiB."""
_SUMS = 2**22
"""Most elements of a table of sums of all rows that are computed together: 32 MiB."""


def sums_are_faster(references: int, pairs: int) -> bool:
    """Return whether Spearman's sums over three references cost less than ranking each replicate.

    Sums cost the third power of the references, and ranks cost the pairs. Beyond 128 references the
    sums would take much memory.
    """
    return references <= _FEW or (references <= _MANY and references**3 <= _PER_PAIR * pairs)


@dataclass(frozen=True)
class ByReference:
    """The pairs sorted by reference, and how often each replicate holds each reference.

    Attributes
    ----------
    order
        The indices of the pairs, sorted by reference, ``[n]``.
    starts
        The first place of each reference in that order, ``[R]``.
    counts
        ``[draws, R]``.
    """

    order: NDArray[np.intp]
    starts: NDArray[np.intp]
    counts: Floats

    @classmethod
    def of(cls, references: Sequence[str], counts: Floats) -> "ByReference":
        """Sort pairs ``[n]`` by their references; counts ``[draws, R]`` are by sorted name."""
        _, index = np.unique(np.asarray(references, dtype=str), return_inverse=True)
        order = np.argsort(index.reshape(-1), kind="stable")
        starts = np.flatnonzero(np.diff(index.reshape(-1)[order], prepend=-1))
        return cls(order, starts, counts)

    @property
    def sizes(self) -> NDArray[np.intp]:
        """The number of pairs of each reference, ``[R]``."""
        return np.diff([*self.starts, len(self.order)])

    def sums(self, values: Floats) -> Floats:
        """Return the sums of values ``[..., n]`` over each reference, ``[..., R]``."""
        return np.add.reduceat(np.take(values, self.order, axis=-1), self.starts, axis=-1)

    def drawn(self, sums: Floats) -> Floats:
        """Return sums over replicates, ``[draws, ...]``, from sums over references."""
        found: Floats = np.moveaxis(sums @ self.counts.T, -1, 0)
        return found


def srocc_replicates(x: Floats, y: Floats, by: ByReference) -> Floats:
    """Return SROCC of rows ``[S, n]`` with ``[n]`` on each replicate, ``[draws, S]``."""
    found = np.full((len(by.counts), len(x)), np.nan)
    if np.isnan(y).any():
        return found
    draws, references = by.counts.shape
    couples = np.triu_indices(references)
    # Two tables of sums for each row, over three references, and then on each replicate.
    largest = references * max(len(couples[0]), min(draws, _PRODUCTS // len(couples[0])))
    step = max(1, _SUMS // (2 * largest))
    of_opinion = _places(y, by)
    good = np.flatnonzero(~np.isnan(x).any(-1))
    for start in range(0, len(good), step):
        rows = good[start : start + step]
        found[:, rows] = _srocc_of_rows(x[rows], of_opinion, by, couples)
    return found


def _srocc_of_rows(
    x: Floats,
    of_opinion: Floats,
    by: ByReference,
    couples: tuple[NDArray[np.intp], ...],
) -> Floats:
    """Return SROCC of a few rows on each replicate, ``[draws, rows]``."""
    draws, references = by.counts.shape
    found = np.empty((draws, len(x)))
    first, second = couples
    # Each unordered couple of references counts once; the sums of both orders are added up.
    step = max(1, _PRODUCTS // len(first))
    tables = [_triples(of_opinion, of_opinion, by)]
    for row in x:
        places = _places(row, by)
        tables += [_triples(places, of_opinion, by), _triples(places, places, by)]
    folded = np.stack([_folded(table, first, second) for table in tables], axis=1)
    flat = folded.reshape(len(first), -1)
    for start in range(0, draws, step):
        counts = by.counts[start : start + step]
        products = counts[:, first] * counts[:, second]
        sums = (products @ flat).reshape(len(counts), len(tables), references)
        totals = np.einsum("dtr,dr->dt", sums, counts)
        of_y, xy, xx = totals[:, :1], totals[:, 1::2], totals[:, 2::2]
        with np.errstate(invalid="ignore", divide="ignore"):
            value = xy / np.sqrt(xx * of_y)
        value[(xx <= 0) | (of_y <= 0)] = np.nan
        found[start : start + step] = np.clip(value, -1, 1)
    return found


def _places(values: Floats, by: ByReference) -> Floats:
    """Return half of how many more values of each reference lie below each value, ``[n, R]``.

    A rank in a replicate is the sum of these, times the counts of the references, from the middle.
    """
    ties = Ties(values)
    n, references = len(values), len(by.starts)
    of = np.empty(n, np.intp)
    of[by.order] = np.repeat(np.arange(references), by.sizes)
    upto = np.zeros((n + 1, references))
    upto[np.arange(1, n + 1), of[ties.order]] = 1.0
    np.cumsum(upto, axis=0, out=upto)
    ends = np.append(ties.starts[1:], n)
    of_group = (upto[ties.starts] + upto[ends] - upto[-1]) / 2
    found = np.empty((n, references))
    found[ties.order] = of_group[ties.group]
    return found[by.order]


def _triples(a: Floats, b: Floats, by: ByReference) -> Floats:
    """Return ``sum over i of r: a[i, s] b[i, t]``, ``[r, s, t]``."""
    sizes = by.sizes
    references = len(sizes)
    if (sizes == sizes[0]).all():
        parts = (of.reshape(references, sizes[0], -1) for of in (a, b))
        first, second = parts
        found: Floats = first.transpose(0, 2, 1) @ second
        return found
    ends = [*by.starts[1:], len(a)]
    return np.stack(
        [a[i:j].T @ b[i:j] for i, j in zip(by.starts.tolist(), map(int, ends), strict=True)]
    )


def _folded(table: Floats, first: NDArray[np.intp], second: NDArray[np.intp]) -> Floats:
    """Return the sums over both orders of two references, ``[couples, r]``."""
    both = table[:, first, second] + table[:, second, first]
    both[:, first == second] /= 2
    return both.T


def pearson_replicates(x: Floats, y: Floats, by: ByReference) -> Floats:
    """Return PLCC of rows ``[S, n]`` with ``[n]``, or row by row, on each replicate."""
    with np.errstate(invalid="ignore", divide="ignore"):
        x, y = (_standard(of) for of in (x, y))
    ones = by.drawn(by.sizes.astype(np.float64))[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        mx, my, xx, yy, xy = (
            by.drawn(by.sums(of)).reshape(len(by.counts), -1) / ones
            for of in (x, y, x * x, y * y, x * y)
        )
        vx, vy = xx - mx * mx, yy - my * my
        found: Floats = (xy - mx * my) / np.sqrt(vx * vy)
        # What is left of a variance after the mean is taken off has lost digits.
        flat = (vx <= 1e-13 * xx) | (vy <= 1e-13 * yy)
    return np.where(flat, np.nan, np.clip(found, -1, 1))


def _standard(values: Floats) -> Floats:
    centred = values - values.mean(-1, keepdims=True)
    found: Floats = centred / np.abs(centred).max(-1, keepdims=True)
    return found


def rmse_replicates(errors: Floats, by: ByReference) -> Floats:
    """Return the root mean square of rows of errors ``[S, n]`` on each replicate."""
    found: Floats = np.sqrt(
        by.drawn(by.sums(np.square(errors))) / by.drawn(by.sizes.astype(np.float64))[:, None]
    )
    return found


def krocc_replicates(x: Floats, y: Floats, by: ByReference) -> tuple[Floats, Floats]:
    """Return KROCC (tau-b) of rows ``[S, n]`` with ``[n]``: on all pairs, and on each replicate.

    All pairs of pairs are compared once, and their signs are summed for each two references.

    Returns
    -------
    tuple
        ``[S]`` and ``[draws, S]``.
    """
    value, samples = np.full(len(x), np.nan), np.full((len(by.counts), len(x)), np.nan)
    good = np.flatnonzero(~np.isnan(x).any(-1))
    if np.isnan(y).any() or not len(good):
        return value, samples
    of_x = np.stack([_dense(row)[by.order] for row in x[good]])
    of_y = _dense(y)[by.order]
    agreed = _agreed(of_x, of_y, by)
    untied_y = _untied(of_y, by)
    every = np.ones((1, len(by.starts)))
    for counts, found in ((every, value[None]), (by.counts, samples)):
        both = np.stack([_quadratic(one, counts) for one in agreed], axis=-1)
        alone = np.stack([_quadratic(_untied(row, by), counts) for row in of_x], axis=-1)
        against = _quadratic(untied_y, counts)[:, None]
        with np.errstate(invalid="ignore", divide="ignore"):
            tau = both / np.sqrt(alone * against)
        found[:, good] = np.where((alone > 0) & (against > 0), tau, np.nan)
    return value, samples


def _quadratic(matrix: Floats, counts: Floats) -> Floats:
    """Return ``c M c`` for each row c of the counts, ``[draws]``."""
    found: Floats = np.einsum("dr,dr->d", counts @ matrix, counts)
    return found


def _dense(values: Floats) -> NDArray[np.integer]:
    """Return numbers in the same order as the values, small enough to be compared quickly."""
    ties = Ties(values)
    numbers = ties.group.astype(np.int16 if len(values) < 2**15 else np.int32)
    found: NDArray[np.integer] = np.empty_like(numbers)
    found[ties.order] = numbers
    return found


def _agreed(x: NDArray[np.integer], y: NDArray[np.integer], by: ByReference) -> Floats:
    """Return the sums of the products of signs for each two references, ``[S, R, R]``."""
    series, n = x.shape
    references = len(by.starts)
    found = np.zeros((series, references, references))
    ends = [*by.starts[1:].tolist(), n]
    for r, (begin, end) in enumerate(zip(by.starts.tolist(), ends, strict=True)):
        starts = by.starts[r:] - begin
        # Fewer than 128 signs add up within a byte.
        rows = max(1, min(127, end - begin, _AT_ONCE // (n - begin)))
        for top in range(begin, end, rows):
            below = slice(top, min(end, top + rows))
            signs = _signs(y[below, None], y[None, begin:])
            step = max(1, _AT_ONCE // signs.size)
            for first in range(0, series, step):
                part = x[first : first + step]
                both = _signs(part[:, below, None], part[:, None, begin:]) * signs
                columns = both.sum(axis=1, dtype=np.int8)
                found[first : first + step, r, r:] += np.add.reduceat(
                    columns, starts, axis=-1, dtype=np.int32
                )
        found[:, r:, r] = found[:, r, r:]
    return found


def _signs(a: NDArray[np.integer], b: NDArray[np.integer]) -> NDArray[np.int8]:
    found: NDArray[np.int8] = (a > b).view(np.int8) - (a < b).view(np.int8)
    return found


def _untied(values: NDArray[np.integer], by: ByReference) -> Floats:
    """Return the number of pairs of pairs with unequal values, for each two references."""
    sizes = by.sizes.astype(np.float64)
    of = np.repeat(np.arange(len(sizes)), by.sizes)
    times = np.bincount(values)
    shared = times[values] > 1
    names, group = np.unique(values[shared], return_inverse=True)
    tied = np.zeros((len(sizes), len(names)))
    np.add.at(tied, (of[shared], group.reshape(-1)), 1.0)
    # A value that no other equals is tied with itself.
    alone = np.bincount(of[~shared], minlength=len(sizes)).astype(np.float64)
    found: Floats = np.outer(sizes, sizes) - tied @ tied.T - np.diag(alone)
    return found
