"""``comparisons.csv``: differences in agreement on the same pairs, question by question.

The interval of a difference is a Student's t interval over reference images (see
:meth:`iqa_metrics.statistics.Bootstrap.student_interval`). P-values are corrected by Holm's method
within each question and database. Backbones are compared at their best layers, held out: each
reference is judged by the layer that is best on the others. Where there are too few references,
differences have no intervals.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from iqa_metrics import statistics
from iqa_metrics.backbones import FACTORS
from iqa_metrics.backbones.selection import comparisons as controlled
from iqa_metrics.names import UnknownNameError
from iqa_metrics.readouts import readout
from iqa_metrics.statistics import Bootstrap
from iqa_metrics.study import procedures
from iqa_metrics.study.concatenated import JOIN
from iqa_metrics.study.description import DescribedBaseline, DescribedNetwork
from iqa_metrics.study.models import Best, best_of
from iqa_metrics.study.plan import WEIGHTED
from iqa_metrics.study.rows import FIRST, SAME, SECOND, UNDECIDED, Compared
from iqa_metrics.study.scopes import Scope
from iqa_metrics.study.settings import Statistics

QUESTIONS = (
    "baseline",
    *FACTORS,
    "layer",
    "readout",
    "descriptors",
    "concatenation",
    "channel_weights",
)


class Comparer:
    """Compares the series of a scope, and finds each best layer only once.

    Parameters
    ----------
    scope
        The agreements.
    """

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.plain = scope.description.plain
        self._best: dict[tuple[str, str], Best] = {}

    def best(self, backbone: str, readout: str = "") -> Best | None:
        """Return a backbone's best layer with a readout, by default the plain one."""
        key = (backbone, readout or self.plain)
        if key not in self._best:
            series = self.scope.layers(*key)
            if not series:
                return None
            self._best[key] = best_of(self.scope, series)
        return self._best[key]

    def best_baseline(self, wanted: Callable[[DescribedBaseline], bool]) -> Best | None:
        """Return the best of some baseline metrics, held out; None if none was measured."""
        names = {one.name for one in self.scope.description.baselines if wanted(one)}
        series = [one for one in self.scope.series if not one.layer and one.backbone in names]
        return best_of(self.scope, series) if series else None

    @property
    def margin(self) -> float:
        """The largest difference that counts as none."""
        return self.scope.description.statistics.margin

    @property
    def level(self) -> float:
        """The share of wrong verdicts that is accepted."""
        return 1 - self.scope.description.statistics.confidence

    def mean(self, networks: Iterable[str]) -> Bootstrap | None:
        """Return the mean agreement of backbones at their best layers."""
        best = [found for found in map(self.best, networks) if found is not None]
        return mean([one.held_out for one in best]) if best else None

    def interval(self, difference: Bootstrap) -> statistics.Interval:
        """Return the interval of a difference, over references; NaN if these are too few."""
        if self.scope.too_few:
            return statistics.Interval.unknown(difference.value)
        return procedures.DIFFERENCES.run(
            difference, self.scope.references, self.scope.description.statistics.confidence
        )


def mean(parts: Sequence[Bootstrap]) -> Bootstrap:
    """Return the mean of scalars, for each bootstrap replicate."""
    return Bootstrap(
        np.mean([part.value for part in parts], axis=0),
        np.mean([part.samples for part in parts], axis=0),
    )


def compared(comparer: Comparer) -> list[Compared]:
    """Return all comparisons that are possible in a scope."""
    found: list[Compared] = []
    asked: Mapping[str, Callable[[Comparer], Iterator[_Asked]]] = {
        "baseline": _baselines,
        **{factor: _factor(factor) for factor in FACTORS},
        "layer": _layers,
        "readout": _readouts,
        "descriptors": _descriptors,
        "concatenation": _concatenations,
        "channel_weights": _channel_weights,
    }
    scope = comparer.scope
    for question in QUESTIONS:
        rows = []
        for backbone, first, second, difference in asked[question](comparer):
            got = comparer.interval(difference)
            rows.append(
                Compared(
                    question=question,
                    database=scope.name,
                    backbone=backbone,
                    first=first,
                    second=second,
                    n=scope.n,
                    difference=float(got.value),
                    low=float(got.low),
                    high=float(got.high),
                    p=float(got.p),
                )
            )
        corrected = procedures.FAMILIES.run(row.p for row in rows)
        settings = scope.description.statistics
        for row, p in zip(rows, corrected.tolist(), strict=True):
            verdict = verdict_of(row.difference, row.low, row.high, p, settings)
            found.append(replace(row, p_corrected=p, verdict=verdict))
    return found


_Asked = tuple[str, str, str, Bootstrap]
"""The column ``backbone``, what is compared, and the difference."""


def verdict_of(difference: float, low: float, high: float, p: float, settings: Statistics) -> str:
    """Return the verdict on a difference, from its interval and its corrected p-value."""
    if -settings.margin <= low and high <= settings.margin:
        return SAME
    if p < 1 - settings.confidence:
        return FIRST if difference > 0 else SECOND
    return UNDECIDED


def _baselines(comparer: Comparer) -> Iterator[_Asked]:
    for network, known in itertools.product(
        comparer.scope.networks, comparer.scope.description.baselines
    ):
        best, baseline = comparer.best(network.name), comparer.scope.baseline(known.name)
        if best is not None and baseline is not None:
            yield network.name, network.name, known.name, best.held_out - baseline


def _factor(factor: str) -> Callable[[Comparer], Iterator[_Asked]]:
    def rows(comparer: Comparer) -> Iterator[_Asked]:
        for one in controlled(factor, among=comparer.scope.networks):
            agreed = ", ".join(text for text in one.agreed.values() if text)
            for (first, a), (second, b) in itertools.combinations(one.sets.items(), 2):
                means = [comparer.mean(n.name for n in members) for members in (a, b)]
                if means[0] is not None and means[1] is not None:
                    yield agreed, first, second, means[0] - means[1]

    return rows


def _layers(comparer: Comparer) -> Iterator[_Asked]:
    for network in comparer.scope.networks:
        best = comparer.best(network.name)
        series = comparer.scope.layers(network.name, comparer.plain)
        if best is not None and len(series) > 1:
            last = comparer.scope.of(series[-1:])[0]
            # If the last layer is the best one, the difference is exactly 0.
            apart = last - last if best.series == series[-1] else best.held_out - last
            yield network.name, f"best layer, {best.series.layer}", "last layer", apart


def descriptors(readouts: Iterable[str], plain: str) -> list[str]:
    """Return the readouts that compare statistics of a feature map, except the plain one."""
    return [name for name in readouts if name != plain and _is_descriptor(name)]


def _is_descriptor(name: str) -> bool:
    try:
        return readout(name).descriptor
    except UnknownNameError:  # the table was made elsewhere
        return False


def _of_readouts(comparer: Comparer, names: Iterable[str]) -> Iterator[_Asked]:
    """Compare readouts with the plain one, each at the layer where it agrees best."""
    for network, name in itertools.product(comparer.scope.networks, list(names)):
        plain, other = comparer.best(network.name), comparer.best(network.name, name)
        if plain is not None and other is not None:
            yield network.name, name, comparer.plain, other.held_out - plain.held_out


def _descriptors(comparer: Comparer) -> Iterator[_Asked]:
    return _of_readouts(comparer, descriptors(comparer.scope.description.readouts, comparer.plain))


def _readouts(comparer: Comparer) -> Iterator[_Asked]:
    names = comparer.scope.description.readouts
    left = {comparer.plain, WEIGHTED, *descriptors(names, comparer.plain)}
    return _of_readouts(comparer, [name for name in names if name not in left])


def concatenations(comparer: Comparer, network: DescribedNetwork) -> dict[str, Best]:
    """Return the best concatenation of each kind, for a backbone's layers and plain readout."""
    found: dict[str, Best] = {}
    names = [layer.name for layer in network.layers]
    prefixes = {JOIN.join(names[:count]) for count in range(2, len(names) + 1)}
    for kind in comparer.scope.description.concatenations:
        which, how = kind.split(":")
        series = [
            one
            for one in comparer.scope.layers(network.name, f"{comparer.plain}:{how}")
            if (one.layer in prefixes if which == "cumulative" else one.layer.count(JOIN) == 1)
        ]
        if series:
            said = "cumulative layers" if which == "cumulative" else "two layers"
            found[f"{said}, {how}"] = best_of(comparer.scope, series)
    return found


def _concatenations(comparer: Comparer) -> Iterator[_Asked]:
    for network in comparer.scope.networks:
        single = comparer.best(network.name)
        if single is None:
            continue
        for name, best in concatenations(comparer, network).items():
            yield network.name, name, "best single layer", best.held_out - single.held_out


def _channel_weights(comparer: Comparer) -> Iterator[_Asked]:
    """Compare held-out learned channel weights with equal weights, layer by layer."""
    if WEIGHTED not in comparer.scope.description.readouts or comparer.plain != "euclidean":
        return
    for network in comparer.scope.networks:
        plain = {one.layer: one for one in comparer.scope.layers(network.name, comparer.plain)}
        for one in comparer.scope.layers(network.name, WEIGHTED):
            if one.layer in plain:
                both = comparer.scope.of([one, plain[one.layer]])
                learned = f"learned weights, {one.layer}"
                yield network.name, learned, "equal weights", both[0] - both[1]
