"""``krasula.csv``: how metrics tell different from similar stimuli, and better from worse ones.

The analysis of Krasula et al. compares couples of stimuli. Its tests take couples as independent.
They are not, because each stimulus is in many couples, so its p-values are too small.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from iqa_metrics import statistics
from iqa_metrics.study.agreement_rows import Krasula
from iqa_metrics.study.comparisons import Comparer
from iqa_metrics.study.contenders import Contender, contenders
from iqa_metrics.study.correlations import Judged
from iqa_metrics.study.distances import Floats

DIFFERENT, BETTER = "different_similar", "better_worse"
_NO_SPREAD = (
    "not tested: the database does not tell how much ratings vary, so that no couple is known to "
    "be significantly different"
)
_NO_RATINGS = (
    "not tested: the database does not tell how many ratings there are, so that no couple is known "
    "to be significantly different"
)
_ONE_SIDED = "not tested: all couples are different, or none is"


def krasula(
    comparer: Comparer, judged: Mapping[str, Judged], higher_is: Mapping[str, str]
) -> list[Krasula]:
    """Return the rows of a database: each contender alone, and every two of them.

    There are none for all databases together, and for scores that are no human ratings.
    """
    scope = comparer.scope
    one = judged.get(scope.name)
    found = contenders(comparer)
    if one is None or not one.opinion or not found:
        return []
    of, settings = one.measured.pairs, scope.description.statistics
    places = {series: at for at, series in enumerate(one.measured.series)}
    rows = [places[contender.series] for contender in found]
    there = one.there[rows].all(axis=0)
    known = there & np.isfinite(of.opinion_sd) & np.isfinite(of.ratings)
    if known.sum() < statistics.FEWEST:
        why = _NO_RATINGS if np.isfinite(of.opinion_sd[there]).any() else _NO_SPREAD
        return [_nothing(scope.name, analysis, why) for analysis in (DIFFERENT, BETTER)]
    errors = statistics.standard_errors(of.opinion_sd[known], of.ratings[known])
    couples = statistics.couples_of(
        of.opinion[known], errors, seed=settings.seed, confidence=settings.confidence
    )
    worse = -1.0 if higher_is[scope.name] == "worse" else 1.0
    signs = np.array([worse if contender.similar else -worse for contender in found])
    quality = one.measured.values[np.ix_(np.array(rows), known)] * signs[:, None]
    positives = int(couples.different.sum())
    if not 1 < positives < len(couples.different) - 1:
        return [_nothing(scope.name, analysis, _ONE_SIDED) for analysis in (DIFFERENT, BETTER)]
    apart = statistics.different_similar(quality, couples)
    preferred = statistics.better_worse(quality, couples)
    higher = int((couples.higher & couples.different).sum())

    def of_couple(a: int, b: int) -> tuple[float, float]:
        right = preferred.right
        return (
            float(preferred.c0[a] - preferred.c0[b]),
            statistics.shares_differ(right[a], right[b]),
        )

    def no_shares(a: int, b: int) -> tuple[float, float]:
        return math.nan, math.nan

    return [
        *_rows(
            Krasula(scope.name, DIFFERENT, "", "", len(couples.different), positives),
            found,
            apart.areas,
            np.full(len(found), math.nan),
            apart.thresholds,
            no_shares,
            settings.confidence,
        ),
        *_rows(
            Krasula(scope.name, BETTER, "", "", positives, higher),
            found,
            preferred.areas,
            preferred.c0,
            np.full(len(found), math.nan),
            of_couple,
            settings.confidence,
        ),
    ]


def _nothing(database: str, analysis: str, why: str) -> Krasula:
    return Krasula(database, analysis, "", "", 0, 0, why=why)


def _rows(
    blank: Krasula,
    found: list[Contender],
    areas: statistics.Areas,
    c0: Floats,
    thresholds: Floats,
    shares: Callable[[int, int], tuple[float, float]],
    confidence: float,
) -> list[Krasula]:
    low, high = areas.interval(confidence)
    alone = [
        replace(
            blank,
            first=one.name,
            auc=float(areas.value[at]),
            auc_low=float(low[at]),
            auc_high=float(high[at]),
            c0=float(c0[at]),
            threshold=float(thresholds[at]),
        )
        for at, one in enumerate(found)
    ]
    both = []
    for a, b in itertools.combinations(range(len(found)), 2):
        apart, below, above, p = areas.difference(a, b, confidence).tolist()
        share, share_p = shares(a, b)
        both.append(
            replace(
                blank,
                first=found[a].name,
                second=found[b].name,
                auc=apart,
                auc_low=below,
                auc_high=above,
                auc_p=p,
                c0=share,
                c0_p=share_p,
            )
        )
    corrected = [statistics.holm(getattr(row, name) for row in both) for name in ("auc_p", "c0_p")]
    return [
        *alone,
        *(
            replace(row, auc_p_corrected=float(p), c0_p_corrected=float(q))
            for row, p, q in zip(both, *corrected, strict=True)
        ),
    ]
