"""``models.csv``: each backbone at its last layer, and at the layer that agrees best.

A layer that is selected as the best of many looks better on the data it was selected on than it is.
The bootstrap estimates by how much. In each replicate the best layer is selected again; the
difference between its agreement in this replicate and its mean agreement over all replicates,
averaged over replicates, is the optimism of selection. It is subtracted. The comparison is with the
mean over replicates, and not with the agreement on all pairs, because resampling few references
raises rank correlations slightly for every series, including baselines that were not selected. In
comparisons, each replicate uses the layer that is best in it, so that intervals include the
uncertainty of the selection.

References
----------
B. Efron and R. J. Tibshirani, "An Introduction to the Bootstrap", 1993, section 17.6; F. E.
Harrell, K. L. Lee and D. B. Mark, Statistics in Medicine 15(4), 1996.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from iqa_metrics.statistics import Bootstrap
from iqa_metrics.study.distances import Series
from iqa_metrics.study.rows import Model
from iqa_metrics.study.scopes import Scope

_ROUNDING = 1e-12


@dataclass(frozen=True)
class Best:
    """The best of some series.

    Attributes
    ----------
    series
        The series that agrees best.
    value
        Its agreement on the pairs that it was selected on.
    optimism
        How much of that is due to the selection, at least 0.
    held_out
        Its agreement minus the optimism, a scalar with bootstrap replicates.
    """

    series: Series
    value: float
    optimism: float
    held_out: Bootstrap


def best_of(scope: Scope, series: Sequence[Series]) -> Best:
    """Return the best of some series, with the optimism of selecting it."""
    found = scope.of(series)
    best = int(found.value.argmax())
    selected = np.nan_to_num(found.samples, nan=-2.0).argmax(axis=1)  # in each replicate
    replicates = np.take_along_axis(found.samples, selected[:, None], axis=1)[:, 0]
    gains = replicates - found.samples.mean(axis=0)[selected]
    optimism = float(gains.mean()) if np.isfinite(gains).all() else 0.0
    optimism = optimism if optimism > _ROUNDING else 0.0
    return Best(
        series=series[best],
        value=float(found.value[best]),
        optimism=optimism,
        held_out=Bootstrap(found.value[best] - optimism, replicates - optimism),
    )


def models(scope: Scope) -> list[Model]:
    """Return one row per backbone and readout of single layers, then one per baseline."""
    confidence = scope.description.statistics.confidence
    found = []
    for network in scope.networks:
        for readout in scope.description.readouts:
            layers = scope.layers(network.name, readout)
            if not layers:
                continue
            last, best = scope.of(layers[-1:])[0].interval(confidence), best_of(scope, layers)
            held_out = best.held_out.interval(confidence)
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
                    best_layer=best.series.layer,
                    best_depth=best.series.depth,
                    best=best.value,
                    held_out=float(held_out.value),
                    held_out_low=float(held_out.low),
                    held_out_high=float(held_out.high),
                )
            )
    for one in scope.description.baselines:
        agreement = scope.baseline(one.name)
        if agreement is not None:
            interval = agreement.interval(confidence)
            value, low, high = (float(x) for x in (interval.value, interval.low, interval.high))
            found.append(
                Model(
                    database=scope.name,
                    backbone=one.name,
                    readout="",
                    layers=0,
                    last_layer="",
                    last=value,
                    last_low=low,
                    last_high=high,
                    best_layer="",
                    best_depth=math.nan,
                    best=value,
                    held_out=value,
                    held_out_low=low,
                    held_out_high=high,
                )
            )
    return found
