"""The noise ceiling: how well a single observer agrees with the mean of all of them.

No metric can be expected to agree with people better than people agree with each other. One
observer's opinion is the mean opinion plus that observer's noise, whose standard deviation is that
of the ratings. The mean opinion of N new observers has ``sqrt(N)`` times less noise.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from iqa_metrics.statistics.correlations import AT_ONCE, Floats, Ties, fitting, pearson, ranks
from iqa_metrics.statistics.intervals import Interval, Resampling

MEASURES = ("plcc", "srocc")


def noise_ceiling(
    opinion: ArrayLike,
    deviations: ArrayLike,
    measure: str = "srocc",
    *,
    references: Sequence[str] | None = None,
    observers: float = 1,
    draws: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Return the expected correlation of noisy opinions with the mean opinions.

    Parameters
    ----------
    opinion
        The mean opinions, ``[n]``.
    deviations
        The standard deviation of the ratings of each pair, ``[n]``; from standard errors, it is
        ``sqrt(N)`` times the error, N the number of ratings.
    measure
        ``plcc`` or ``srocc``.
    references
        The reference of each pair, ``[n]``. If there are at least two, replicates also resample
        references, so that the interval can be compared with those of metrics.
    observers
        The number of observers whose mean is compared with the opinions: 1 for one observer, N for
        the mean of as many other people.
    draws, seed
        The number of replicates, each with new noise, and their seed.
    confidence
        The share of the replicates inside the interval (percentiles).

    Returns
    -------
    Interval
        Its value is the mean correlation over replicates of the noise with all references.

    Raises
    ------
    ValueError
        If the shapes do not fit, the measure is unknown, a deviation is negative or not finite, or
        a number is out of range.
    """
    noise, y = fitting(deviations, opinion)
    if measure not in MEASURES:
        raise ValueError(f"measure: expected plcc or srocc, got {measure!r}")
    if noise.ndim != 1 or not np.isfinite(noise).all() or (noise < 0).any():
        raise ValueError("deviations: expected [n], finite numbers of at least 0")
    if not observers > 0 or draws < 1:
        raise ValueError(
            f"expected positive numbers of observers and draws, got {observers}, {draws}"
        )
    stream = np.random.default_rng(seed)
    counts = None
    if references is not None and len(set(references)) > 1:
        counts = Resampling(references, draws, seed).counts()
        if counts.shape[1] != len(y):
            raise ValueError(f"expected a reference for each of {len(y)} pairs")
    values, samples = np.empty(draws), np.empty(draws)
    step = max(1, AT_ONCE // len(y))
    for first in range(0, draws, step):
        part = slice(first, min(first + step, draws))
        size = (part.stop - part.start, len(y))
        judged = y + noise / np.sqrt(observers) * stream.standard_normal(size)
        a, b = (judged, y) if measure == "plcc" else (ranks(judged), ranks(y))
        values[part] = pearson(a, b)
        if counts is None:
            samples[part] = values[part]
        elif measure == "plcc":
            samples[part] = pearson(a, b, counts[part])
        else:
            samples[part] = _ranked(judged, y, counts[part])
    tail = (1 - confidence) / 2
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: expected a number between 0 and 1, got {confidence}")
    low, high = np.quantile(samples, [tail, 1 - tail])
    none = np.array(np.nan)
    return Interval(np.array(values.mean()), np.array(low), np.array(high), none, draws)


def _ranked(judged: Floats, y: Floats, counts: Floats) -> Floats:
    """Return SROCC of each row ``[d, n]`` with ``[n]``, with counts of the pairs ``[d, n]``."""
    of_opinion = Ties(y).mean_ranks(counts)
    of_row = np.stack(
        [Ties(row).mean_ranks(count) for row, count in zip(judged, counts, strict=True)]
    )
    return pearson(of_row, of_opinion, counts)
