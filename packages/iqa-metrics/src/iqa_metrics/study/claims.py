"""``claims.csv``: test the conclusions of both versions of the paper, and of two rivals, on data.

A claim is *supported* or *contradicted* if its interval shows so, and *undecided* if the interval
is too wide. It is *not tested* if what the test needs was not measured; the row then says what is
missing and how to get it. Intervals are over reference images: a verdict holds for these backbones
on other images of the same kind, not for other backbones. The claims about performance resample
backbones as well. Claims are about people, so they are not tested on scores that are no human
ratings. An *untuned* backbone has trained weights, and was not trained on human ratings of images.

References
----------
P. Hernández-Cámara, J. Vila-Tomás, V. Laparra and J. Malo, "Analysis of Deep Image Quality Models":
the preprint arXiv:2302.13345 (2023), and the journal's version, Neural Networks 2025, doi
10.1016/j.neunet.2025.107189. M. Kumar et al., "Do better ImageNet classifiers assess perceptual
similarity better?", arXiv:2203.04946. A. Ghildyal, N. Barman and S. Zadtootaghaj, "Foundation
models boost low-level perceptual similarity metrics", arXiv:2409.07650.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from iqa_metrics.study import (
    claim_baselines,
    claim_data,
    claim_depth,
    claim_performance,
    claim_readouts,
)
from iqa_metrics.study.claim_depth import MIDDLE
from iqa_metrics.study.claim_groups import (
    SIMPLE,
    VERY_DEEP,
    classifiers,
    trained_on_jigsaw_puzzles,
)
from iqa_metrics.study.claim_performance import FEWEST_SCORES, WEAK
from iqa_metrics.study.claim_verdicts import Found, not_tested
from iqa_metrics.study.comparisons import Comparer
from iqa_metrics.study.rows import UNDECIDED, Claim

PREPRINT, JOURNAL, CONTROL = "preprint", "journal", "control"
BOTH = f"{PREPRINT}, {JOURNAL}"
_TOO_WIDE = "the interval is too wide to tell"
_NO_DIFFERENCE = "there is no difference at all"
_NO_OPINIONS = "the scores are no human ratings, and the claim is about people"


def claims(comparer: Comparer) -> list[Claim]:
    """Return one row per claim, tested in a scope."""
    return [_row(comparer, name, one) for name, one in CLAIMS.items()]


def _row(comparer: Comparer, name: str, claim: "Conclusion") -> Claim:
    scope = comparer.scope
    if not scope.opinion:
        got = not_tested(_NO_OPINIONS, "iqa datasets list")
    else:
        got = claim.run(comparer)
        if got.interval is not None and scope.too_few:
            got = not_tested(scope.too_few)
        elif got.interval is not None and not math.isfinite(float(got.interval.low)):
            got = not_tested("in some bootstrap replicates the agreements do not vary")
    numbers = (math.nan,) * 3
    if got.interval is not None:
        one = got.interval
        numbers = float(one.value), float(one.low), float(one.high)
    effect, low, high = numbers
    undecided = _NO_DIFFERENCE if effect == low == high == 0 else _TOO_WIDE
    return Claim(
        claim=name,
        version=claim.version,
        statement=claim.statement,
        test=claim.test.format(
            margin=comparer.margin,
            weak=WEAK,
            simple=SIMPLE,
            very_deep=VERY_DEEP,
            low=MIDDLE[0],
            high=MIDDLE[1],
            scores=FEWEST_SCORES,
        ),
        database=scope.name,
        effect=effect,
        low=low,
        high=high,
        margin=claim.margin(comparer.margin),
        evidence=got.evidence,
        verdict=got.verdict,
        why=got.why or (undecided if got.verdict == UNDECIDED else ""),
        get=got.get,
    )


@dataclass(frozen=True, kw_only=True)
class Conclusion:
    """A claim and how it is tested.

    Attributes
    ----------
    version
        Who concludes it: the preprint, the journal's version, both, a rival's paper, or nobody (a
        control).
    statement
        The conclusion.
    test
        What is compared, and when the claim counts as supported or contradicted.
    run
        The function that carries out the test.
    margin
        What the interval is compared with, from the study's margin.
    """

    version: str
    statement: str
    test: str
    run: Callable[[Comparer], Found]
    margin: Callable[[float], float] = lambda _: 0.0


def _itself(margin: float) -> float:
    return margin


_BY_SIGN = "Supported if the interval lies above 0, contradicted if it lies below."
_WITHIN = (
    "Supported if all differences lie within {margin}; contradicted if one lies outside, corrected "
    "by Holm. The effect is the largest difference."
)

_SCORES = (
    "It is computed for each kind of score that at least {scores} of them have, and averaged by "
    "Fisher's z; its interval is over backbones and references. Supported if it lies below {weak}; "
    "contradicted if it lies above 0."
)

CLAIMS: Mapping[str, Conclusion] = {
    "all_beat_ssim": Conclusion(
        version=PREPRINT,
        statement="All such models agree better with people than SSIM.",
        test="Each untuned backbone at its best layer, held out, minus SSIM. Supported if each "
        "is better; contradicted if one is worse, corrected by Holm. The effect is the smallest "
        "difference.",
        run=claim_baselines.all_beat_ssim,
    ),
    "most_beat_ssim": Conclusion(
        version=JOURNAL,
        statement="Most such models agree better with people than SSIM.",
        test="The median over untuned backbones, each at its best layer, held out, minus SSIM. "
        + _BY_SIGN,
        run=claim_baselines.most_beat_ssim,
    ),
    "some_match_the_state_of_the_art": Conclusion(
        version=PREPRINT,
        statement="Some match the state of the art without being tuned.",
        test="Each backbone that was not tuned on human ratings, at its best layer, minus the "
        "best metric that was, both held out. Supported if at least one is not worse by more than "
        "{margin}, corrected by Holm; contradicted if all are. The effect is the largest "
        "difference.",
        run=claim_baselines.some_match_the_best,
        margin=_itself,
    ),
    "some_beat_the_state_of_the_art": Conclusion(
        version=JOURNAL,
        statement="Some beat the state of the art without being tuned.",
        test="Each backbone that was not tuned on human ratings, at its best layer, minus the "
        "best metric that was, both held out. Supported if at least one is better, corrected by "
        "Holm; contradicted if all are worse. The effect is the largest difference.",
        run=claim_baselines.some_beat_the_best,
    ),
    "classification_beats_lpips": Conclusion(
        version=BOTH,
        statement="Supervised classification beats LPIPS.",
        test="The mean over classifiers, each at its best layer, minus the best LPIPS variant "
        "that was measured, all held out. " + _BY_SIGN,
        run=claim_baselines.beat_lpips(classifiers, "classifier", "alexnet"),
    ),
    "jigsaw_beats_lpips": Conclusion(
        version=PREPRINT,
        statement="Even solving jigsaw puzzles beats LPIPS.",
        test="The mean over backbones trained on jigsaw puzzles, each at its best layer, minus the "
        "best LPIPS variant that was measured, all held out. " + _BY_SIGN,
        run=claim_baselines.beat_lpips(
            trained_on_jigsaw_puzzles, "jigsaw backbone", "resnet50.jigsaw_perm2k"
        ),
    ),
    "supervised_beats_self_supervised": Conclusion(
        version=JOURNAL,
        statement="Supervised classification beats self-supervised and unsupervised tasks.",
        test="Classifiers minus self-supervised backbones with the same data and architecture, "
        "each at its best layer, held out; the mean over such sets. " + _BY_SIGN,
        run=claim_baselines.supervised_beats_self_supervised,
    ),
    "simple_beats_very_deep": Conclusion(
        version=BOTH,
        statement="Simple networks agree better with people than very deep ones.",
        test="The mean over classifiers with at most {simple} weighted layers minus the mean over "
        "classifiers with at least {very_deep}, each at its best layer, held out. Weighted layers "
        "are counted as in the paper of an architecture or, if it gives no number, as its "
        "convolutions and linear layers. " + _BY_SIGN,
        run=claim_depth.simple_beat_very_deep,
    ),
    "deeper_is_worse_within_families": Conclusion(
        version=CONTROL,
        statement="Within a family of architectures, deeper networks agree less with people.",
        test="For each family of classifiers, the slope of held-out agreement over the number of "
        "layers, per doubling, with its sign reversed; the mean over families. " + _BY_SIGN,
        run=claim_depth.deeper_is_worse_within_families,
    ),
    "depth_helps_simple": Conclusion(
        version=PREPRINT,
        statement="In simple networks agreement rises with the depth of the layer.",
        test="The slope of agreement over relative depth, from input to output, by least squares; "
        "the mean over untuned backbones with at most {simple} weighted layers. Supported if the "
        "interval lies above {margin}; contradicted if it lies below 0, or within ±{margin}.",
        run=claim_depth.rises_with_depth,
        margin=_itself,
    ),
    "best_layer_is_not_the_last": Conclusion(
        version=JOURNAL,
        statement="The best layer is generally not the last.",
        test="The best of the other layers, held out, minus the last; the median over trained "
        "backbones. " + _BY_SIGN,
        run=claim_depth.best_is_not_the_last,
    ),
    "environment_matters_little": Conclusion(
        version=PREPRINT,
        statement="Small changes of the images that a network learned from matter little.",
        test="Backbones with the same goal and architecture that learned from different images, "
        "except for comparisons of large natural sets with small or restricted ones. " + _WITHIN,
        run=claim_data.environment_matters_little,
        margin=_itself,
    ),
    "large_natural_data_is_better": Conclusion(
        version=JOURNAL,
        statement="Large sets of natural images beat small or restricted ones.",
        test="Backbones with the same goal and architecture: those that learned from a large set "
        "of natural images minus those that learned from a small or restricted set; the mean over "
        "pairs of sets. " + _BY_SIGN,
        run=claim_data.large_natural_data_is_better,
    ),
    "laboratory_matters_little": Conclusion(
        version=CONTROL,
        statement="Who trained a network, with which software and recipe, matters little.",
        test="Backbones with the same goal, data and architecture from different laboratories, or "
        "from one laboratory with different recipes. " + _WITHIN,
        run=claim_data.laboratory_matters_little,
        margin=_itself,
    ),
    "descriptors_change_little": Conclusion(
        version=BOTH,
        statement="Statistical descriptors instead of plain responses change little.",
        test="Each descriptor minus the plain readout, each at its own best layer, held out; the "
        "mean over untuned backbones. " + _WITHIN,
        run=claim_readouts.descriptors_change_little,
        margin=_itself,
    ),
    "concatenation_changes_little": Conclusion(
        version=BOTH,
        statement="Concatenating layers changes little.",
        test="The best concatenation of each kind minus the best single layer, both held out; the "
        "mean over untuned backbones. " + _WITHIN,
        run=claim_readouts.concatenation_changes_little,
        margin=_itself,
    ),
    "channel_relevance_gains": Conclusion(
        version=BOTH,
        statement="Fine-tuning the relevance of channels raises agreement.",
        test="Channel weights learned from other references minus equal weights, each at its best "
        "layer, held out; the mean over untuned backbones. " + _BY_SIGN,
        run=claim_readouts.channel_relevance_gains,
    ),
    "better_classification_is_not_more_human": Conclusion(
        version=PREPRINT,
        statement="A better classifier is not more like people.",
        test="The rank correlation between the published scores of classifiers and their held-out "
        "agreement. " + _SCORES,
        run=claim_performance.better_classification_is_not_more_human,
        margin=lambda _: WEAK,
    ),
    "better_performance_is_not_more_human": Conclusion(
        version=JOURNAL,
        statement="A network that does its task better is not more like people, whatever the task.",
        test="The rank correlation between the published scores of untuned backbones and their "
        "held-out agreement. " + _SCORES,
        run=claim_performance.better_performance_is_not_more_human,
        margin=lambda _: WEAK,
    ),
    "agreement_is_an_inverse_u_of_accuracy": Conclusion(
        version="arXiv:2203.04946",
        statement="Agreement first rises and then falls with the accuracy of classifiers.",
        test="The slopes of a parabola of held-out agreement over published accuracy, at the "
        "least and the most accurate classifier. Supported if the first lies above 0 and the last "
        "below; contradicted if agreement still rises at the most accurate, or falls at the least. "
        "The effect is the slope at the most accurate, per 10 points; its interval is over "
        "classifiers.",
        run=claim_performance.inverse_u_of_accuracy,
    ),
    "middle_layers_beat_embeddings": Conclusion(
        version="arXiv:2409.07650",
        statement="Layers in the middle agree better with people than the last one.",
        test="The best layer with a relative depth between {low} and {high}, held out, minus the "
        "last layer; the mean over untuned backbones. " + _BY_SIGN,
        run=claim_depth.middle_beats_embeddings,
    ),
}
"""The claims by name, in the order of the table."""
