"""Tests of the claims about depth: of backbones, and of the layers within a backbone."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from iqa_metrics.backbones.selection import comparisons as controlled
from iqa_metrics.statistics import Bootstrap
from iqa_metrics.study.claim_groups import classifiers, simple, untuned, very_deep
from iqa_metrics.study.claim_verdicts import (
    Found,
    by_sign,
    counted,
    median,
    missing_network,
    together,
)
from iqa_metrics.study.comparisons import Comparer, mean
from iqa_metrics.study.description import DescribedNetwork
from iqa_metrics.study.distances import Series
from iqa_metrics.study.models import best_of
from iqa_metrics.study.rows import CONTRADICTED, SUPPORTED, UNDECIDED

_FEWEST_LAYERS = 4
MIDDLE = (0.25, 0.75)
"""The relative depths between which a layer counts as one in the middle."""


def simple_beat_very_deep(comparer: Comparer) -> Found:
    """Test whether simple classifiers are on average better than very deep ones."""
    groups = [group(classifiers(comparer)) for group in (simple, very_deep)]
    means = [comparer.mean(one.name for one in group) for group in groups]
    if means[0] is None or means[1] is None:
        return missing_network("it needs simple and very deep classifiers", "alexnet", "resnet101")
    interval = comparer.interval(means[0] - means[1])
    counts = [len(group) for group in groups]
    return Found(interval, f"{counts[0]} simple, {counts[1]} very deep", by_sign(interval))


def deeper_is_worse_within_families(comparer: Comparer) -> Found:
    """Test whether agreement falls with the number of layers within families of classifiers."""
    slopes, names = [], []
    for one in controlled("depth", among=classifiers(comparer)):
        depths, values = [], []
        for depth, members in one.sets.items():
            found = comparer.mean(n.name for n in members)
            if found is not None:
                depths.append(np.log2(float(depth)))
                values.append(found)
        if len(values) > 1:
            slopes.append(_slope(depths, together(values)))
            names.append(one.agreed.get("family", ""))
    if not slopes:
        return missing_network(
            "it needs two classifiers of one family that differ in depth", "vgg11", "vgg19"
        )
    interval = comparer.interval(mean(slopes) * -1.0)
    said = ", ".join(dict.fromkeys(name for name in names if name))
    evidence = f"{counted(len(slopes), 'family').replace('familys', 'families')}: {said}"
    return Found(interval, evidence, by_sign(interval))


def rises_with_depth(comparer: Comparer) -> Found:
    """Test whether agreement rises along the layers of simple backbones."""
    slopes = _slopes(comparer, simple)
    if not slopes:
        return missing_network(
            f"it needs a simple backbone with at least {_FEWEST_LAYERS} layers", "alexnet"
        )
    interval, margin = comparer.interval(mean(slopes)), comparer.margin
    evidence = f"the mean of {counted(len(slopes), 'simple backbone')}"
    others = _slopes(comparer, very_deep)
    if others:
        evidence += f"; in {len(others)} very deep: {float(mean(others).value):+.2f}"
    verdict = UNDECIDED
    if interval.low > margin:
        verdict = SUPPORTED
    elif interval.high < 0 or (interval.low >= -margin and interval.high <= margin):
        verdict = CONTRADICTED
    return Found(interval, evidence, verdict)


def _slopes(
    comparer: Comparer,
    group: Callable[[Iterable[DescribedNetwork]], list[DescribedNetwork]],
) -> list[Bootstrap]:
    """Return the slope of agreement over relative depth, for each backbone of a group."""
    found = []
    for network in group(untuned(comparer)):
        layers = _layers(comparer, network.name)
        if layers:
            found.append(_slope([one.depth for one in layers], comparer.scope.of(layers)))
    return found


def _slope(x: Sequence[float], agreement: Bootstrap) -> Bootstrap:
    """Return the slope of agreements ``[k]`` over ``x [k]`` by least squares, a scalar."""
    centred = np.array(x) - np.mean(x)
    weights = centred / np.square(centred).sum()
    return Bootstrap(np.asarray(agreement.value @ weights), agreement.samples @ weights)


def _layers(comparer: Comparer, backbone: str) -> list[Series]:
    """Return the layers of a backbone, or none if they are too few to speak of depth."""
    layers = comparer.scope.layers(backbone, comparer.plain)
    known = [one for one in layers if np.isfinite(one.depth)]
    return known if len({one.depth for one in known}) >= _FEWEST_LAYERS else []


def best_is_not_the_last(comparer: Comparer) -> Found:
    """Test whether the best of the other layers beats the last, in the median backbone."""
    differences = []
    for network in untuned(comparer):
        layers = _layers(comparer, network.name)
        if layers:
            last = comparer.scope.of(layers[-1:])[0]
            differences.append(best_of(comparer.scope, layers[:-1]).held_out - last)
    if not differences:
        return missing_network(
            f"it needs a backbone with at least {_FEWEST_LAYERS} layers", "alexnet"
        )
    interval = comparer.interval(median(differences))
    higher = sum(bool(one.value > 0) for one in differences)
    evidence = f"the median of {counted(len(differences), 'backbone')}; {higher} above the last"
    return Found(interval, evidence, by_sign(interval))


def middle_beats_embeddings(comparer: Comparer) -> Found:
    """Test whether the best layer in the middle beats the last layer."""
    differences = []
    for network in untuned(comparer):
        layers = _layers(comparer, network.name)
        middle: Sequence[Series] = [one for one in layers if MIDDLE[0] <= one.depth <= MIDDLE[1]]
        if middle:
            last = comparer.scope.of(layers[-1:])[0]
            differences.append(best_of(comparer.scope, middle).held_out - last)
    if not differences:
        return missing_network(
            f"it needs a backbone with at least {_FEWEST_LAYERS} layers, some in the middle",
            "alexnet",
        )
    interval = comparer.interval(mean(differences))
    return Found(
        interval, f"the mean of {counted(len(differences), 'backbone')}", by_sign(interval)
    )
