"""The agreement of each series with people, on the pairs for which all series have a value.

Agreement is SROCC with its sign turned so that positive values mean agreement: as images get worse,
a distance should rise and a similarity should fall. A metric that does the opposite has a negative
agreement.

Scores that state how severe a distortion was made are no opinions, and severities of different
kinds can't be compared. There, agreement is the mean of SROCC within each kind and reference, and
such a database is not pooled with others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from iqa_metrics import statistics
from iqa_metrics.statistics import FEWEST_REFERENCES, Bootstrap
from iqa_metrics.study.correlations import Judged, Mask
from iqa_metrics.study.description import DescribedDatabase, DescribedNetwork, Description
from iqa_metrics.study.distances import Floats, Series
from iqa_metrics.study.held_out import DatabaseFolds, Folds, ReferenceFolds
from iqa_metrics.study.rows import POOLED

_LEAST_SHARE = 0.5


@dataclass(frozen=True)
class Scope:
    """Agreements that can be compared with each other.

    Attributes
    ----------
    name
        The database, or ``pooled``.
    n
        The number of pairs for which all series have a value.
    references
        The number of references that the agreement comes from. For several databases it is 1 plus
        the sum of their degrees of freedom.
    series
        The index of each series in ``agreement``.
    agreement
        The agreement of each series, with bootstrap replicates. Where there is only one reference,
        the replicates are NaN.
    folds
        What is held out to choose among series; None where there is only one reference.
    opinion
        Whether the scores are human ratings.
    left_out
        Series that are not compared: those that failed on so many pairs that few would be left for
        the others, that have no correlation, or that some of the databases lack.
    description
        The description of the study.
    databases
        The scopes that this one is the mean of, if it is about several databases.
    """

    name: str
    n: int
    references: int
    series: Mapping[Series, int]
    agreement: Bootstrap
    folds: Folds | None
    opinion: bool
    left_out: tuple[Series, ...]
    description: Description
    databases: tuple["Scope", ...] = ()

    @property
    def too_few(self) -> str:
        """Why there are no intervals and no held-out values, or an empty text."""
        few = [one.name for one in self.databases if one.too_few]
        if few:
            return (
                f"there are pairs of fewer than {FEWEST_REFERENCES} reference images in "
                f"{', '.join(few)}, and an interval says how much others would have changed the "
                "result"
            )
        if self.references >= FEWEST_REFERENCES:
            return ""
        images = "image" if self.references == 1 else "images"
        return (
            f"there are pairs of only {self.references} reference {images}, and an interval says "
            f"how much others would have changed the result: expected at least {FEWEST_REFERENCES}"
        )

    def of(self, series: Sequence[Series]) -> Bootstrap:
        """Return the agreements of some series."""
        return self.agreement[np.array([self.series[one] for one in series], dtype=np.intp)]

    def baseline(self, name: str) -> Bootstrap | None:
        """Return the agreement of a baseline metric, or None if it was not measured."""
        place = next((at for s, at in self.series.items() if s.backbone == name), None)
        known = {one.name for one in self.description.baselines}
        return None if place is None or name not in known else self.agreement[place]

    def layers(self, backbone: str, readout: str) -> list[Series]:
        """Return the series of a backbone with a readout, from input to output."""
        found = [s for s in self.series if s.backbone == backbone and s.readout == readout]
        return sorted(found, key=lambda one: one.depth)

    @property
    def networks(self) -> list[DescribedNetwork]:
        """The backbones that have a layer in this scope."""
        there = {one.backbone for one in self.series if one.layer}
        return [one for one in self.description.backbones if one.name in there]


def scopes(judged: Mapping[str, Judged], description: Description) -> list[Scope]:
    """Return a scope for each database and, if several have opinion scores, one for these together.

    Databases with too few pairs are left out.
    """
    described = {one.name: one for one in description.databases}
    similar = {one.name for one in description.baselines if one.higher_is_better}
    found = []
    for name, one in judged.items():
        scope = _scope(one, described[name], similar, description)
        if scope is not None:
            found.append(scope)
    poolable = [scope for scope in found if scope.opinion]
    return [*found, _pooled(poolable)] if len(poolable) > 1 else found


def _scope(
    judged: Judged, database: DescribedDatabase, similar: set[str], description: Description
) -> Scope | None:
    measured = judged.measured
    shares = judged.there.mean(axis=1)
    rows = [row for row, share in enumerate(shares) if share > _LEAST_SHARE]
    pairs: Mask = np.asarray(judged.there[rows].all(axis=0))
    while rows and pairs.mean() <= _LEAST_SHARE:
        # Too few pairs have a value in all series: leave out the series with the most failures.
        rows.remove(min(rows, key=lambda row: shares[row]))
        pairs = np.asarray(judged.there[rows].all(axis=0))
    if not rows or pairs.sum() < statistics.FEWEST:
        return None
    of_opinion = 1.0 if database.higher_is == "worse" else -1.0
    signs = np.array(
        [-of_opinion if measured.series[row].backbone in similar else of_opinion for row in rows]
    )
    agreement, folds = _agreement(judged, rows, signs, pairs)
    known = np.flatnonzero(np.isfinite(agreement.value))
    if not len(known):
        return None
    if len(known) < len(rows):
        kept = [rows[at] for at in known]
        agreement, folds = _agreement(judged, kept, signs[known], pairs)
        rows = kept
    places = {measured.series[row]: place for place, row in enumerate(rows)}
    return Scope(
        name=database.name,
        n=int(pairs.sum()),
        references=judged.references(pairs),
        series=places,
        agreement=agreement,
        folds=folds,
        opinion=database.opinion,
        left_out=tuple(one for one in measured.series if one not in places),
        description=description,
    )


def _agreement(
    judged: Judged, rows: Sequence[int], signs: Floats, pairs: Mask
) -> tuple[Bootstrap, ReferenceFolds | None]:
    drawn = judged.replicates(rows, pairs)
    if drawn is None:
        return _without_replicates(judged.correlation(rows, pairs) * signs), None

    def split() -> Floats:
        return judged.contributions(rows, pairs) * signs

    agreement = drawn * signs
    return agreement, ReferenceFolds(agreement, split, judged.drawn(pairs))


def _without_replicates(values: Floats) -> Bootstrap:
    return Bootstrap(values, np.full((1, len(values)), np.nan))


def _pooled(found: Sequence[Scope]) -> Scope:
    common = [one for one in found[0].series if all(one in scope.series for scope in found)]
    parts = [scope.of(common) for scope in found]
    counts = [scope.n for scope in found]
    everything = dict.fromkeys(one for scope in found for one in scope.series)
    draws = max(len(part.samples) for part in parts)
    alike = [
        Bootstrap(part.value, np.broadcast_to(part.samples, (draws, len(common)))) for part in parts
    ]
    samples = np.stack([part.samples for part in alike])
    # A database without replicates says nothing of how certain the mean is.
    unknown = np.isnan(samples).any(axis=0)
    samples = np.where(unknown, np.nan, statistics.pooled(samples, counts))
    return Scope(
        name=POOLED,
        n=sum(counts),
        references=sum(scope.references - 1 for scope in found) + 1,
        series={one: place for place, one in enumerate(common)},
        agreement=Bootstrap(
            statistics.pooled(np.stack([part.value for part in parts]), counts), samples
        ),
        folds=DatabaseFolds(alike, counts),
        opinion=True,
        left_out=tuple(one for one in everything if one not in common),
        description=found[0].description,
        databases=tuple(found),
    )
