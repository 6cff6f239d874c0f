"""``models.csv`` and ``winners.csv``: the best of many, held out.

Each backbone is reported at its last layer, and at the layer that agrees best. The winners are the
best of all backbones, layers and readouts, of what was tuned on human ratings, and of the baselines
that were not. :mod:`iqa_metrics.study.held_out` says how the best is judged on other images than it
was chosen on.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from iqa_metrics.backbones.factors import UNTRAINED
from iqa_metrics.statistics import Bootstrap, Interval
from iqa_metrics.study.description import JUDGING
from iqa_metrics.study.distances import Series
from iqa_metrics.study.plan import WEIGHTED
from iqa_metrics.study.rows import Model, Winner
from iqa_metrics.study.scopes import Scope


@dataclass(frozen=True)
class Best:
    """The best of some series.

    Attributes
    ----------
    series
        The series that agrees best on all of the data.
    value
        Its agreement on the data that it was chosen on, which flatters it.
    held_out
        The agreement where each fold is judged by the series that agrees best on the others, a
        scalar with bootstrap replicates. It is the value above, without replicates, if there are
        no folds.
    stability
        The share of folds for which the series above was chosen; NaN if there are none.
    """

    series: Series
    value: float
    held_out: Bootstrap
    stability: float


def best_of(scope: Scope, series: Sequence[Series]) -> Best:
    """Return the best of some series, chosen and held out."""
    places = np.array([scope.series[one] for one in series], dtype=np.intp)
    values = scope.agreement.value[places]
    best = int(values.argmax())
    if scope.folds is None:
        found = scope.agreement[int(places[best])]
        return Best(series[best], float(values[best]), found, math.nan)
    held_out = scope.folds.held_out(places.tolist())
    stability = float((held_out.chosen == places[best]).mean())
    return Best(series[best], float(values[best]), held_out.agreement, stability)


def models(scope: Scope, best: Callable[[str, str], Best | None]) -> list[Model]:
    """Return one row per backbone and readout of single layers, then one per baseline.

    Parameters
    ----------
    scope
        The agreements.
    best
        Gives the best layer of a backbone with a readout.
    """
    found = []
    for network in scope.networks:
        for readout in scope.description.readouts:
            layers, one = scope.layers(network.name, readout), best(network.name, readout)
            if one is None:
                continue
            last = _interval(scope, scope.of(layers[-1:])[0])
            held_out = _held_out(scope, one)
            found.append(
                Model(
                    database=scope.name,
                    backbone=network.name,
                    readout=readout,
                    layers=len(layers),
                    last_layer=layers[-1].layer,
                    last=float(last.value),
                    last_low=float(last.low),
                    last_high=float(last.high),
                    best_layer=one.series.layer,
                    best_depth=one.series.depth,
                    best=one.value,
                    held_out=float(held_out.value),
                    held_out_low=float(held_out.low),
                    held_out_high=float(held_out.high),
                )
            )
    for baseline in scope.description.baselines:
        agreement = scope.baseline(baseline.name)
        if agreement is not None:
            interval = _interval(scope, agreement)
            value, low, high = (float(x) for x in (interval.value, interval.low, interval.high))
            found.append(
                Model(
                    database=scope.name,
                    backbone=baseline.name,
                    readout="",
                    layers=0,
                    last_layer="",
                    last=value,
                    last_low=low,
                    last_high=high,
                    best_layer="",
                    best_depth=math.nan,
                    best=value,
                    held_out=value,  # nothing was chosen
                    held_out_low=low,
                    held_out_high=high,
                )
            )
    return found


def winners(scope: Scope) -> list[Winner]:
    """Return the best of each group that has a series in a scope."""
    found = []
    for among, series in _groups(scope).items():
        if not series:
            continue
        best = best_of(scope, series)
        held_out = _held_out(scope, best) if len(series) > 1 else _interval(scope, best.held_out)
        found.append(
            Winner(
                database=scope.name,
                among=among,
                candidates=len(series),
                backbone=best.series.backbone,
                layer=best.series.layer,
                readout=best.series.readout,
                best=best.value,
                held_out=float(held_out.value),
                low=float(held_out.low),
                high=float(held_out.high),
                stability=math.nan if scope.too_few else best.stability,
                why=scope.too_few,
            )
        )
    return found


def _groups(scope: Scope) -> Mapping[str, list[Series]]:
    """Return the series that compete with each other.

    What was tuned on or learned from human ratings never competes with what was not. Untrained
    controls do not compete.
    """
    tuned = {one.name for one in scope.description.baselines if one.tuned}
    baselines = {one.name for one in scope.description.baselines}
    goals = {one.name: one.goal for one in scope.networks}
    found: dict[str, list[Series]] = {"backbones": [], "tuned": [], "baselines": []}
    for one in scope.series:
        if one.layer:
            goal = goals.get(one.backbone, "")
            if goal == UNTRAINED:
                continue
            # A concatenation's readout says how layers were joined after a colon.
            if goal == JUDGING or one.readout.split(":")[0] == WEIGHTED:
                found["tuned"].append(one)
            else:
                found["backbones"].append(one)
        elif one.backbone in baselines:
            found["tuned" if one.backbone in tuned else "baselines"].append(one)
    return found


def _held_out(scope: Scope, best: Best) -> Interval:
    """Return the interval of a held-out value; all NaN if there are too few references."""
    if scope.too_few:
        return Interval.unknown(np.asarray(math.nan))
    return best.held_out.interval(scope.description.statistics.confidence)


def _interval(scope: Scope, agreement: Bootstrap) -> Interval:
    """Return the interval of an agreement; its ends are NaN if there are too few references."""
    if scope.too_few:
        return Interval.unknown(agreement.value)
    return agreement.interval(scope.description.statistics.confidence)
