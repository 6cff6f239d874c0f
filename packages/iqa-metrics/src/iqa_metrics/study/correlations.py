"""``correlations.csv``: how well each series agrees with opinion scores, overall and by distortion.

Signs are kept: a good distance correlates negatively with MOS and positively with DMOS. Rows of the
database ``pooled`` are means over databases by Fisher's z, after opinion scores were turned so that
higher is worse. Their intervals come from the bootstrap replicates of all databases.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace

import numpy as np

from iqa_metrics import statistics
from iqa_metrics.io.readahead import cores
from iqa_metrics.statistics import FEWEST_REFERENCES, Bootstrap, Measures, Resampling
from iqa_metrics.study.concatenated import is_concatenated
from iqa_metrics.study.distances import Floats, Measured, Series
from iqa_metrics.study.held_out import contributions
from iqa_metrics.study.presence import Mask as Mask
from iqa_metrics.study.presence import Presence
from iqa_metrics.study.rows import POOLED, Correlation
from iqa_metrics.study.settings import Statistics

_TOGETHER = 64
"""Number of series whose values are read together."""


class Judged:
    """The series of a database, compared with its opinion scores.

    Parameters
    ----------
    measured
        The distances measured on the database.
    settings
        The number of bootstrap replicates, and the confidence level.
    seed
        The seed of the bootstrap.
    opinion
        Whether the scores are human ratings. Other scores, such as the severities of the ladder,
        compare only within a reference and a kind of distortion, and so do their correlations.
    """

    def __init__(
        self, measured: Measured, settings: Statistics, seed: int, *, opinion: bool = True
    ) -> None:
        self.measured = measured
        self.settings = settings
        self.opinion = opinion
        # Infinite values, such as the PSNR of identical images, have a rank, so they count.
        self.there = Presence.of(measured.values, np.isfinite(measured.pairs.opinion))
        self._seed = seed
        self._references = np.asarray(measured.pairs.references)
        self._kinds = np.asarray(measured.pairs.distortions)
        self._reach: Floats | None = None
        self._kept: dict[bytes, dict[int, tuple[float, Floats]]] = {}

    def references(self, pairs: Mask) -> int:
        """Return the number of references that agreement on some pairs comes from.

        For scores that are no human ratings, these are the ones with a kind of distortion that has
        enough pairs.
        """
        if self.opinion:
            return len(np.unique(self._references[pairs]))
        return len(self._within([], pairs)[0])

    def replicates(
        self, rows: Sequence[int], pairs: Mask, *, keep: bool = True
    ) -> Bootstrap | None:
        """Return the SROCC of series on some pairs, with bootstrap replicates.

        It is None if there are too few pairs, or only one reference.

        Parameters
        ----------
        rows
            Indices of the series. All must have a value for each of the pairs.
        pairs
            A mask of the pairs, ``[n]``.
        keep
            Keep the replicates for later calls.
        """
        if pairs.sum() < statistics.FEWEST or self.references(pairs) < 2:
            return None
        if not self.opinion:
            return statistics.within_bootstrap(
                self.measured.values[np.ix_(np.array(rows), pairs)],
                self.measured.pairs.opinion[pairs],
                self._references[pairs].tolist(),
                self._kinds[pairs].tolist(),
                draws=self.settings.draws,
                seed=self._seed,
            )
        kept = self._kept.setdefault(pairs.tobytes(), {}) if keep else {}
        left = [row for row in rows if row not in kept]
        # Values of concatenations are only in memory while they are read, so few are read at once.
        step = max(1, _AT_ONCE // int(pairs.sum()))
        for first in range(0, len(left), step):
            part = left[first : first + step]
            found = statistics.srocc_bootstrap(
                self.measured.values[np.ix_(np.array(part), pairs)],
                self.measured.pairs.opinion[pairs],
                self._references[pairs].tolist(),
                draws=self.settings.draws,
                seed=self._seed,
            )
            for at, row in enumerate(part):
                kept[row] = float(found.value[at]), found.samples[:, at]
        return Bootstrap(
            np.array([kept[row][0] for row in rows]),
            np.stack([kept[row][1] for row in rows], axis=1),
        )

    def resampling(self, references: Sequence[str]) -> Resampling:
        """Return the bootstrap of references, the same one for everything that is compared."""
        return Resampling(references, self.settings.draws, self._seed)

    def correlation(self, rows: Sequence[int], pairs: Mask) -> Floats:
        """Return the SROCC of series on some pairs, ``[rows]``, without replicates."""
        if not self.opinion:
            names, values = self._within(rows, pairs)
            return values.mean(axis=1) if names else np.full(len(rows), np.nan)
        opinion = self.measured.pairs.opinion[pairs]
        found = [
            statistics.srocc(
                self.measured.values[np.ix_(np.array(rows[at : at + _TOGETHER]), pairs)], opinion
            )
            for at in range(0, len(rows), _TOGETHER)
        ]
        return np.concatenate(found)

    def contributions(self, rows: Sequence[int], pairs: Mask) -> Floats:
        """Return what each reference contributes to the SROCC of series, ``[R, rows]``."""
        if not self.opinion:
            return self._within(rows, pairs)[1].T
        return contributions(self._without(rows, pairs), self.correlation(rows, pairs))

    def drawn(self, pairs: Mask) -> Floats:
        """Return how often each replicate contains each reference, ``[draws, R]``."""
        if not self.opinion:
            return self.resampling(self._within([], pairs)[0]).of_references()
        return self.resampled(pairs).of_references()

    def _without(self, rows: Sequence[int], pairs: Mask) -> Floats:
        """Return the SROCC of series without the pairs of each reference, ``[R, rows]``."""
        opinion, references = self.measured.pairs.opinion[pairs], self._references[pairs].tolist()
        found = [
            statistics.srocc_without(
                self.measured.values[np.ix_(np.array(rows[at : at + _TOGETHER]), pairs)],
                opinion,
                references,
            )[1]
            for at in range(0, len(rows), _TOGETHER)
        ]
        return np.concatenate(found, axis=1)

    def _within(self, rows: Sequence[int], pairs: Mask) -> tuple[tuple[str, ...], Floats]:
        """Return the references, and the SROCC of series within each of them, ``[rows, R]``."""
        count = int(pairs.sum())
        return statistics.within_references(
            self.measured.values[np.ix_(np.array(rows), pairs)] if rows else np.empty((0, count)),
            self.measured.pairs.opinion[pairs],
            self._references[pairs].tolist(),
            self._kinds[pairs].tolist(),
        )

    def resampled(self, pairs: Mask) -> Resampling:
        """Return the bootstrap of the references of some pairs."""
        return self.resampling(self._references[pairs].tolist())

    def reach(self, pairs: Mask) -> Floats | None:
        """Return half the width of the 95 % interval of opinions, or None if none is known."""
        of = self.measured.pairs
        if self._reach is None:
            known = np.isfinite(of.opinion_sd) & np.isfinite(of.ratings)
            self._reach = np.full(len(of), np.nan)
            if known.any():
                self._reach[known] = statistics.opinion_reach(
                    of.opinion_sd[known], of.ratings[known]
                )
        found: Floats = self._reach[pairs]
        return None if np.isnan(found).all() else found


def correlations(
    judged: Mapping[str, Judged],
    higher_is: Mapping[str, str],
    progress: Callable[[int, int], None] | None = None,
) -> list[Correlation]:
    """Return the rows of the table.

    Parameters
    ----------
    judged
        The series of each database, by the database's name.
    higher_is
        What a higher opinion score means, by the database's name.
    progress
        Called with the number of groups of series that are done, and the total.
    """
    jobs = [_Job(name, *job) for name, one in judged.items() for job in _jobs(one)]
    found: list[Correlation] = []
    # Threads are enough: nearly all of the time is spent in NumPy, which releases the GIL.
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
    rated = {name: one for name, one in judged.items() if one.opinion}
    if len(rated) > 1:
        found += _pooled([row for row in found if row.database in rated], rated, higher_is)
    return found


_AT_ONCE = 2**17
"""Most values in one job. Fewer would cost time in calls, and more would cost memory."""


@dataclass(frozen=True)
class _Job:
    """Series that have values for the same pairs, and a mask of these pairs."""

    database: str
    distortion: str
    rows: list[int]
    pairs: Mask


def _jobs(judged: Judged) -> Iterator[tuple[str, list[int], Mask]]:
    """Yield a distortion, series that have values for the same pairs, and a mask of the pairs."""
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
    enough = judged.references(pairs) >= FEWEST_REFERENCES
    drawn = judged.replicates(rows, pairs, keep=not job.distortion) if enough else None
    found = statistics.measures(
        x,
        y,
        drawn,
        judged.settings.confidence,
        resampling=judged.resampled(pairs),
        reach=judged.reach(pairs),
    )
    kinds = np.unique(np.asarray(measured.pairs.distortions)[pairs])
    left_out = set() if judged.opinion or len(kinds) < 2 else _OVER_KINDS
    if not judged.opinion and drawn is None:
        found = replace(found, srocc=_within(x, y, judged, pairs))
    for at, row in enumerate(rows):
        one = measured.series[row]
        yield Correlation(
            database=job.database,
            distortion=job.distortion,
            backbone=one.backbone,
            layer=one.layer,
            depth=one.depth,
            readout=one.readout,
            n=n,
            **{
                name: math.nan if name in left_out else float(getattr(found, name)[at])
                for name in _MEASURES
            },
        )


_MEASURES = tuple(one.name for one in fields(Measures))
_OVER_KINDS = set(_MEASURES) - {"srocc", "srocc_low", "srocc_high"}
"""Measures that compare the scores of different kinds of distortion, where there are several."""


def _within(x: Floats, y: Floats, judged: Judged, pairs: Mask) -> Floats:
    """Return the mean within references and kinds, for scores of a single reference."""
    of = judged.measured.pairs
    labels = (np.asarray(names)[pairs].tolist() for names in (of.references, of.distortions))
    names, values = statistics.within_references(x, y, *labels)
    return values.mean(-1) if names else np.full(len(x), np.nan)


def _pooled(
    rows: Sequence[Correlation], judged: Mapping[str, Judged], higher_is: Mapping[str, str]
) -> list[Correlation]:
    """Return the mean over databases, on all pairs, of each series that all databases have."""
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
            one = judged[name]
            drawn = one.replicates([place], one.there[place])
            if drawn is not None and one.references(one.there[place]) >= FEWEST_REFERENCES:
                samples.append(drawn.samples[:, 0] * turned[name])
        low = high = math.nan
        if len(samples) == len(by_database):
            pooled = Bootstrap(np.array(math.nan), statistics.pooled(np.stack(samples), counts))
            interval = pooled.interval(next(iter(judged.values())).settings.confidence)
            low, high = float(interval.low), float(interval.high)
        first = next(iter(by_database.values()))
        found.append(
            Correlation(
                database=POOLED,
                distortion="",
                backbone=first.backbone,
                layer=first.layer,
                depth=first.depth,
                readout=first.readout,
                n=sum(counts),
                srocc=mean("srocc", signs),
                srocc_low=low,
                srocc_high=high,
                plcc=mean("plcc", signs),
                plcc_logistic=mean("plcc_logistic", np.abs(signs)),
                krocc=mean("krocc", signs),
                rmse=math.nan,
                srocc_within=mean("srocc_within", signs),
            )
        )
    return found
