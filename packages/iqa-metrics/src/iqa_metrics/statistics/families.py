"""Combine the correlations of several databases, and correct the p-values of several tests."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from iqa_metrics.statistics.correlations import Floats

_AT_ONCE = 2**20
"""Most correlations that are pooled in one go."""


def pooled(correlations: ArrayLike, counts: ArrayLike) -> Floats:
    """Return the mean correlation over databases, by Fisher's z, weighted by database size.

    The opinion scales of different databases are never mixed: each database has its own
    correlation, and the ``atanh`` of these are averaged with weights ``n - 3``.

    Parameters
    ----------
    correlations
        ``[k, ...]``, one row per database; NaN, where a database has no value, is left out.
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
    if r.ndim > 1 and r.size > _AT_ONCE:  # replicates of many series, which take much memory
        step = max(1, _AT_ONCE * r.shape[1] // r.size)
        starts = range(0, r.shape[1], step)
        return np.concatenate([_pooled(r[:, first : first + step], n) for first in starts])
    return _pooled(r, n)


def _pooled(r: Floats, n: Floats) -> Floats:
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
        The family's p-values. NaN, where a test could not be made, does not count.

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
