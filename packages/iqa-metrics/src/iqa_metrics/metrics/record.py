"""Records of metrics: their names, their classes, and facts that are known before they are made."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iqa_metrics.backbones import backbone
from iqa_metrics.compute.pair_module import Check
from iqa_metrics.metrics.contract import Metric
from iqa_metrics.metrics.specs import DeepSpec
from iqa_metrics.registry import expect
from iqa_metrics.weights.files import WeightsFile


@dataclass(frozen=True)
class Needs:
    """The files that a metric is made from.

    Attributes
    ----------
    backbone
        The name of its backbone, or None.
    calibration
        The file with its calibration, or None.
    """

    backbone: str | None = None
    calibration: WeightsFile | None = None

    @property
    def files(self) -> tuple[WeightsFile, ...]:
        """The published files: the backbone's weights, and the calibration."""
        weights = None if self.backbone is None else backbone(self.backbone).weights
        return tuple(file for file in (weights, self.calibration) if file is not None)


_OF_CLASS: Any = None
"""Stands for a fact that is taken from the metric's class."""


@dataclass(frozen=True, kw_only=True)
class MetricRecord:
    """A metric with a name, and facts that are known before it is made.

    The class declares the direction, the range, the source and whether the metric is
    differentiable. The record declares the rest; some facts are taken from the class by default.

    Attributes
    ----------
    name
        The metric's spec.
    metric
        Its class.
    summary
        One line for listings.
    make
        ``(check, weights, calibration) -> metric``, given the paths of files with the network's
        weights and the calibration (None for the published ones). By default
        ``metric(check=check)``.
    needs
        The files that the metric is made from.
    stands_for
        The deep distance that the name abbreviates, or None.
    smallest_input
        Least height and width, in pixels. By default that of the class.
    has_map
        Whether it also gives a value for each position. By default that of the class.
    symmetric
        Whether its value stays the same when reference and distorted are swapped.
    identity
        Its value for identical images. By default the better end of the range.
    tuned
        Whether it was fitted to human ratings of images. By default whether it has a calibration.
    aliases
        Other names that specs may use. Scores and printed specs have ``name``.

    Examples
    --------
    >>> from iqa_metrics import PSNR, MetricRecord
    >>> record = MetricRecord(name="my_psnr", metric=PSNR, summary="PSNR by another name")
    >>> record.identity, record.smallest_input, record.has_map, record.symmetric
    (inf, 1, False, True)
    """

    name: str
    metric: type[Metric]
    summary: str
    make: Callable[[Check, Path | None, Path | None], Metric] = _OF_CLASS
    needs: Needs = Needs()
    stands_for: DeepSpec | None = None
    smallest_input: int = _OF_CLASS
    has_map: bool = _OF_CLASS
    symmetric: bool = True
    identity: float = _OF_CLASS
    tuned: bool = _OF_CLASS
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _is_metric(self.metric):
            return  # refused when it is registered
        for name in ("smallest_input", "has_map"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, getattr(self.metric, name, None))
        if self.make is None:
            object.__setattr__(self, "make", lambda check, *_: self.metric(check=check))
        if self.identity is None:
            bounds: Any = getattr(self.metric, "range", None)
            if isinstance(bounds, tuple) and len(bounds) == 2:
                best = bounds[1 if getattr(self.metric, "higher_is_better", False) else 0]
                object.__setattr__(self, "identity", best)
        if self.tuned is None and isinstance(self.needs, Needs):
            object.__setattr__(self, "tuned", self.needs.calibration is not None)


def _is_metric(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Metric)


def check_record(record: MetricRecord) -> None:
    """Raise PluginError unless a record can be used."""
    what = f"metric {record.name!r}"
    expect(_is_metric(record.metric), f"{what}: metric", "a subclass of Metric", record.metric)
    own = f"{what}: {record.metric.__name__}"
    direction = getattr(record.metric, "higher_is_better", None)
    expect(isinstance(direction, bool), f"{own}.higher_is_better", "True or False", direction)
    bounds: Any = getattr(record.metric, "range", None)
    fine = isinstance(bounds, tuple) and len(bounds) == 2 and all(map(_is_number, bounds))
    fine = fine and bounds[0] < bounds[1]
    expect(fine, f"{own}.range", "(least, greatest), two numbers", bounds)
    source = getattr(record.metric, "source", None)
    expect(_is_text(source), f"{own}.source", "the paper to cite, as text", source)
    overridden = record.metric.compare is not Metric.compare
    expect(overridden, f"{own}.compare", "a method that returns [N]", record.metric.compare)
    expect(_is_text(record.summary), f"{what}: summary", "one line of text", record.summary)
    expect(callable(record.make), f"{what}: make", "a function", record.make)
    expect(isinstance(record.needs, Needs), f"{what}: needs", "Needs(...)", record.needs)
    abbreviated = record.stands_for is None or isinstance(record.stands_for, DeepSpec)
    expect(abbreviated, f"{what}: stands_for", "a DeepSpec or None", record.stands_for)
    least = record.smallest_input
    fine = isinstance(least, int) and not isinstance(least, bool) and least >= 1
    expect(fine, f"{what}: smallest_input", "a number of pixels, in the class or record", least)
    for name in ("has_map", "symmetric", "tuned"):
        value = getattr(record, name)
        expect(isinstance(value, bool), f"{what}: {name}", "True or False", value)
    expect(_is_number(record.identity), f"{what}: identity", "a number", record.identity)
    aliases: Any = record.aliases
    fine = isinstance(aliases, tuple) and all(map(_is_text, aliases))
    expect(fine, f"{what}: aliases", "a tuple of names", aliases)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def check_made(record: MetricRecord, made: Metric) -> Metric:
    """Return what a record's ``make`` returned; raise PluginError if it can't be used."""
    what = f"metric {record.name!r}: make"
    expect(isinstance(made, Metric), what, "a function that returns a Metric", made)
    name = getattr(made, "name", None)
    expect(_is_text(name), f"{what}: {type(made).__name__}.name", "the metric's spec", name)
    return made
