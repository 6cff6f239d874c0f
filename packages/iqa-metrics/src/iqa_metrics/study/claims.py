"""``claims.csv``: each conclusion of the paper as a test, and what this data says of it.

A claim is *supported* or *contradicted* where its interval says so, and *undecided* otherwise:
where the interval is too wide, or what it needs was not measured. Intervals are over reference
images: a verdict is about these networks on other images of the kind, not about other networks.

References
----------
P. Hernández-Cámara, J. Vila-Tomás, V. Laparra and J. Malo, "Analysis of Deep Image Quality Models",
arXiv:2302.13345; Neural Networks 2025, doi 10.1016/j.neunet.2025.107189.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from iqa_metrics import statistics
from iqa_metrics.backbones.factors import UNTRAINED
from iqa_metrics.backbones.selection import comparisons as controlled
from iqa_metrics.statistics import Bootstrap, Interval
from iqa_metrics.study.comparisons import Comparer, concatenations, descriptors, mean
from iqa_metrics.study.description import JUDGING, DescribedNetwork
from iqa_metrics.study.rows import CONTRADICTED, SUPPORTED, UNDECIDED, Claim

SIMPLE, VERY_DEEP = 20, 40
"""Weighted layers of simple networks, at most, and of very deep ones, at least."""
_FEWEST_LAYERS = 4
_FEWEST_SCORES = 5
_WEAK = 0.3
"""A rank correlation of no more than this is none to speak of."""


@dataclass(frozen=True)
class _Found:
    """What a test found."""

    interval: Interval | None
    evidence: str
    verdict: str
    why: str = ""


def _untested(why: str) -> _Found:
    return _Found(None, "", UNDECIDED, why)


def claims(comparer: Comparer) -> list[Claim]:
    """Return every claim, tested in a scope."""
    margin = comparer.scope.description.statistics.margin
    found = []
    for name, (statement, test, tested) in CLAIMS.items():
        got = tested(comparer)
        interval = got.interval
        numbers = (
            (math.nan,) * 3
            if interval is None
            else (float(interval.value), float(interval.low), float(interval.high))
        )
        if interval is not None and math.isnan(numbers[0]):
            got = _untested("the agreements vary in no draw, or not in all")
        why = got.why
        if got.verdict == UNDECIDED and not why:
            why = "the interval is too wide to tell"
        said = test.format(margin=margin, weak=_WEAK, simple=SIMPLE, very_deep=VERY_DEEP)
        found.append(
            Claim(
                *(name, statement, said, comparer.scope.name, *numbers),
                *(got.evidence, got.verdict, why),
            )
        )
    return found


# What is compared ---------------------------------------------------------------------------------


def _trained(comparer: Comparer) -> list[DescribedNetwork]:
    return [one for one in comparer.scope.networks if one.goal != UNTRAINED]


def _classifiers(comparer: Comparer) -> list[DescribedNetwork]:
    return [one for one in comparer.scope.networks if one.goal == "classification"]


def _simple(networks: Iterable[DescribedNetwork]) -> list[DescribedNetwork]:
    return [one for one in networks if one.weighted_layers and one.weighted_layers <= SIMPLE]


def _very_deep(networks: Iterable[DescribedNetwork]) -> list[DescribedNetwork]:
    return [one for one in networks if (one.weighted_layers or 0) >= VERY_DEEP]


def _lpips(comparer: Comparer) -> tuple[str, Bootstrap] | None:
    """Return the best LPIPS that was measured."""
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


def _all_beat_ssim(comparer: Comparer) -> _Found:
    ssim = comparer.scope.baseline("ssim")
    if ssim is None:
        return _untested("ssim was not measured")
    best = {one.name: comparer.best(one.name) for one in _trained(comparer)}
    differences = {name: one.corrected - ssim for name, one in best.items() if one is not None}
    if not differences:
        return _untested("no trained network was measured")
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
    evidence = f"{len(better)} of {_counted(len(p), 'network')} better; least: {least}"
    if worse:
        return _Found(intervals[least], f"{evidence}; worse: {', '.join(worse)}", CONTRADICTED)
    decided = len(better) == len(p)
    return _Found(intervals[least], evidence, SUPPORTED if decided else UNDECIDED)


def _some_match(comparer: Comparer) -> _Found:
    tuned = _best_baseline(comparer, lambda _, tuned: tuned)
    if tuned is None:
        return _untested("no metric that was tuned on opinion was measured, such as dists or lpips")
    name, baseline = tuned
    networks = [one.name for one in _trained(comparer) if one.goal != JUDGING]
    best = {one: comparer.best(one) for one in networks}
    differences = {one: found.corrected - baseline for one, found in best.items() if found}
    if not differences:
        return _untested("no network was measured that is not tuned on opinion")
    margin = comparer.scope.description.statistics.margin
    # That a network is worse by more than the margin, for each: one-sided, and by Holm.
    p = [_above(comparer, one, -margin) for one in differences.values()]
    least = float(np.nan_to_num(statistics.holm(p), nan=1.0).min())
    most = max(differences, key=lambda one: float(differences[one].value))
    interval = comparer.interval(differences[most])
    evidence = f"{most} beside {name}, the best of the tuned ones"
    if least < _level(comparer) / 2:
        return _Found(interval, evidence, SUPPORTED)
    # That all of them are worse needs no correction: each has to be.
    worse = all(comparer.interval(one).high < -margin for one in differences.values())
    return _Found(interval, evidence, CONTRADICTED if worse else UNDECIDED)


def _beat_lpips(
    chosen: Callable[[Comparer], list[DescribedNetwork]], what: str
) -> Callable[[Comparer], _Found]:
    def tested(comparer: Comparer) -> _Found:
        lpips = _lpips(comparer)
        if lpips is None:
            return _untested("no LPIPS was measured")
        networks = chosen(comparer)
        together = comparer.mean(one.name for one in networks)
        if together is None:
            return _untested(f"no {what} was measured")
        interval = comparer.interval(together - lpips[1])
        evidence = f"the mean of {_counted(len(networks), what)} beside {lpips[0]}"
        return _Found(interval, evidence, _by_sign(interval))

    return tested


def _jigsaw(comparer: Comparer) -> list[DescribedNetwork]:
    return [one for one in comparer.scope.networks if one.method == "jigsaw"]


def _simple_beat_deep(comparer: Comparer) -> _Found:
    groups = [group(_classifiers(comparer)) for group in (_simple, _very_deep)]
    means = [comparer.mean(one.name for one in group) for group in groups]
    if means[0] is None or means[1] is None:
        return _untested("it needs classifiers of both kinds")
    interval = comparer.interval(means[0] - means[1])
    counts = [len(group) for group in groups]
    return _Found(interval, f"{counts[0]} simple, {counts[1]} very deep", _by_sign(interval))


def _depth_helps_simple(comparer: Comparer) -> _Found:
    groups = {}
    for kind, group in (("simple", _simple), ("very deep", _very_deep)):
        slopes = [
            slope for one in group(_trained(comparer)) if (slope := _slope(comparer, one.name))
        ]
        if not slopes:
            return _untested(
                f"it needs networks of both kinds with at least {_FEWEST_LAYERS} layers; no {kind} "
                "one was measured"
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
    return _Found(rises, evidence, verdict)


def _slope(comparer: Comparer, backbone: str) -> Bootstrap | None:
    """Return the rank correlation of a network's layers' depth with their agreement."""
    layers = comparer.scope.layers(backbone, comparer.plain)
    if len(layers) < _FEWEST_LAYERS:
        return None
    depths = np.array([one.depth for one in layers])
    found = comparer.scope.of(layers)
    return Bootstrap(
        np.asarray(statistics.srocc(found.value, depths)), statistics.srocc(found.samples, depths)
    )


def _environment(comparer: Comparer) -> _Found:
    pairs = {}
    for one in controlled("environment", among=_trained(comparer)):
        for (first, a), (second, b) in itertools.combinations(one.sets.items(), 2):
            means = [comparer.mean(n.name for n in group) for group in (a, b)]
            if means[0] is not None and means[1] is not None:
                agreed = ", ".join(text for text in one.agreed.values() if text)
                name = f"{agreed}: {first} and {second}"
                pairs[name] = means[0] - means[1]
    if not pairs:
        return _untested("no network was measured in two trainings of the same goal and data")
    return _little(comparer, pairs, "environments")


def _little(comparer: Comparer, differences: Mapping[str, Bootstrap], what: str) -> _Found:
    """Test whether all differences lie within the margin."""
    margin = comparer.scope.description.statistics.margin
    intervals = {name: comparer.interval(one) for name, one in differences.items()}
    most = max(intervals, key=lambda name: abs(float(intervals[name].value)))
    within = sum(bool(one.low >= -margin and one.high <= margin) for one in intervals.values())
    evidence = f"{within} of {len(intervals)} {what} within the margin; largest: {most}"
    if within == len(intervals):
        return _Found(intervals[most], evidence, SUPPORTED)
    # Of several that one lies beyond is said by Holm; that all lie within needs no correction.
    beyond = statistics.holm(
        _above(comparer, one if one.value > 0 else one * -1.0, margin)
        for one in differences.values()
    )
    surely = np.nan_to_num(beyond, nan=1.0).min() < _level(comparer) / 2
    return _Found(intervals[most], evidence, CONTRADICTED if surely else UNDECIDED)


def _above(comparer: Comparer, difference: Bootstrap, bound: float) -> float:
    """Return the one-sided p-value of a difference being no more than a bound."""
    shifted = Bootstrap(difference.value - bound, difference.samples - bound)
    two_sided = float(comparer.interval(shifted).p)
    return two_sided / 2 if shifted.value > 0 else 1 - two_sided / 2


def _descriptors(comparer: Comparer) -> _Found:
    names = descriptors(comparer.scope.description.readouts, comparer.plain)
    differences: dict[str, list[Bootstrap]] = {}
    for name, network in itertools.product(names, comparer.scope.networks):
        plain, other = comparer.best(network.name), comparer.best(network.name, name)
        if network.goal != UNTRAINED and plain is not None and other is not None:
            differences.setdefault(name, []).append(other.corrected - plain.corrected)
    if not differences:
        return _untested("no statistical descriptor was measured, such as channel_mean_std")
    means = {name: mean(parts) for name, parts in differences.items()}
    return _little(comparer, means, "descriptors")


def _concatenation(comparer: Comparer) -> _Found:
    differences: dict[str, list[Bootstrap]] = {}
    for network in _trained(comparer):
        single = comparer.best(network.name)
        if single is None:
            continue
        for name, best in concatenations(comparer, network).items():
            differences.setdefault(name, []).append(best.corrected - single.corrected)
    if not differences:
        return _untested("no concatenation of layers was asked for")
    means = {name: mean(parts) for name, parts in differences.items()}
    return _little(comparer, means, "concatenations")


def _scores(comparer: Comparer) -> _Found:
    networks = [one for one in _classifiers(comparer) if one.score is not None]
    kinds = [one.score_of for one in networks]
    kind = max(dict.fromkeys(kinds), key=kinds.count, default="")
    found = {
        one.name: (float(one.score or 0), best.corrected)
        for one in networks
        if one.score_of == kind and (best := comparer.best(one.name)) is not None
    }
    if len(found) < _FEWEST_SCORES:
        return _untested(
            f"it needs {_FEWEST_SCORES} classifiers with a published score of one kind; "
            f"{len(found)} were measured"
        )
    scores = np.array([score for score, _ in found.values()])
    values = np.array([float(one.value) for _, one in found.values()])
    samples = np.stack([one.samples for _, one in found.values()], axis=1)
    settings = comparer.scope.description.statistics
    # Here networks are the sample as much as references are: both are drawn.
    stream = np.random.default_rng(settings.seed)
    drawn = stream.integers(len(scores), size=samples.shape)
    pairs = (scores[drawn], np.take_along_axis(samples, drawn, axis=1))
    of_draws = statistics.srocc(pairs[1], pairs[0])
    of_draws = of_draws[np.isfinite(of_draws)]
    if not len(of_draws) or np.ptp(scores) == 0:
        return _untested("the classifiers' scores, or their agreements, do not vary")
    interval = Bootstrap(np.asarray(statistics.srocc(values, scores)), of_draws).interval(
        settings.confidence
    )
    evidence = f"{len(found)} classifiers by {kind or 'score'}"
    if interval.low > 0:
        return _Found(interval, evidence, CONTRADICTED)
    return _Found(interval, evidence, SUPPORTED if interval.high < _WEAK else UNDECIDED)


CLAIMS: Mapping[str, tuple[str, str, Callable[[Comparer], _Found]]] = {
    "all_beat_ssim": (
        "All such models agree better with people than SSIM.",
        "Each trained network at its best layer, less SSIM, corrected by Holm. Supported if all "
        "are better; contradicted if one is worse. The effect is the least difference.",
        _all_beat_ssim,
    ),
    "some_match_the_state_of_the_art": (
        "Some match the state of the art, untuned.",
        "The best network that was not tuned on opinion, less the best metric that was. Supported "
        "if one is not worse by {margin}; contradicted if all are.",
        _some_match,
    ),
    "classification_beats_lpips": (
        "Supervised classification beats LPIPS.",
        "The mean over classifiers, each at its best layer, less the best LPIPS measured.",
        _beat_lpips(_classifiers, "classifier"),
    ),
    "jigsaw_beats_lpips": (
        "Even solving jigsaw puzzles beats LPIPS.",
        "The mean over networks trained on jigsaw puzzles, less the best LPIPS measured.",
        _beat_lpips(_jigsaw, "jigsaw network"),
    ),
    "simple_beats_very_deep": (
        "Simple networks agree better with people than very deep ones.",
        "The mean over classifiers of at most {simple} weighted layers less that over classifiers "
        "of at least {very_deep}, by the paper's count or, without one, by their convolutions and "
        "linear maps.",
        _simple_beat_deep,
    ),
    "depth_helps_simple": (
        "In simple networks agreement rises with depth; in very deep ones it does not.",
        "The rank correlation of layers' depth with their agreement, mean over networks. Supported "
        "if it is positive in simple networks and larger there than in very deep ones. The effect "
        "is that of simple ones.",
        _depth_helps_simple,
    ),
    "environment_matters_little": (
        "The environment that a network was trained in matters little.",
        "Networks alike in goal, data and architecture. Supported if all differences lie within "
        "{margin}; contradicted if one lies beyond. The effect is the largest.",
        _environment,
    ),
    "descriptors_change_little": (
        "Statistical descriptors in the place of plain responses change little.",
        "Each descriptor at its best layer less the plain readout at its own, mean over trained "
        "networks. Supported if all lie within {margin}; contradicted if one lies beyond. The "
        "effect is the largest.",
        _descriptors,
    ),
    "concatenation_changes_little": (
        "Concatenating layers changes little.",
        "The best concatenation of each kind less the best single layer, mean over trained "
        "networks. Supported if all lie within {margin}; contradicted if one lies beyond. The "
        "effect is the largest.",
        _concatenation,
    ),
    "better_classification_is_not_more_human": (
        "A better classifier is not more like people.",
        "The rank correlation of classifiers' published score with their agreement; networks and "
        "references are drawn. Supported if it is surely below {weak}; contradicted if it is "
        "surely positive.",
        _scores,
    ),
}
"""Names of claims to the paper's conclusion, the test, and what carries it out."""
