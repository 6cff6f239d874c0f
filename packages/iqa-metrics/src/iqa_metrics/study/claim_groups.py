"""The groups of backbones that claims are about."""

from collections.abc import Iterable

from iqa_metrics.backbones.factors import UNTRAINED
from iqa_metrics.study.comparisons import Comparer
from iqa_metrics.study.description import JUDGING, DescribedNetwork

SIMPLE, VERY_DEEP = 20, 40
"""The most weighted layers of a simple backbone, and the fewest of a very deep one."""

_SELF = ("self-supervised", "unsupervised")


def untuned(comparer: Comparer) -> list[DescribedNetwork]:
    """Return the trained backbones that were not tuned on human ratings of images."""
    return [one for one in comparer.scope.networks if one.goal not in (UNTRAINED, JUDGING)]


def classifiers(comparer: Comparer) -> list[DescribedNetwork]:
    """Return the backbones trained to classify images."""
    return [one for one in comparer.scope.networks if one.goal == "classification"]


def self_supervised(comparer: Comparer) -> list[DescribedNetwork]:
    """Return the backbones trained without labels."""
    return [one for one in comparer.scope.networks if one.goal in _SELF]


def trained_on_jigsaw_puzzles(comparer: Comparer) -> list[DescribedNetwork]:
    """Return the backbones trained to solve jigsaw puzzles."""
    return [one for one in comparer.scope.networks if one.method == "jigsaw"]


def simple(networks: Iterable[DescribedNetwork]) -> list[DescribedNetwork]:
    """Return those with few weighted layers."""
    return [one for one in networks if one.weighted_layers and one.weighted_layers <= SIMPLE]


def very_deep(networks: Iterable[DescribedNetwork]) -> list[DescribedNetwork]:
    """Return those with many weighted layers."""
    return [one for one in networks if (one.weighted_layers or 0) >= VERY_DEEP]
