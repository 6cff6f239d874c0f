"""Agreement within each reference image, where scores of different references do not compare."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iqa_metrics.statistics.correlations import Floats, fitting, pearson, ranks
from iqa_metrics.statistics.intervals import Bootstrap, Resampling

SMALLEST = 3
"""Smallest number of pairs of a group: with two, SROCC is either 1 or -1."""


def srocc_within(distances: ArrayLike, opinion: ArrayLike, groups: Sequence[str]) -> Floats:
    """Return the mean over groups of SROCC within the group.

    Parameters
    ----------
    distances
        ``[..., n]``.
    opinion
        ``[n]``.
    groups
        The group of each pair, ``[n]``, such as its reference image.

    Returns
    -------
    ndarray
        ``[...]``, in [-1, 1]. Groups of fewer than 3 pairs, or in which opinions do not vary, are
        left out. Distances that do not vary within a group agree with nothing there and count as 0.
        NaN if no group is left, or a distance of those that are left is NaN.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    names, values = within_references(distances, opinion, groups, [""] * len(groups))
    return values.mean(-1) if names else np.full(values.shape[:-1], np.nan)


def within_references(
    distances: ArrayLike, opinion: ArrayLike, references: Sequence[str], kinds: Sequence[str]
) -> tuple[tuple[str, ...], Floats]:
    """Return, for each reference, the mean over kinds of distortion of SROCC within the kind.

    Parameters
    ----------
    distances
        ``[..., n]``.
    opinion
        ``[n]``.
    references, kinds
        The reference image and the kind of distortion of each pair, ``[n]`` each.

    Returns
    -------
    tuple
        The names of the R references, sorted, and their values, ``[..., R]``, in [-1, 1]. A kind of
        a reference is left out if it has fewer than 3 pairs or if its opinions do not vary, and a
        reference is left out if no kind of it is left. Distances that do not vary within a kind
        count as 0 there. NaN if one of the reference's distances or opinions is NaN.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    x, y = fitting(distances, opinion)
    if y.ndim != 1:
        raise ValueError(f"opinion: expected [n], got {list(y.shape)}")
    if len(references) != len(y) or len(kinds) != len(y):
        raise ValueError(
            f"expected a reference and a kind for each of {len(y)} pairs, got {len(references)} "
            f"and {len(kinds)}"
        )
    names, of_pair = np.unique(np.asarray(references, dtype=str), return_inverse=True)
    total = np.zeros((*x.shape[:-1], len(names)))
    counts = np.zeros(len(names))
    for at, members in _groups(of_pair.reshape(-1), np.asarray(kinds, dtype=str)):
        if len(members) < SMALLEST or np.ptp(y[members]) == 0:
            continue
        total[..., at] += _agreement(x[..., members], y[members])
        counts[at] += 1
    there = counts > 0
    return tuple(names[there].tolist()), total[..., there] / counts[there]


def within_bootstrap(
    distances: ArrayLike,
    opinion: ArrayLike,
    references: Sequence[str],
    kinds: Sequence[str],
    *,
    draws: int = 1000,
    seed: int = 0,
) -> Bootstrap:
    """Return the mean over references of SROCC within a reference and a kind of distortion.

    A replicate is the mean of the values of the references that it consists of, so it costs
    R operations.

    Parameters
    ----------
    distances, opinion, references, kinds
        As for :func:`within_references`. All kinds of a reference have the same weight, and so do
        all references.
    draws, seed
        As for :class:`Resampling`.

    Returns
    -------
    Bootstrap
        ``[...]``, and its replicates.

    Raises
    ------
    ValueError
        If the shapes do not fit, or fewer than 2 references have a value.
    """
    names, values = within_references(distances, opinion, references, kinds)
    drawn = Resampling(names, draws, seed).of_references()
    samples: Floats = np.moveaxis(values @ drawn.T / len(names), -1, 0)
    return Bootstrap(values.mean(-1), samples)


def _groups(
    references: NDArray[np.intp], kinds: NDArray[np.str_]
) -> list[tuple[int, NDArray[np.intp]]]:
    """Return the reference and the pairs of each group of equal reference and kind."""
    _, of_kind = np.unique(kinds, return_inverse=True)
    keys = references * (int(of_kind.max(initial=0)) + 1) + of_kind.reshape(-1)
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[order], prepend=-1))
    return [(int(references[part[0]]), part) for part in np.split(order, starts[1:])]


def _agreement(x: Floats, y: Floats) -> Floats:
    found = pearson(ranks(x), ranks(y))
    undefined = np.isnan(x).any(-1) | np.isnan(y).any()
    return np.where(np.isnan(found) & ~undefined, 0.0, found)
