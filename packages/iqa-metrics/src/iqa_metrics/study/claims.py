"""``claims.csv``: test each conclusion of the paper on this data.

A claim is *supported* or *contradicted* if its interval shows so. It is *undecided* if the interval
is too wide, or if what the test needs was not measured. Intervals are over reference images: a
verdict holds for these backbones on other images of the same kind, not for other backbones.

References
----------
P. Hernández-Cámara, J. Vila-Tomás, V. Laparra and J. Malo, "Analysis of Deep Image Quality Models",
arXiv:2302.13345; Neural Networks 2025, doi 10.1016/j.neunet.2025.107189.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from iqa_metrics.study import claim_tests as tests
from iqa_metrics.study.claim_tests import SIMPLE, VERY_DEEP, WEAK, Found, untested
from iqa_metrics.study.comparisons import Comparer
from iqa_metrics.study.rows import UNDECIDED, Claim


def claims(comparer: Comparer) -> list[Claim]:
    """Return one row per claim, tested in a scope."""
    margin = comparer.scope.description.statistics.margin
    found = []
    for name, tested in CLAIMS.items():
        got = tested.run(comparer)
        interval = got.interval
        numbers = (
            (math.nan,) * 3
            if interval is None
            else (float(interval.value), float(interval.low), float(interval.high))
        )
        if interval is not None and math.isnan(numbers[0]):
            got = untested("in some bootstrap replicates the agreements do not vary")
        why = got.why
        if got.verdict == UNDECIDED and not why:
            why = "the interval is too wide to tell"
        effect, low, high = numbers
        found.append(
            Claim(
                claim=name,
                version="preprint, journal",
                statement=tested.statement,
                test=tested.test.format(
                    margin=margin, weak=WEAK, simple=SIMPLE, very_deep=VERY_DEEP
                ),
                database=comparer.scope.name,
                effect=effect,
                low=low,
                high=high,
                margin=margin,
                evidence=got.evidence,
                verdict=got.verdict,
                why=why,
            )
        )
    return found


@dataclass(frozen=True, kw_only=True)
class Conclusion:
    """A claim of the paper and how it is tested.

    Attributes
    ----------
    statement
        The paper's conclusion.
    test
        What is compared, and when the claim counts as supported or contradicted.
    run
        The function that carries out the test.
    """

    statement: str
    test: str
    run: Callable[[Comparer], Found]


CLAIMS: Mapping[str, Conclusion] = {
    "all_beat_ssim": Conclusion(
        statement="All such models agree better with people than SSIM.",
        test="Each trained backbone at its best layer minus SSIM, corrected by Holm. Supported if "
        "all are better; contradicted if one is worse. The effect is the smallest difference.",
        run=tests.all_beat_ssim,
    ),
    "some_match_the_state_of_the_art": Conclusion(
        statement="Some match the state of the art without being tuned.",
        test="The best backbone that was not tuned on human ratings minus the best metric that "
        "was. Supported if at least one is not worse by more than {margin}; contradicted if all "
        "are.",
        run=tests.some_match_the_best,
    ),
    "classification_beats_lpips": Conclusion(
        statement="Supervised classification beats LPIPS.",
        test="The mean over classifiers, each at its best layer, minus the best LPIPS variant "
        "that was measured.",
        run=tests.beat_lpips(tests.classifiers, "classifier"),
    ),
    "jigsaw_beats_lpips": Conclusion(
        statement="Even solving jigsaw puzzles beats LPIPS.",
        test="The mean over backbones trained on jigsaw puzzles, each at its best layer, minus the "
        "best LPIPS variant that was measured.",
        run=tests.beat_lpips(tests.trained_on_jigsaw_puzzles, "jigsaw backbone"),
    ),
    "simple_beats_very_deep": Conclusion(
        statement="Simple networks agree better with people than very deep ones.",
        test="The mean over classifiers with at most {simple} weighted layers minus the mean over "
        "classifiers with at least {very_deep}. Weighted layers are counted as in the paper or, "
        "for other architectures, as the number of convolutions and linear layers.",
        run=tests.simple_beat_very_deep,
    ),
    "depth_helps_simple": Conclusion(
        statement="In simple networks agreement rises with depth; in very deep ones it does not.",
        test="The rank correlation between the depth of layers and their agreement, averaged over "
        "backbones. Supported if it is positive in simple backbones and larger there than in very "
        "deep ones. The effect is the correlation in simple ones.",
        run=tests.depth_helps_simple,
    ),
    "environment_matters_little": Conclusion(
        statement="The environment that a network was trained in matters little.",
        test="Backbones with the same pretraining task, data and architecture. Supported if all "
        "differences lie within {margin}; contradicted if one lies outside. The effect is the "
        "largest difference.",
        run=tests.environment_matters_little,
    ),
    "descriptors_change_little": Conclusion(
        statement="Statistical descriptors instead of plain responses change little.",
        test="Each descriptor at its best layer minus the plain readout at its own best layer, "
        "averaged over trained backbones. Supported if all differences lie within {margin}; "
        "contradicted if one lies outside. The effect is the largest difference.",
        run=tests.descriptors_change_little,
    ),
    "concatenation_changes_little": Conclusion(
        statement="Concatenating layers changes little.",
        test="The best concatenation of each kind minus the best single layer, averaged over "
        "trained backbones. Supported if all differences lie within {margin}; contradicted if one "
        "lies outside. The effect is the largest difference.",
        run=tests.concatenation_changes_little,
    ),
    "better_classification_is_not_more_human": Conclusion(
        statement="A better classifier is not more like people.",
        test="The rank correlation between the published scores of classifiers and their "
        "agreement; both backbones and references are resampled. Supported if its interval lies "
        "below {weak}; contradicted if its interval lies above 0.",
        run=tests.better_scores_do_not_help,
    ),
}
"""The claims by name, in the order of the table."""
