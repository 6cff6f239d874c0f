"""Tests of the claims about readouts: descriptors, concatenations and channel relevance."""

import itertools

from iqa_metrics.statistics import Bootstrap
from iqa_metrics.study.claim_groups import untuned
from iqa_metrics.study.claim_verdicts import (
    RUN,
    Found,
    by_sign,
    counted,
    little,
    no_network,
    not_tested,
)
from iqa_metrics.study.comparisons import Comparer, concatenations, descriptors, mean
from iqa_metrics.study.plan import WEIGHTED


def descriptors_change_little(comparer: Comparer) -> Found:
    """Test whether statistical descriptors and the plain readout are alike."""
    names = descriptors(comparer.scope.description.readouts, comparer.plain)
    differences: dict[str, list[Bootstrap]] = {}
    for name, network in itertools.product(names, untuned(comparer)):
        plain, other = comparer.best(network.name), comparer.best(network.name, name)
        if plain is not None and other is not None:
            differences.setdefault(name, []).append(other.held_out - plain.held_out)
    if not differences:
        return not_tested(
            "no statistical descriptor was measured, such as channel_mean_std",
            f"{RUN} --readout {comparer.plain or 'euclidean'},channel_mean_std,gram",
        )
    means = {name: mean(parts) for name, parts in differences.items()}
    return little(comparer, means, "descriptors", comparer.margin)


def concatenation_changes_little(comparer: Comparer) -> Found:
    """Test whether concatenations of layers and single layers are alike."""
    differences: dict[str, list[Bootstrap]] = {}
    for network in untuned(comparer):
        single = comparer.best(network.name)
        if single is None:
            continue
        for name, best in concatenations(comparer, network).items():
            differences.setdefault(name, []).append(best.held_out - single.held_out)
    if not differences:
        return not_tested(
            "no concatenation of layers was measured", f"{RUN} --concatenation cumulative:joint"
        )
    means = {name: mean(parts) for name, parts in differences.items()}
    return little(comparer, means, "concatenations", comparer.margin)


def channel_relevance_gains(comparer: Comparer) -> Found:
    """Test whether channel weights learned from other references raise agreement."""
    if not untuned(comparer):
        return no_network()
    differences = [
        weighted.held_out - plain.held_out
        for network in untuned(comparer)
        if (plain := comparer.best(network.name, "euclidean")) is not None
        and (weighted := comparer.best(network.name, WEIGHTED)) is not None
    ]
    if not differences:
        return not_tested(
            f"the readout {WEIGHTED} was not measured beside euclidean",
            f"{RUN} --readout euclidean,{WEIGHTED}",
        )
    interval = comparer.interval(mean(differences))
    return Found(
        interval, f"the mean of {counted(len(differences), 'backbone')}", by_sign(interval)
    )
