"""Tests of the claims about what a backbone learned from: its environment, as the paper calls it.

The environment is the set of images. Who trained a backbone with which software and recipe is a
control: if that matters, differences between data sets may be due to it.
"""

import itertools
from collections.abc import Callable, Iterator

from iqa_metrics.backbones.selection import comparisons as controlled
from iqa_metrics.statistics import Bootstrap
from iqa_metrics.study.claim_groups import untuned
from iqa_metrics.study.claim_verdicts import Found, by_sign, counted, little, missing_network
from iqa_metrics.study.comparisons import Comparer, mean
from iqa_metrics.study.training_data import is_large, is_small


def _apart(first: str, second: str) -> bool:
    """Return whether one set is large and natural, and the other small or restricted."""
    return (is_large(first) and is_small(second)) or (is_small(first) and is_large(second))


def _differences(
    comparer: Comparer, factor: str, wanted: Callable[[str, str], bool]
) -> Iterator[tuple[str, str, str, Bootstrap]]:
    """Yield what a set of backbones agrees in, two values of a factor, and their difference."""
    for one in controlled(factor, among=untuned(comparer)):
        for (first, a), (second, b) in itertools.combinations(one.sets.items(), 2):
            means = [comparer.mean(n.name for n in group) for group in (a, b)]
            if wanted(first, second) and means[0] is not None and means[1] is not None:
                agreed = ", ".join(text for text in one.agreed.values() if text)
                yield agreed, first, second, means[0] - means[1]


def environment_matters_little(comparer: Comparer) -> Found:
    """Test whether backbones that learned from similar sets of images are alike."""
    found = _differences(comparer, "data", lambda a, b: not _apart(a, b))
    pairs = {f"{agreed}: {first} and {second}": one for agreed, first, second, one in found}
    if not pairs:
        return missing_network(
            "it needs two backbones with the same goal and architecture that learned from "
            "different images, such as ImageNet and Places",
            "alexnet",
            "alexnet.places365",
        )
    return little(comparer, pairs, "changes of data", comparer.margin)


def large_natural_data_is_better(comparer: Comparer) -> Found:
    """Test whether backbones that learned from large natural sets beat others that match them."""
    differences, names = [], []
    for _, first, second, one in _differences(comparer, "data", _apart):
        differences.append(one if is_large(first) else one * -1.0)
        names.append(f"{first} and {second}")
    if not differences:
        return missing_network(
            "it needs two backbones with the same goal and architecture, one that learned from a "
            "large set of natural images, and one from a small or restricted set, such as "
            "CIFAR-10; the catalogue has none of the latter, so describe yours in a record"
        )
    interval = comparer.interval(mean(differences))
    evidence = f"{counted(len(differences), 'pair')}: {', '.join(dict.fromkeys(names))}"
    return Found(interval, evidence, by_sign(interval))


def laboratory_matters_little(comparer: Comparer) -> Found:
    """Test whether backbones that differ only in who trained them, and how, are alike."""
    pairs = {
        f"{agreed}: {first} and {second}": one
        for factor in ("environment", "recipe")
        for agreed, first, second, one in _differences(comparer, factor, lambda *_: True)
    }
    if not pairs:
        return missing_network(
            "it needs two trainings with the same goal, data and architecture",
            "resnet50",
            "resnet50.caffe2",
        )
    return little(comparer, pairs, "trainings", comparer.margin)
