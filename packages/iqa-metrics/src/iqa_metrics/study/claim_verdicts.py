"""From an interval to a verdict: the rules that all tests of claims share.

A verdict keeps its error rate: if a claim's hypothesis lies on the border between true and false,
a wrong verdict comes out in at most one of twenty studies (for 95 % intervals). Where a claim is
about several things at once, two rules keep that rate:

- That **all** of them are so needs no correction: each single test has to show it. The claim is
  false if one of them is not so, and that one passes its own test too rarely (R. L. Berger,
  "Multiparameter hypothesis testing and acceptance sampling", Technometrics 24(4), 1982).
- That **one** of them is so needs Holm's correction.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from iqa_metrics import statistics
from iqa_metrics.statistics import Bootstrap, Interval
from iqa_metrics.study.comparisons import Comparer
from iqa_metrics.study.rows import CONTRADICTED, NOT_TESTED, SUPPORTED, UNDECIDED

CORRECTED = "it is not clear enough for one of several, after Holm's correction"
"""Why a claim is undecided though an interval seems to decide it."""
RUN = "iqa study run ..."
"""How a command begins that repeats the run with something added."""


@dataclass(frozen=True)
class Found:
    """The result of a test.

    Attributes
    ----------
    interval
        The effect and its interval; None if nothing was tested.
    evidence
        What was compared.
    verdict
        Supported, contradicted, undecided or not tested.
    why
        What is missing if nothing was tested, or why it is undecided if the interval alone does not
        tell.
    get
        The command that gets it, or an empty text.
    """

    interval: Interval | None
    evidence: str
    verdict: str
    why: str = ""
    get: str = ""


def not_tested(why: str, get: str = "") -> Found:
    """Return the result of a test that could not be carried out."""
    return Found(None, "", NOT_TESTED, why, get)


def missing_baseline(what: str, *names: str, weights: bool = True) -> Found:
    """Return the result of a test that lacks a baseline; ``names`` are some that would do."""
    fetched = f"iqa weights fetch {' '.join(names)} && " if weights else ""
    return not_tested(f"{what} was not measured", f"{fetched}{RUN} --baseline {','.join(names)}")


def missing_network(what: str, *names: str) -> Found:
    """Return the result of a test that lacks backbones; ``names`` are some that would do."""
    fetched = " ".join(names)
    return not_tested(
        what, f"iqa weights fetch {fetched} && {RUN} --backbone {','.join(names)}" if names else ""
    )


def no_network() -> Found:
    """Return the result of a test that lacks any untuned backbone."""
    return missing_network(
        "no trained backbone was measured that was not tuned on human ratings", "alexnet"
    )


def by_sign(interval: Interval) -> str:
    """Return supported if the whole interval is above 0, contradicted if it is below."""
    if interval.low > 0:
        return SUPPORTED
    return CONTRADICTED if interval.high < 0 else UNDECIDED


def above(comparer: Comparer, difference: Bootstrap, bound: float) -> float:
    """Return the one-sided p-value of the hypothesis that a difference is at most a bound."""
    shifted = Bootstrap(difference.value - bound, difference.samples - bound)
    two_sided = float(comparer.interval(shifted).p)
    return two_sided / 2 if shifted.value > 0 else 1 - two_sided / 2


def one_above(comparer: Comparer, differences: Iterable[Bootstrap], bound: float) -> bool:
    """Return whether it is shown that at least one of several differences exceeds a bound."""
    p = statistics.holm(above(comparer, one, bound) for one in differences)
    return bool(np.nan_to_num(p, nan=1.0).min(initial=1.0) < comparer.level / 2)


def little(
    comparer: Comparer, differences: Mapping[str, Bootstrap], what: str, margin: float
) -> Found:
    """Test whether all of several differences lie within a margin."""
    intervals = {name: comparer.interval(one) for name, one in differences.items()}
    most = max(intervals, key=lambda name: abs(float(intervals[name].value)))
    within = sum(bool(one.low >= -margin and one.high <= margin) for one in intervals.values())
    evidence = f"{within} of {len(intervals)} {what} within the margin; largest: {most}"
    if within == len(intervals):
        return Found(intervals[most], evidence, SUPPORTED)
    outwards = [one if one.value > 0 else one * -1.0 for one in differences.values()]
    if one_above(comparer, outwards, margin):
        return Found(intervals[most], evidence, CONTRADICTED)
    beyond = intervals[most].low > margin or intervals[most].high < -margin
    return Found(intervals[most], evidence, UNDECIDED, CORRECTED if beyond else "")


def median(parts: Iterable[Bootstrap]) -> Bootstrap:
    """Return the median of scalars, for each bootstrap replicate."""
    each = together(list(parts))
    return Bootstrap(
        np.asarray(np.median(each.value)),
        np.median(each.samples, axis=1),
    )


def together(parts: Sequence[Bootstrap]) -> Bootstrap:
    """Return scalars as one bootstrap of several estimates."""
    return Bootstrap(
        np.array([float(one.value) for one in parts]),
        np.stack([one.samples for one in parts], axis=1),
    )


def counted(count: int, of: str) -> str:
    """Return "1 backbone", "2 backbones"."""
    return f"{count} {of}{'' if count == 1 else 's'}"
