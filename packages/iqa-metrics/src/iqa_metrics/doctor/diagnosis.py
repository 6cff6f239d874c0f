"""Which mistake turns the right value of a pair into the value that somebody reports."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, groupby

from iqa_metrics.doctor.claims import TOLERANCE, Claim
from iqa_metrics.doctor.colours import colour_mistakes
from iqa_metrics.doctor.hypotheses import GROUPS, Hypothesis
from iqa_metrics.doctor.measured_pair import MeasuredPair
from iqa_metrics.doctor.other_metrics import metric_mistakes, value_mistakes
from iqa_metrics.doctor.ranges import network_range_mistakes, pixel_range_mistakes
from iqa_metrics.doctor.sizes import size_mistakes
from iqa_metrics.io.decoding import ImageError
from iqa_metrics.io.images import ImageSource
from iqa_metrics.metrics import (
    LPIPS,
    MSE,
    Metric,
    MetricSpec,
    all_metrics,
    create_metric,
)
from iqa_metrics.metrics.table_module import TableModule
from iqa_metrics.weights.files import WeightsError

_NEAREST = 3
_NEIGHBOURHOOD = 0.25
_SAME = 1e-6
"""Relative difference below which a mistake has no effect on a pair."""


@dataclass(frozen=True)
class Finding:
    """A mistake, or two, and the value that it gives.

    Attributes
    ----------
    mistakes
        The hypotheses, in the order in which a program makes the mistakes.
    value
        The value with the mistakes.
    difference
        It minus the claimed value.
    """

    mistakes: tuple[Hypothesis, ...]
    value: float
    difference: float

    @property
    def name(self) -> str:
        """The names of the mistakes, joined by ``+``."""
        return "+".join(mistake.name for mistake in self.mistakes)

    @property
    def explanation(self) -> str:
        """What the other program does."""
        return "; and ".join(mistake.explanation for mistake in self.mistakes)

    @property
    def remedy(self) -> str:
        """How to fix the other program."""
        return "; and ".join(dict.fromkeys(mistake.remedy for mistake in self.mistakes))

    @property
    def tier(self) -> int:
        """How unusual the mistakes are: 1 for a classic one, more for rarer ones and for two."""
        return sum(mistake.tier for mistake in self.mistakes)


@dataclass(frozen=True)
class Diagnosis:
    """The answer of :func:`diagnose`.

    Attributes
    ----------
    metric
        The metric's spec.
    claim
        The reported value.
    value
        The right value.
    agrees
        Whether the two agree; nothing else is tried then.
    findings
        The hypotheses that give the claimed value, most plausible first.
    nearest
        Without findings, the three that come nearest.
    tried
        How many hypotheses were tried, combinations included.
    combined
        How many of these are combinations of two mistakes, which are only tried where none alone
        gives the claimed value.
    without_effect
        Names of mistakes that do not change the value of this pair.
    skipped
        Names of what could not be tried, to the reason.
    expected_by_chance
        How many hypotheses a number near the claimed one would fit by chance.
    """

    metric: str
    claim: Claim
    value: float
    agrees: bool
    findings: tuple[Finding, ...] = ()
    nearest: tuple[Finding, ...] = ()
    tried: int = 0
    combined: int = 0
    without_effect: tuple[str, ...] = ()
    skipped: Mapping[str, str] | None = None
    expected_by_chance: float = 0.0

    @property
    def cautions(self) -> tuple[str, ...]:
        """What to keep in mind before believing the first finding."""
        said = []
        distinct = len({round(one.value, 12) for one in self.findings})
        if len(self.findings) > 1:
            said.append(
                f"{len(self.findings)} hypotheses fit"
                + (", some with equal values" if distinct < len(self.findings) else "")
                + "; they are ordered by how usual the mistake is. Another pair of images, or more "
                "digits, would tell them apart."
            )
        if self.findings and self.expected_by_chance >= 0.1:
            said.append(
                f"About {self.expected_by_chance:.1g} of the {self.tried} hypotheses would fit a "
                "random number near the claimed one: it has too few digits for certainty."
            )
        if self.findings and self.combined:
            said.append(
                f"No single mistake fits; {self.combined} combinations of two were tried, so check "
                "the finding on another pair."
            )
        return tuple(said)


def diagnose(
    reference: ImageSource,
    distorted: ImageSource,
    claimed: str | float,
    metric: str | MetricSpec | Metric = "default",
    *,
    tolerance: float = TOLERANCE,
    others: Mapping[str, Metric] | None = None,
    device: str = "cpu",
) -> Diagnosis:
    """Find the mistake that turns the right value of a pair into a reported one.

    Known mistakes are made on purpose, one at a time and then two at a time, and the values that
    result are compared with the reported one: a wrong range, order of channels, normalisation,
    size, border or peak, another variant of the metric, another form of its value.

    Parameters
    ----------
    reference, distorted
        The images, as for :func:`iqa_metrics.score`.
    claimed
        The reported value, best as text: its digits say how precise it is.
    metric
        The metric that it is said to be of: a spec or an object.
    tolerance
        Relative tolerance, in addition to half a unit of the last digit.
    others
        Metric objects by their specs, for hypotheses of another metric. By default they are made
        from their specs; those whose weights are not on this machine are skipped.
    device
        Where metrics are made.

    Returns
    -------
    Diagnosis
        The findings, ranked.

    Raises
    ------
    ImageError
        If an image can't be read, or the two can't be compared.
    ValueError
        If the claimed value is not a finite number.
    UnknownNameError, WeightsError
        As by :func:`iqa_metrics.create_metric`.

    Examples
    --------
    >>> import numpy as np
    >>> from iqa_metrics import score
    >>> from iqa_metrics.doctor import diagnose
    >>> x = np.random.default_rng(0).random((64, 64, 3))
    >>> y = x**1.1
    >>> in_255 = score(x / 255, y / 255, "ssim")  # data_range=255 for images in [0, 1]
    >>> diagnose(x, y, f"{in_255:.7f}", "ssim").findings[0].name
    'peak_255'
    """
    claim = Claim.read(claimed, tolerance)
    if isinstance(metric, Metric):
        chosen = metric
    else:
        chosen = create_metric(metric, device=device, check="off")
    return explained(MeasuredPair.read(reference, distorted, chosen, others), claim)


def explained(pair: MeasuredPair, claim: Claim) -> Diagnosis:
    """Return the diagnosis of a claim about a pair, which remembers its values for other claims."""
    chosen = pair.metric
    right = pair.value(())
    if claim.fits(right):
        return Diagnosis(chosen.name, claim, right, agrees=True)
    search = _Search(pair, claim, right)
    search.singles(hypotheses(chosen))
    if not search.fitting:
        search.combine()
    findings = sorted(search.fitting, key=lambda one: (one.tier, abs(one.difference)))
    near = sorted(search.found, key=lambda one: abs(one.difference))[:_NEAREST]
    return Diagnosis(
        chosen.name,
        claim,
        right,
        agrees=False,
        findings=tuple(findings),
        nearest=() if findings else tuple(near),
        tried=search.tried,
        combined=search.combined,
        without_effect=tuple(search.without_effect),
        skipped=dict(search.skipped),
        expected_by_chance=search.expected_by_chance(),
    )


def hypotheses(metric: Metric) -> Iterator[Hypothesis]:
    """Yield the mistakes that are tried for a metric, alone."""
    deep = isinstance(metric, TableModule)
    if isinstance(metric, TableModule) and metric.extractor.scaling is not None:
        yield from network_range_mistakes(metric.extractor.scaling, isinstance(metric, LPIPS))
    elif not deep:
        yield from pixel_range_mistakes(isinstance(metric, MSE))
    yield from metric_mistakes(metric)
    yield from colour_mistakes(deep)
    yield from size_mistakes(deep)
    yield from value_mistakes(metric)
    symmetric = {record.name: record.symmetric for record in all_metrics()}
    if not symmetric.get(metric.name, True):
        yield Hypothesis(
            name="swapped",
            group="value",
            tier=1,
            explanation="reference and distorted are swapped",
            remedy="pass the reference first",
            images=lambda x, y: (y, x),
        )


def _is_rare(hypothesis: Hypothesis) -> bool:
    return hypothesis.tier > 2


class _Search:
    """The hypotheses that were tried."""

    def __init__(self, pair: MeasuredPair, claim: Claim, right: float) -> None:
        self._pair = pair
        self._claim = claim
        self._right = right
        self._effective: list[Hypothesis] = []
        self.found: list[Finding] = []
        self.fitting: list[Finding] = []
        self.without_effect: list[str] = []
        self.skipped: dict[str, str] = {}
        self.tried = 0
        self.combined = 0

    def singles(self, known: Iterable[Hypothesis]) -> None:
        """Try mistakes one at a time; the rare ones only where no other gives the value."""
        for rare, group in groupby(sorted(known, key=_is_rare), key=_is_rare):
            if rare and self.fitting:
                return
            self._effective += [one for one in group if self._has_effect(one)]

    def _has_effect(self, hypothesis: Hypothesis) -> bool:
        """Try a single mistake, and return whether it changes the value of the pair."""
        value = self._value((hypothesis,))
        if value is None:
            return False
        self.tried += 1
        if math.isclose(value, self._right, rel_tol=_SAME):
            self.without_effect.append(hypothesis.name)
            return False
        self._keep((hypothesis,), value)
        return True

    def combine(self) -> None:
        """Try two mistakes at a time, of those that have an effect alone."""
        for pair in combinations(self._effective, 2):
            if pair[0].group == pair[1].group or not self._is_usual(pair):
                continue
            ordered = tuple(sorted(pair, key=lambda one: GROUPS.index(one.group)))
            value = self._value(ordered)
            if value is not None:
                self.tried += 1
                self.combined += 1
                self._keep(ordered, value)

    def _is_usual(self, pair: tuple[Hypothesis, Hypothesis]) -> bool:
        """Return whether two mistakes are worth trying together."""
        tiers = sum(one.tier for one in pair)
        # What is done to the value costs no pass, and colour is the likeliest second mistake.
        free = any(one.group in ("value", "colour") for one in pair)
        return tiers <= (3 if free or not self._pair.is_deep else 2)

    def expected_by_chance(self) -> float:
        """Return how many hypotheses would fit a random number near the claimed one.

        The hypotheses whose values lie within a quarter of the claimed value, or within fifty
        tolerances, are taken to be spread evenly there; those that fit are left out.
        """
        width = max(_NEIGHBOURHOOD * abs(self._claim.value), 50 * self._claim.tolerance)
        near = sum(abs(one.difference) <= width for one in self.found) - len(self.fitting)
        return near * self._claim.tolerance / width if width else 0.0

    def _value(self, mistakes: tuple[Hypothesis, ...]) -> float | None:
        try:
            value = self._pair.value(mistakes)
        except (ImageError, ValueError, WeightsError, RuntimeError) as error:
            if len(mistakes) == 1:
                self.skipped[mistakes[0].name] = str(error).split("\n")[0]
            return None
        return value if math.isfinite(value) else None

    def _keep(self, mistakes: tuple[Hypothesis, ...], value: float) -> None:
        finding = Finding(mistakes, value, value - self._claim.value)
        self.found.append(finding)
        if self._claim.fits(value):
            self.fitting.append(finding)
