"""``significance.csv``: every two backbones and baselines, by three tests.

The verdict is that of the bootstrap over references, corrected by Holm's method. The tests of
Meng, Rosenthal and Rubin and of ITU-T P.1401 stand beside it, because the field reports them.
"""

import itertools
from collections.abc import Mapping

import numpy as np

from iqa_metrics import statistics
from iqa_metrics.study.agreement_rows import Significance
from iqa_metrics.study.comparisons import Comparer, verdict_of
from iqa_metrics.study.contenders import Contender, contenders
from iqa_metrics.study.correlations import Judged
from iqa_metrics.study.distances import Floats


def significance(
    comparer: Comparer, judged: Mapping[str, Judged], higher_is: Mapping[str, str]
) -> list[Significance]:
    """Return a row for every two contenders of a scope.

    Parameters
    ----------
    comparer
        The scope.
    judged, higher_is
        The series of each database, and what a higher opinion score means, by its name. The tests
        that need the pairs are NaN for several databases together, and for scores that are no human
        ratings.
    """
    scope, settings = comparer.scope, comparer.scope.description.statistics
    found = contenders(comparer)
    couples = list(itertools.combinations(range(len(found)), 2))
    one = judged.get(scope.name)
    tests = None
    if one is not None and one.opinion and couples:
        tests = _tests(found, one, higher_is[scope.name])
    got = [comparer.interval(found[a].agreement - found[b].agreement) for a, b in couples]
    corrected = statistics.holm(float(interval.p) for interval in got).tolist()
    rows = []
    for (a, b), interval, p in zip(couples, got, corrected, strict=True):
        low, high, apart = (float(v) for v in (interval.low, interval.high, interval.value))
        rows.append(
            Significance(
                database=scope.name,
                first=found[a].name,
                second=found[b].name,
                difference=apart,
                low=low,
                high=high,
                p=float(interval.p),
                p_corrected=p,
                p_mrr=float(tests[0][a, b]) if tests else np.nan,
                p_f=float(tests[1][a, b]) if tests else np.nan,
                verdict=verdict_of(apart, low, high, p, settings),
            )
        )
    return rows


def _tests(found: list[Contender], judged: Judged, higher_is: str) -> tuple[Floats, Floats]:
    """Return the p-values of both tests for every two contenders, ``[K, K]`` each."""
    measured = judged.measured
    places = {one: at for at, one in enumerate(measured.series)}
    rows = [places[one.series] for one in found]
    pairs = judged.there[rows].all(axis=0)
    x, y = measured.values[np.ix_(np.array(rows), pairs)], measured.pairs.opinion[pairs]
    n = int(pairs.sum())
    none = np.full((len(found), len(found)), np.nan)
    if n <= statistics.FEWEST:
        return none, none
    worse = 1.0 if higher_is == "worse" else -1.0
    signs = np.array([-worse if one.similar else worse for one in found])
    ranked = statistics.ranks(x * signs[:, None])
    agreement = statistics.srocc(ranked, y)
    between = np.stack([statistics.plcc(ranked, row) for row in ranked])
    _, p_mrr = statistics.meng_rosenthal_rubin(agreement[:, None], agreement[None], between, n)
    finite = np.where(np.isfinite(x), x, np.nan)
    _, errors = statistics.plcc_logistic(finite, y)
    _, p_f = statistics.residual_variance_test(errors[:, None], errors[None], n)
    return p_mrr, p_f
