"""The tests of ``claims.csv``: what is compared for each claim, and what follows from it."""

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from iqa_metrics import statistics
from iqa_metrics.backbones.factors import UNTRAINED
from iqa_metrics.backbones.selection import comparisons as controlled
from iqa_metrics.statistics import Bootstrap, Interval
from iqa_metrics.study.comparisons import Comparer, concatenations, descriptors, mean
from iqa_metrics.study.description import JUDGING, DescribedNetwork
from iqa_metrics.study.rows import CONTRADICTED, SUPPORTED, UNDECIDED

SIMPLE, VERY_DEEP = 20, 40
"""The most weighted layers of a simple backbone, and the fewest of a very deep one."""
WEAK = 0.3
"""A rank correlation up to this value counts as none."""
_FEWEST_LAYERS = 4
_FEWEST_SCORES = 5


@dataclass(frozen=True)
class Found:
    """The result of a test."""

    interval: Interval | None
    evidence: str
    verdict: str
    why: str = ""


def untested(why: str) -> Found:
    """Return the result of a test that could not be carried out."""
    return Found(None, "", UNDECIDED, why)


# The groups that are compared ---------------------------------------------------------------------


def _trained(comparer: Comparer) -> list[DescribedNetwork]:
    return [one for one in comparer.scope.networks if one.goal != UNTRAINED]


def classifiers(comparer: Comparer) -> list[DescribedNetwork]:
    """Return the backbones trained to classify images."""
    return [one for one in comparer.scope.networks if one.goal == "classification"]


def _simple(networks: Iterable[DescribedNetwork]) -> list[DescribedNetwork]:
    return [one for one in networks if one.weighted_layers and one.weighted_layers <= SIMPLE]


def _very_deep(networks: Iterable[DescribedNetwork]) -> list[DescribedNetwork]:
    return [one for one in networks if (one.weighted_layers or 0) >= VERY_DEEP]


def _lpips(comparer: Comparer) -> tuple[str, Bootstrap] | None:
    """Return the LPIPS variant that agrees best, of those that were measured."""
    return _best_baseline(comparer, lambda name, tuned: tuned and name.startswith("lpips"))


def _best_baseline(
    comparer: Comparer, wanted: Callable[[str, bool], bool]
) -> tuple[str, Bootstrap] | None:
    scope = comparer.scope
    found = {
        one.name: agreement
        for one in scope.description.baselines
        if wanted(one.name, one.tuned) and (agreement := scope.baseline(one.name)) is not None
    }
    return max(found.items(), key=lambda item: float(item[1].value)) if found else None


def _level(comparer: Comparer) -> float:
    return 1 - comparer.scope.description.statistics.confidence


def _by_sign(interval: Interval) -> str:
    if interval.low > 0:
        return SUPPORTED
    return CONTRADICTED if interval.high < 0 else UNDECIDED


def _counted(count: int, of: str) -> str:
    return f"{count} {of}{'' if count == 1 else 's'}"


# The tests ----------------------------------------------------------------------------------------


def all_beat_ssim(comparer: Comparer) -> Found:
    """Test whether each trained backbone is better than SSIM."""
    ssim = comparer.scope.baseline("ssim")
    if ssim is None:
        return untested("ssim was not measured")
    best = {one.name: comparer.best(one.name) for one in _trained(comparer)}
    differences = {name: one.held_out - ssim for name, one in best.items() if one is not None}
    if not differences:
        return untested("no trained backbone was measured")
    intervals = {name: comparer.interval(one) for name, one in differences.items()}
    p = dict(
        zip(
            intervals,
            statistics.holm(float(one.p) for one in intervals.values()).tolist(),
            strict=True,
        )
    )
    level = _level(comparer)
    better = [name for name in p if p[name] < level and intervals[name].value > 0]
    worse = [name for name in p if p[name] < level and intervals[name].value < 0]
    least = min(intervals, key=lambda name: float(intervals[name].value))
    evidence = f"{len(better)} of {_counted(len(p), 'backbone')} better; smallest for: {least}"
    if worse:
        return Found(intervals[least], f"{evidence}; worse: {', '.join(worse)}", CONTRADICTED)
    decided = len(better) == len(p)
    return Found(intervals[least], evidence, SUPPORTED if decided else UNDECIDED)


def some_match_the_best(comparer: Comparer) -> Found:
    """Test whether an untuned backbone is not worse than the best tuned metric."""
    tuned = _best_baseline(comparer, lambda _, tuned: tuned)
    if tuned is None:
        return untested(
            "no metric tuned on human ratings was measured, such as dists or lpips_alex"
        )
    name, baseline = tuned
    networks = [one.name for one in _trained(comparer) if one.goal != JUDGING]
    best = {one: comparer.best(one) for one in networks}
    differences = {one: found.held_out - baseline for one, found in best.items() if found}
    if not differences:
        return untested("no backbone was measured that was not tuned on human ratings")
    margin = comparer.scope.description.statistics.margin
    # One-sided p-values of each backbone being worse by more than the margin, corrected by Holm.
    p = [_above(comparer, one, -margin) for one in differences.values()]
    least = float(np.nan_to_num(statistics.holm(p), nan=1.0).min())
    most = max(differences, key=lambda one: float(differences[one].value))
    interval = comparer.interval(differences[most])
    evidence = f"{most} compared with {name}, the best tuned metric"
    if least < _level(comparer) / 2:
        return Found(interval, evidence, SUPPORTED)
    # Contradicting the claim needs no correction: every single backbone has to be worse.
    worse = all(comparer.interval(one).high < -margin for one in differences.values())
    return Found(interval, evidence, CONTRADICTED if worse else UNDECIDED)


def beat_lpips(
    chosen: Callable[[Comparer], list[DescribedNetwork]], what: str
) -> Callable[[Comparer], Found]:
    """Return the test of whether a group of backbones is on average better than LPIPS."""

    def run(comparer: Comparer) -> Found:
        lpips = _lpips(comparer)
        if lpips is None:
            return untested("no LPIPS was measured")
        networks = chosen(comparer)
        together = comparer.mean(one.name for one in networks)
        if together is None:
            return untested(f"no {what} was measured")
        interval = comparer.interval(together - lpips[1])
        evidence = f"the mean of {_counted(len(networks), what)} compared with {lpips[0]}"
        return Found(interval, evidence, _by_sign(interval))

    return run


def trained_on_jigsaw_puzzles(comparer: Comparer) -> list[DescribedNetwork]:
    """Return the backbones trained to solve jigsaw puzzles."""
    return [one for one in comparer.scope.networks if one.method == "jigsaw"]


def simple_beat_very_deep(comparer: Comparer) -> Found:
    """Test whether simple classifiers are on average better than very deep ones."""
    groups = [group(classifiers(comparer)) for group in (_simple, _very_deep)]
    means = [comparer.mean(one.name for one in group) for group in groups]
    if means[0] is None or means[1] is None:
        return untested("it needs simple and very deep classifiers")
    interval = comparer.interval(means[0] - means[1])
    counts = [len(group) for group in groups]
    return Found(interval, f"{counts[0]} simple, {counts[1]} very deep", _by_sign(interval))


def depth_helps_simple(comparer: Comparer) -> Found:
    """Test whether agreement rises with depth, in simple backbones only."""
    groups = {}
    for kind, group in (("simple", _simple), ("very deep", _very_deep)):
        slopes = [
            slope for one in group(_trained(comparer)) if (slope := _slope(comparer, one.name))
        ]
        if not slopes:
            return untested(
                "it needs simple and very deep backbones with at least "
                f"{_FEWEST_LAYERS} layers; no {kind} one was measured"
            )
        groups[kind] = mean(slopes), len(slopes)
    (simple, count), (deep, deep_count) = groups.values()
    rises, differ = comparer.interval(simple), comparer.interval(simple - deep)
    evidence = (
        f"{count} simple: {float(simple.value):+.2f}, {deep_count} very deep: "
        f"{float(deep.value):+.2f}"
    )
    verdict = UNDECIDED
    if rises.low > 0 and differ.low > 0:
        verdict = SUPPORTED
    elif rises.high < 0 or differ.high < 0:
        verdict = CONTRADICTED
    return Found(rises, evidence, verdict)


def _slope(comparer: Comparer, backbone: str) -> Bootstrap | None:
    """Return the rank correlation between the depth of a backbone's layers and their agreement."""
    layers = comparer.scope.layers(backbone, comparer.plain)
    if len(layers) < _FEWEST_LAYERS:
        return None
    depths = np.array([one.depth for one in layers])
    found = comparer.scope.of(layers)
    return Bootstrap(
        np.asarray(statistics.srocc(found.value, depths)), statistics.srocc(found.samples, depths)
    )


def environment_matters_little(comparer: Comparer) -> Found:
    """Test whether backbones that differ only in their environment are alike."""
    pairs = {}
    for one in controlled("environment", among=_trained(comparer)):
        for (first, a), (second, b) in itertools.combinations(one.sets.items(), 2):
            means = [comparer.mean(n.name for n in group) for group in (a, b)]
            if means[0] is not None and means[1] is not None:
                agreed = ", ".join(text for text in one.agreed.values() if text)
                name = f"{agreed}: {first} and {second}"
                pairs[name] = means[0] - means[1]
    if not pairs:
        return untested("no backbone was measured in two training environments")
    return _little(comparer, pairs, "environments")


def _little(comparer: Comparer, differences: Mapping[str, Bootstrap], what: str) -> Found:
    """Test whether all differences lie within the margin."""
    margin = comparer.scope.description.statistics.margin
    intervals = {name: comparer.interval(one) for name, one in differences.items()}
    most = max(intervals, key=lambda name: abs(float(intervals[name].value)))
    within = sum(bool(one.low >= -margin and one.high <= margin) for one in intervals.values())
    evidence = f"{within} of {len(intervals)} {what} within the margin; largest: {most}"
    if within == len(intervals):
        return Found(intervals[most], evidence, SUPPORTED)
    # That one of several lies outside needs Holm's correction; that all lie within does not.
    beyond = statistics.holm(
        _above(comparer, one if one.value > 0 else one * -1.0, margin)
        for one in differences.values()
    )
    surely = np.nan_to_num(beyond, nan=1.0).min() < _level(comparer) / 2
    return Found(intervals[most], evidence, CONTRADICTED if surely else UNDECIDED)


def _above(comparer: Comparer, difference: Bootstrap, bound: float) -> float:
    """Return the one-sided p-value of the hypothesis that a difference is at most a bound."""
    shifted = Bootstrap(difference.value - bound, difference.samples - bound)
    two_sided = float(comparer.interval(shifted).p)
    return two_sided / 2 if shifted.value > 0 else 1 - two_sided / 2


def descriptors_change_little(comparer: Comparer) -> Found:
    """Test whether statistical descriptors and the plain readout are alike."""
    names = descriptors(comparer.scope.description.readouts, comparer.plain)
    differences: dict[str, list[Bootstrap]] = {}
    for name, network in itertools.product(names, comparer.scope.networks):
        plain, other = comparer.best(network.name), comparer.best(network.name, name)
        if network.goal != UNTRAINED and plain is not None and other is not None:
            differences.setdefault(name, []).append(other.held_out - plain.held_out)
    if not differences:
        return untested("no statistical descriptor was measured, such as channel_mean_std")
    means = {name: mean(parts) for name, parts in differences.items()}
    return _little(comparer, means, "descriptors")


def concatenation_changes_little(comparer: Comparer) -> Found:
    """Test whether concatenations of layers and single layers are alike."""
    differences: dict[str, list[Bootstrap]] = {}
    for network in _trained(comparer):
        single = comparer.best(network.name)
        if single is None:
            continue
        for name, best in concatenations(comparer, network).items():
            differences.setdefault(name, []).append(best.held_out - single.held_out)
    if not differences:
        return untested("no concatenation of layers was measured")
    means = {name: mean(parts) for name, parts in differences.items()}
    return _little(comparer, means, "concatenations")


def better_scores_do_not_help(comparer: Comparer) -> Found:
    """Test whether classifiers with better published scores do not agree better."""
    networks = [one for one in classifiers(comparer) if one.score is not None]
    kinds = [one.score_of for one in networks]
    kind = max(dict.fromkeys(kinds), key=kinds.count, default="")
    found = {
        one.name: (float(one.score or 0), best.held_out)
        for one in networks
        if one.score_of == kind and (best := comparer.best(one.name)) is not None
    }
    if len(found) < _FEWEST_SCORES:
        return untested(
            f"it needs {_FEWEST_SCORES} classifiers with a published score of one kind; "
            f"{len(found)} were measured"
        )
    scores = np.array([score for score, _ in found.values()])
    values = np.array([float(one.value) for _, one in found.values()])
    samples = np.stack([one.samples for _, one in found.values()], axis=1)
    settings = comparer.scope.description.statistics
    # The backbones are a sample, just as the references are, so both are resampled.
    stream = np.random.default_rng(settings.seed)
    drawn = stream.integers(len(scores), size=samples.shape)
    pairs = (scores[drawn], np.take_along_axis(samples, drawn, axis=1))
    replicates = statistics.srocc(pairs[1], pairs[0])
    replicates = replicates[np.isfinite(replicates)]
    if not len(replicates) or np.ptp(scores) == 0:
        return untested("the classifiers' scores, or their agreements, do not vary")
    interval = Bootstrap(np.asarray(statistics.srocc(values, scores)), replicates).interval(
        settings.confidence
    )
    evidence = f"{len(found)} classifiers, {kind or 'score'}"
    if interval.low > 0:
        return Found(interval, evidence, CONTRADICTED)
    return Found(interval, evidence, SUPPORTED if interval.high < WEAK else UNDECIDED)
