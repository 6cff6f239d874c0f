"""Tests of the claims that compare backbones with other metrics, and goals with each other."""

from collections.abc import Callable

from iqa_metrics import statistics
from iqa_metrics.backbones.selection import comparisons as controlled
from iqa_metrics.statistics import Bootstrap
from iqa_metrics.study.claim_groups import (
    classifiers,
    self_supervised,
    untuned,
)
from iqa_metrics.study.claim_verdicts import (
    CORRECTED,
    Found,
    by_sign,
    counted,
    median,
    missing_baseline,
    missing_network,
    no_network,
    one_above,
)
from iqa_metrics.study.comparisons import Comparer, mean
from iqa_metrics.study.description import DescribedNetwork
from iqa_metrics.study.rows import CONTRADICTED, SUPPORTED, UNDECIDED

_NO_TUNED = "a metric that was tuned on human ratings, such as dists or lpips_alex,"


def _beyond(
    comparer: Comparer, other: Bootstrap, networks: list[DescribedNetwork]
) -> dict[str, Bootstrap]:
    """Return how much better each backbone is than another metric, at its held-out best layer."""
    best = {one.name: comparer.best(one.name) for one in networks}
    return {name: one.held_out - other for name, one in best.items() if one is not None}


def all_beat_ssim(comparer: Comparer) -> Found:
    """Test whether each trained backbone is better than SSIM."""
    ssim = comparer.scope.baseline("ssim")
    if ssim is None:
        return missing_baseline("SSIM", "ssim", weights=False)
    differences = _beyond(comparer, ssim, untuned(comparer))
    if not differences:
        return no_network()
    intervals = {name: comparer.interval(one) for name, one in differences.items()}
    p = statistics.holm(float(one.p) for one in intervals.values()).tolist()
    worse = [
        name
        for name, one in zip(intervals, p, strict=True)
        if one < comparer.level and intervals[name].value < 0
    ]
    better = sum(bool(one.low > 0) for one in intervals.values())
    least = min(intervals, key=lambda name: float(intervals[name].value))
    evidence = f"{better} of {counted(len(p), 'backbone')} better; smallest for: {least}"
    if worse:
        return Found(intervals[least], f"{evidence}; worse: {', '.join(worse)}", CONTRADICTED)
    if better == len(p):
        return Found(intervals[least], evidence, SUPPORTED)
    below = bool(intervals[least].high < 0)
    return Found(intervals[least], evidence, UNDECIDED, CORRECTED if below else "")


def most_beat_ssim(comparer: Comparer) -> Found:
    """Test whether the median trained backbone is better than SSIM."""
    ssim = comparer.scope.baseline("ssim")
    if ssim is None:
        return missing_baseline("SSIM", "ssim", weights=False)
    differences = _beyond(comparer, ssim, untuned(comparer))
    if not differences:
        return no_network()
    interval = comparer.interval(median(differences.values()))
    higher = sum(bool(one.value > 0) for one in differences.values())
    evidence = f"the median of {counted(len(differences), 'backbone')}; {higher} above SSIM"
    return Found(interval, evidence, by_sign(interval))


def some_match(comparer: Comparer, margin: float) -> Found:
    """Test whether an untuned backbone is not worse than the best tuned metric.

    With a margin of 0 the test is whether one is better.
    """
    tuned = comparer.best_baseline(lambda one: one.tuned)
    if tuned is None:
        return missing_baseline(_NO_TUNED, "dists", "lpips_alex")
    differences = _beyond(comparer, tuned.held_out, untuned(comparer))
    if not differences:
        return no_network()
    most = max(differences, key=lambda one: float(differences[one].value))
    interval = comparer.interval(differences[most])
    evidence = (
        f"{most} compared with {tuned.series.backbone}, the best tuned metric; "
        f"{counted(len(differences), 'backbone')} tried"
    )
    if one_above(comparer, differences.values(), -margin):
        return Found(interval, evidence, SUPPORTED)
    # All backbones have to be worse by themselves.
    worse = all(comparer.interval(one).high < -margin for one in differences.values())
    if worse:
        return Found(interval, evidence, CONTRADICTED)
    above = bool(interval.low > -margin)
    return Found(interval, evidence, UNDECIDED, CORRECTED if above else "")


def some_match_the_best(comparer: Comparer) -> Found:
    """Test whether an untuned backbone is worse than the best tuned metric by a margin at most."""
    return some_match(comparer, comparer.margin)


def some_beat_the_best(comparer: Comparer) -> Found:
    """Test whether an untuned backbone is better than the best tuned metric."""
    return some_match(comparer, 0.0)


def beat_lpips(
    chosen: Callable[[Comparer], list[DescribedNetwork]], what: str, example: str
) -> Callable[[Comparer], Found]:
    """Return the test of whether a group of backbones is on average better than LPIPS."""

    def run(comparer: Comparer) -> Found:
        lpips = comparer.best_baseline(lambda one: one.tuned and one.name.startswith("lpips"))
        if lpips is None:
            return missing_baseline("LPIPS", "lpips_alex", "lpips_vgg")
        networks = chosen(comparer)
        together = comparer.mean(one.name for one in networks)
        if together is None:
            return missing_network(f"no {what} was measured", example)
        interval = comparer.interval(together - lpips.held_out)
        evidence = f"the mean of {counted(len(networks), what)} compared with "
        return Found(interval, evidence + lpips.series.backbone, by_sign(interval))

    return run


def supervised_beats_self_supervised(comparer: Comparer) -> Found:
    """Test whether classifiers are better than self-supervised backbones that match them."""
    among = [*classifiers(comparer), *self_supervised(comparer)]
    differences = []
    for one in controlled("goal", among=among):
        members = [network for of in one.sets.values() for network in of]
        groups = [
            comparer.mean(n.name for n in members if (n.goal == "classification") is supervised)
            for supervised in (True, False)
        ]
        if groups[0] is not None and groups[1] is not None:
            differences.append(groups[0] - groups[1])
    if not differences:
        return missing_network(
            "it needs a classifier and a self-supervised backbone with the same data and "
            "architecture",
            "resnet50",
            "resnet50.jigsaw_perm2k",
        )
    interval = comparer.interval(mean(differences))
    evidence = f"{counted(len(differences), 'set')} with the same data and architecture"
    return Found(interval, evidence, by_sign(interval))
