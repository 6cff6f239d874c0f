"""``correlations.csv``: how well each series agrees with opinion, in all and by distortion.

Signs are kept: a good distance correlates negatively with MOS and positively with DMOS. Rows of the
database ``pooled`` are means over databases by Fisher's z, for opinion turned so that higher is
worse; their intervals come from draws in every database.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iqa_metrics import statistics
from iqa_metrics.io.readahead import cores
from iqa_metrics.statistics import Bootstrap
from iqa_metrics.study.concatenated import is_concatenated
from iqa_metrics.study.distances import Floats, Measured, Series
from iqa_metrics.study.rows import POOLED, Correlation
from iqa_metrics.study.settings import Statistics

Mask = NDArray[np.bool_]


class Judged:
    """A database's series, judged by its opinions.

    Parameters
    ----------
    measured
        What was measured on it.
    settings
        Draws and confidence.
    seed
        Of the draws.
    """

    def __init__(self, measured: Measured, settings: Statistics, seed: int) -> None:
        self.measured = measured
        self.settings = settings
        # Infinite values have a rank; a PSNR of identical images is one.
        self.there: Mask = ~np.isnan(measured.values) & np.isfinite(measured.pairs.opinion)
        self._seed = seed
        self._references = np.asarray(measured.pairs.references)
        self._kept: dict[bytes, dict[int, tuple[float, Floats]]] = {}

    def references(self, pairs: Mask) -> int:
        """Return how many references some pairs have."""
        return len(np.unique(self._references[pairs]))

    def draws(self, rows: Sequence[int], pairs: Mask, *, keep: bool = True) -> Bootstrap | None:
        """Return SROCC of series on some pairs, with draws; None where these are too few.

        Parameters
        ----------
        rows
            Which series; all must have a value for those pairs.
        pairs
            Which pairs, ``[n]``.
        keep
            Keep the draws, for the next one who asks.
        """
        if pairs.sum() < statistics.FEWEST or self.references(pairs) < 2:
            return None
        kept = self._kept.setdefault(pairs.tobytes(), {}) if keep else {}
        left = [row for row in rows if row not in kept]
        if left:
            found = statistics.srocc_bootstrap(
                self.measured.values[np.ix_(np.array(left), pairs)],
                self.measured.pairs.opinion[pairs],
                self._references[pairs].tolist(),
                draws=self.settings.draws,
                seed=self._seed,
            )
            for at, row in enumerate(left):
                kept[row] = float(found.value[at]), found.samples[:, at]
        return Bootstrap(
            np.array([kept[row][0] for row in rows]),
            np.stack([kept[row][1] for row in rows], axis=1),
        )


def correlations(
    judged: Mapping[str, Judged],
    higher_is: Mapping[str, str],
    progress: Callable[[int, int], None] | None = None,
) -> list[Correlation]:
    """Return the table.

    Parameters
    ----------
    judged
        Names of databases to what was judged.
    higher_is
        Names of databases to the direction of their opinion.
    progress
        Is told how many groups of series are done, and of how many.
    """
    jobs = [_Job(name, *job) for name, one in judged.items() for job in _jobs(one)]
    found: list[Correlation] = []
    # Threads: nearly all of the time is spent in numpy, which lets others run meanwhile.
    with ThreadPoolExecutor(cores()) as pool:
        done = pool.map(lambda job: list(_of_job(job, judged[job.database])), jobs)
        for number, rows in enumerate(done, start=1):
            found += rows
            if progress is not None:
                progress(number, len(jobs))
    order = {
        (name, one): at for name, of in judged.items() for at, one in enumerate(of.measured.series)
    }
    kinds = {
        name: {kind: at for at, kind in enumerate(_kinds(of.measured))}
        for name, of in judged.items()
    }
    names = list(judged)
    found.sort(
        key=lambda row: (
            names.index(row.database),
            kinds[row.database].get(row.distortion, -1),
            order[row.database, Series(row.backbone, row.layer, row.readout, row.depth)],
        )
    )
    if len(judged) > 1:
        found += _pooled(found, judged, higher_is)
    return found


_AT_ONCE = 2**17
"""Values that one job takes: much less would go into calls, much more into memory."""


@dataclass(frozen=True)
class _Job:
    """Series that have the same pairs, and these pairs."""

    database: str
    distortion: str
    rows: list[int]
    pairs: Mask


def _jobs(judged: Judged) -> Iterator[tuple[str, list[int], Mask]]:
    """Yield a distortion, series that have the same pairs, and these pairs."""
    measured = judged.measured
    kinds = _kinds(measured)
    labels = np.asarray(measured.pairs.distortions)
    for distortion in ["", *(kinds if len(kinds) > 1 else [])]:
        chosen = np.ones(len(labels), bool) if not distortion else labels == distortion
        groups: dict[bytes, list[int]] = {}
        for row, one in enumerate(measured.series):
            if not (distortion and is_concatenated(one)):
                groups.setdefault((judged.there[row] & chosen).tobytes(), []).append(row)
        for mask, rows in groups.items():
            pairs = np.frombuffer(mask, dtype=bool)
            step = max(1, _AT_ONCE // max(1, int(pairs.sum())))
            for first in range(0, len(rows), step):
                yield distortion, rows[first : first + step], pairs


def _kinds(measured: Measured) -> list[str]:
    return [kind for kind in dict.fromkeys(measured.pairs.distortions) if kind]


def _of_job(job: _Job, judged: Judged) -> Iterator[Correlation]:
    rows, pairs = job.rows, job.pairs
    measured = judged.measured
    n = int(pairs.sum())
    x, y = measured.values[np.ix_(np.array(rows), pairs)], measured.pairs.opinion[pairs]
    drawn = judged.draws(rows, pairs, keep=not job.distortion)
    found = statistics.measures(x, y, drawn, judged.settings.confidence)
    for at, row in enumerate(rows):
        one = measured.series[row]
        yield Correlation(
            *(job.database, job.distortion, one.backbone, one.layer, one.depth, one.readout, n),
            *(float(values[at]) for values in vars(found).values()),
        )


def _pooled(
    rows: Sequence[Correlation], judged: Mapping[str, Judged], higher_is: Mapping[str, str]
) -> list[Correlation]:
    """Return the mean over databases of each series that all of them have, on all pairs."""
    turned = {name: 1.0 if higher_is[name] == "worse" else -1.0 for name in judged}
    of: dict[tuple[str, str, str], dict[str, Correlation]] = {}
    for row in rows:
        if not row.distortion and row.n >= statistics.FEWEST:
            of.setdefault((row.backbone, row.layer, row.readout), {})[row.database] = row
    at = {
        name: {(s.backbone, s.layer, s.readout): i for i, s in enumerate(one.measured.series)}
        for name, one in judged.items()
    }
    found = []
    for way, by_database in of.items():
        if len(by_database) < len(judged):
            continue
        counts = [row.n for row in by_database.values()]
        signs = np.array([turned[name] for name in by_database])

        def mean(field: str, signs: Floats, of: Mapping[str, Correlation] = by_database) -> float:
            values = np.array([getattr(row, field) for row in of.values()]) * signs
            return math.nan if np.isnan(values).any() else float(statistics.pooled(values, counts))  # noqa: B023

        samples = []
        for name in by_database:
            place = at[name][way]
            drawn = judged[name].draws([place], judged[name].there[place])
            if drawn is not None:
                samples.append(drawn.samples[:, 0] * turned[name])
        low = high = math.nan
        if len(samples) == len(by_database):
            pooled = Bootstrap(np.array(math.nan), statistics.pooled(np.stack(samples), counts))
            interval = pooled.interval(next(iter(judged.values())).settings.confidence)
            low, high = float(interval.low), float(interval.high)
        first = next(iter(by_database.values()))
        found.append(
            Correlation(
                *(POOLED, "", first.backbone, first.layer, first.depth, first.readout),
                sum(counts),
                *(mean("srocc", signs), low, high, mean("plcc", signs)),
                *(mean("plcc_logistic", np.abs(signs)), mean("krocc", signs), math.nan),
            )
        )
    return found
