"""Who takes part when all are compared with all: each baseline, and each backbone at its best."""

from collections.abc import Iterator
from dataclasses import dataclass

from iqa_metrics.statistics import Bootstrap
from iqa_metrics.study.comparisons import Comparer
from iqa_metrics.study.distances import Series


@dataclass(frozen=True)
class Contender:
    """A baseline metric, or a backbone at its best layer with the plain readout.

    Attributes
    ----------
    name
        The name of the backbone or baseline.
    series
        The series that agrees best on all of the data.
    agreement
        Its agreement, held out where a layer was selected.
    selected
        Whether a layer was selected.
    similar
        Whether it is a similarity, which is higher for better images.
    """

    name: str
    series: Series
    agreement: Bootstrap
    selected: bool
    similar: bool


def contenders(comparer: Comparer) -> list[Contender]:
    """Return the baselines and the backbones of a scope, in the order of its description."""
    return [*_baselines(comparer), *_backbones(comparer)]


def _baselines(comparer: Comparer) -> Iterator[Contender]:
    scope = comparer.scope
    for one in scope.description.baselines:
        agreement = scope.baseline(one.name)
        series = next((s for s in scope.series if s.backbone == one.name), None)
        if agreement is not None and series is not None:
            yield Contender(one.name, series, agreement, False, one.higher_is_better)


def _backbones(comparer: Comparer) -> Iterator[Contender]:
    for network in comparer.scope.networks:
        best = comparer.best(network.name)
        if best is not None:
            yield Contender(network.name, best.series, best.held_out, True, False)
