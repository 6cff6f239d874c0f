"""The agreement of each series with people, on the pairs for which all series have a value.

Agreement is SROCC with its sign turned so that positive values mean agreement: as images get worse,
a distance should rise and a similarity should fall. A metric that does the opposite has a negative
agreement.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from iqa_metrics import statistics
from iqa_metrics.statistics import Bootstrap
from iqa_metrics.study.correlations import Judged, Mask
from iqa_metrics.study.description import DescribedNetwork, Description
from iqa_metrics.study.distances import Series
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
        The number of references of these pairs. For several databases it is 1 plus the sum of their
        degrees of freedom.
    series
        The index of each series in ``agreement``.
    agreement
        The agreement of each series, with bootstrap replicates.
    left_out
        Series that are not compared: those that failed on so many pairs that few would be left for
        the others, that have no correlation, or that some of the databases lack.
    description
        The description of the study.
    """

    name: str
    n: int
    references: int
    series: Mapping[Series, int]
    agreement: Bootstrap
    left_out: tuple[Series, ...]
    description: Description

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
    """Return a scope for each database and, if there are several, one for all together.

    Databases with too few pairs, or with only one reference, are left out.
    """
    higher_is = {one.name: one.higher_is for one in description.databases}
    similar = {one.name for one in description.baselines if one.higher_is_better}
    found = []
    for name, one in judged.items():
        scope = _scope(name, one, higher_is[name], similar, description)
        if scope is not None:
            found.append(scope)
    return [*found, _pooled(found)] if len(found) > 1 else found


def _scope(
    name: str, judged: Judged, higher_is: str, similar: set[str], description: Description
) -> Scope | None:
    measured = judged.measured
    shares = judged.there.mean(axis=1)
    rows = [row for row, share in enumerate(shares) if share > _LEAST_SHARE]
    pairs: Mask = np.asarray(judged.there[rows].all(axis=0))
    while rows and pairs.mean() <= _LEAST_SHARE:
        # Too few pairs have a value in all series: leave out the series with the most failures.
        rows.remove(min(rows, key=lambda row: shares[row]))
        pairs = np.asarray(judged.there[rows].all(axis=0))
    if not rows:
        return None
    drawn = judged.replicates(rows, pairs)
    if drawn is None:
        return None
    of_opinion = 1.0 if higher_is == "worse" else -1.0
    signs = [
        -of_opinion if measured.series[row].backbone in similar else of_opinion for row in rows
    ]
    known = [at for at, value in enumerate(drawn.value) if np.isfinite(value)]
    places = {measured.series[rows[at]]: place for place, at in enumerate(known)}
    return Scope(
        name=name,
        n=int(pairs.sum()),
        references=judged.references(pairs),
        series=places,
        agreement=(drawn * np.array(signs))[np.array(known, dtype=np.intp)],
        left_out=tuple(one for one in measured.series if one not in places),
        description=description,
    )


def _pooled(found: Sequence[Scope]) -> Scope:
    common = [one for one in found[0].series if all(one in scope.series for scope in found)]
    parts = [scope.of(common) for scope in found]
    counts = [scope.n for scope in found]
    everything = dict.fromkeys(one for scope in found for one in scope.series)
    return Scope(
        name=POOLED,
        n=sum(counts),
        references=sum(scope.references - 1 for scope in found) + 1,
        series={one: place for place, one in enumerate(common)},
        agreement=Bootstrap(
            statistics.pooled(np.stack([part.value for part in parts]), counts),
            statistics.pooled(np.stack([part.samples for part in parts]), counts),
        ),
        left_out=tuple(one for one in everything if one not in common),
        description=found[0].description,
    )
