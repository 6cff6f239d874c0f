"""``models.csv``: each network at its last layer, and at the layer that agrees best.

The best of many layers on some data looks better there than it is. How much, the bootstrap tells:
in each draw the best layer is chosen anew, and how much better that layer is in the draw than it is
in all draws is, on average, the optimism of having chosen. It is taken off. (Than in all draws, not
than on all pairs: draws of few references have somewhat higher rank correlations whatever is
chosen, and baselines, which are not chosen, have that as well.) In comparisons a draw counts with
the layer that it would have chosen, so that intervals know that another might have been.

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
        It.
    value
        Its agreement, chosen on the same pairs.
    optimism
        What of that comes from choosing, at least 0.
    corrected
        Its agreement without that, a scalar with draws.
    """

    series: Series
    value: float
    optimism: float
    corrected: Bootstrap


def best_of(scope: Scope, series: Sequence[Series]) -> Best:
    """Return the best of some series, with the optimism of choosing it."""
    found = scope.of(series)
    best = int(found.value.argmax())
    in_draw = np.nan_to_num(found.samples, nan=-2.0).argmax(axis=1)
    drawn = np.take_along_axis(found.samples, in_draw[:, None], axis=1)[:, 0]
    gains = drawn - found.samples.mean(axis=0)[in_draw]
    optimism = float(gains.mean()) if np.isfinite(gains).all() else 0.0
    optimism = optimism if optimism > _ROUNDING else 0.0
    return Best(
        series[best],
        float(found.value[best]),
        optimism,
        Bootstrap(found.value[best] - optimism, drawn - optimism),
    )


def models(scope: Scope) -> list[Model]:
    """Return a row for each network and readout of single layers, then for each baseline."""
    confidence = scope.description.statistics.confidence
    found = []
    for network in scope.networks:
        for readout in scope.description.readouts:
            layers = scope.layers(network.name, readout)
            if not layers:
                continue
            last, best = scope.of(layers[-1:])[0].interval(confidence), best_of(scope, layers)
            corrected = best.corrected.interval(confidence)
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
                    optimism=best.optimism,
                    corrected=float(corrected.value),
                    corrected_low=float(corrected.low),
                    corrected_high=float(corrected.high),
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
                    optimism=0.0,
                    corrected=value,
                    corrected_low=low,
                    corrected_high=high,
                )
            )
    return found
