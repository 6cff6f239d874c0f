"""Tests of the claims about how well a backbone does its own task.

Backbones, and not only reference images, are the sample here: the question is what another backbone
with another score would give.

References
----------
E. C. Fieller, H. O. Hartley and E. S. Pearson, "Tests for rank correlation coefficients",
Biometrika 44, 1957; J. T. Lind and H. Mehlum, "With or without U? The appropriate test for a
U-shaped relationship", Oxford Bulletin of Economics and Statistics 72(1), 2010; M. Kumar,
N. Houlsby, N. Kalchbrenner and E. D. Cubuk, "Do better ImageNet classifiers assess perceptual
similarity better?", arXiv:2203.04946.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from iqa_metrics import statistics
from iqa_metrics.statistics import Bootstrap, Interval
from iqa_metrics.study.claim_groups import classifiers, untuned
from iqa_metrics.study.claim_verdicts import Found, counted, missing_network, not_tested, together
from iqa_metrics.study.comparisons import Comparer
from iqa_metrics.study.description import DescribedNetwork
from iqa_metrics.study.distances import Floats
from iqa_metrics.study.rows import CONTRADICTED, SUPPORTED, UNDECIDED

WEAK = 0.3
"""A rank correlation up to this value counts as none."""
FEWEST_SCORES = 6
_FEWEST_FOR_A_CURVE = 8
_FIELLER = 1.06
_EXAMPLES = ("alexnet", "vgg11", "vgg16", "resnet18", "resnet50", "densenet121")


@dataclass(frozen=True)
class _Scored:
    """Backbones with published scores of one kind, and their agreement."""

    kind: str
    scores: Floats
    agreement: Bootstrap


def _scored(comparer: Comparer, networks: list[DescribedNetwork], fewest: int) -> list[_Scored]:
    """Return the kinds of scores that enough backbones have."""
    groups: dict[str, list[tuple[float, Bootstrap]]] = {}
    for one in networks:
        best = comparer.best(one.name)
        if one.score is not None and best is not None:
            groups.setdefault(one.score_of, []).append((float(one.score), best.held_out))
    return [
        _Scored(
            kind or "score",
            np.array([score for score, _ in of]),
            together([one for _, one in of]),
        )
        for kind, of in groups.items()
        if len(of) >= fewest
    ]


def better_classification_is_not_more_human(comparer: Comparer) -> Found:
    """Test whether classifiers with better published scores do not agree better."""
    return _not_more_human(comparer, classifiers(comparer), "classifiers")


def better_performance_is_not_more_human(comparer: Comparer) -> Found:
    """Test whether backbones that do their task better do not agree better, whatever the task."""
    return _not_more_human(comparer, untuned(comparer), "backbones")


def _not_more_human(comparer: Comparer, networks: list[DescribedNetwork], what: str) -> Found:
    kinds = _scored(comparer, networks, FEWEST_SCORES)
    if not kinds:
        return missing_network(
            f"it needs {FEWEST_SCORES} {what} with a published score of one kind", *_EXAMPLES
        )
    correlations = {one.kind: _correlation(comparer, one) for one in kinds}
    known = {kind: one for kind, one in correlations.items() if one is not None}
    if not known:
        return not_tested(f"the {what}' scores, or their agreements, do not vary")
    interval = _together(comparer, [one for one in known.values() if one is not None])
    said = ", ".join(f"{len(one.scores)} with {one.kind}" for one in kinds if one.kind in known)
    verdict = UNDECIDED
    if interval.low > 0:
        verdict = CONTRADICTED
    elif interval.high < WEAK:
        verdict = SUPPORTED
    return Found(interval, said, verdict)


def _correlation(comparer: Comparer, of: _Scored) -> tuple[float, float, int] | None:
    """Return Fisher's z of the rank correlation, its variance, and the number of backbones.

    The variance has two parts: other backbones (Fieller et al.) and other reference images.
    """
    r = float(statistics.srocc(of.agreement.value, of.scores))
    if not np.isfinite(r):
        return None
    count, references = len(of.scores), comparer.scope.references
    replicates = statistics.srocc(of.agreement.samples, of.scores)
    drawn = np.arctanh(np.clip(replicates[np.isfinite(replicates)], -0.999, 0.999))
    of_references = float(drawn.var(ddof=1)) if len(drawn) > 1 else 0.0
    variance = _FIELLER / (count - 3) + of_references * references / max(1, references - 1)
    return float(np.arctanh(np.clip(r, -0.999, 0.999))), variance, count


def _together(comparer: Comparer, parts: list[tuple[float, float, int]]) -> Interval:
    """Return the mean of several correlations, weighted by their precision, with its interval."""
    from scipy.stats import t

    z, variance, count = (np.array(column, dtype=np.float64) for column in zip(*parts, strict=True))
    weights = 1 / variance
    value, error = float(z @ weights / weights.sum()), float(np.sqrt(1 / weights.sum()))
    freedom = float((count - 2).sum())
    reach = float(t.ppf(1 - comparer.level / 2, freedom)) * error
    p = 2 * float(t.sf(abs(value) / error, freedom))
    ends = np.tanh([value, value - reach, value + reach])
    return Interval(np.asarray(ends[0]), np.asarray(ends[1]), np.asarray(ends[2]), np.asarray(p), 0)


def inverse_u_of_accuracy(comparer: Comparer) -> Found:
    """Test whether agreement first rises and then falls with the accuracy of classifiers."""
    kinds = _scored(comparer, classifiers(comparer), _FEWEST_FOR_A_CURVE)
    if not kinds:
        return missing_network(
            f"it needs {_FEWEST_FOR_A_CURVE} classifiers with a published accuracy of one kind",
            *_EXAMPLES,
            "vgg19",
            "resnet152",
        )
    most = max(kinds, key=lambda one: len(one.scores))
    ends = _slopes_at_the_ends(comparer, most)
    if ends is None:
        return not_tested("the classifiers' accuracies do not vary enough for a curve")
    first, last = ends["least"], ends["most"]
    evidence = (
        f"{counted(len(most.scores), 'classifier')}, {most.kind}; slope at the least accurate: "
        f"{float(first.value):+.3f}"
    )
    verdict = UNDECIDED
    if first.low > 0 and last.high < 0:
        verdict = SUPPORTED
    elif last.low > 0 or first.high < 0:
        verdict = CONTRADICTED
    return Found(last, evidence, verdict)


def _slopes_at_the_ends(comparer: Comparer, of: _Scored) -> Mapping[str, Interval] | None:
    """Return the slopes of a fitted parabola at the lowest and the highest score, per 10 points."""
    from scipy.stats import t

    x, y = (of.scores - of.scores.mean()) / 10, of.agreement.value
    design = np.stack([np.ones_like(x), x, x * x], axis=1)
    if len(np.unique(x)) < 4 or np.linalg.cond(design) > 1e8:
        return None
    inverse = np.linalg.inv(design.T @ design)
    fitted = inverse @ design.T @ y
    freedom = len(x) - 3
    spread = float(np.square(y - design @ fitted).sum() / freedom)
    found = {}
    for name, at in (("least", x.min()), ("most", x.max())):
        weights = np.array([0.0, 1.0, 2 * at])
        value = np.asarray(weights @ fitted)
        error = np.asarray(np.sqrt(spread * weights @ inverse @ weights))
        reach = t.ppf(1 - comparer.level / 2, freedom) * error
        p = np.asarray(2 * t.sf(np.abs(value) / error, freedom) if error else 1.0)
        found[name] = Interval(value, value - reach, value + reach, p, 0)
    return found
