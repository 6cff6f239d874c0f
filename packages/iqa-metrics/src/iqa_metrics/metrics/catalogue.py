"""The metrics that have names, and the way from a spec to a metric."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from iqa_metrics.devices import pick_device
from iqa_metrics.metrics.contract import Check, Metric
from iqa_metrics.metrics.deep import DeepDistance
from iqa_metrics.metrics.pixel import PSNR, SSIM
from iqa_metrics.metrics.specs import DeepSpec, MetricSpec, NamedSpec
from iqa_metrics.metrics.specs import parse_spec as _parse_spec
from iqa_metrics.names import lookup

DEFAULT = DeepSpec("efficientnet_lite0", ("block14",), "rmse")
"""The default metric; docs/default_metric.md shows the measurements behind the choice."""


@dataclass(frozen=True)
class MetricRecord:
    """A metric that has a name.

    Attributes
    ----------
    name
        Its spec.
    stands_for
        The deep distance that the name abbreviates, or None.
    metric
        Its class, which declares direction, range and source.
    make
        Makes it, given ``check``.
    summary
        One line for listings.
    """

    name: str
    metric: type[Metric]
    make: Callable[[Check], Metric]
    summary: str
    stands_for: DeepSpec | None = None


METRICS: tuple[MetricRecord, ...] = (
    MetricRecord(
        "default",
        DeepDistance,
        lambda check: _deep(DEFAULT, check),
        "deep distance in EfficientNet-Lite0, its weights embedded",
        DEFAULT,
    ),
    MetricRecord(
        "psnr", PSNR, lambda check: PSNR(check=check), "peak signal-to-noise ratio, in decibel"
    ),
    MetricRecord(
        "ssim",
        SSIM,
        lambda check: SSIM(check=check),
        "structural similarity, Gaussian window of the paper",
    ),
    MetricRecord(
        "ssim_skimage",
        SSIM,
        lambda check: SSIM("uniform", check=check),
        "structural similarity with scikit-image's default window",
    ),
)

_BY_NAME: Mapping[str, MetricRecord] = {record.name: record for record in METRICS}


def parse_spec(text: str) -> MetricSpec:
    """Parse a metric spec; ``str()`` of the result is the spec again.

    Raises
    ------
    UnknownNameError
        If it does not parse or holds an unknown name. The message gives the nearest names.
    """
    return _parse_spec(text, _BY_NAME)


def resolve(spec: MetricSpec | str) -> MetricSpec:
    """Return what a spec stands for: ``default`` becomes the deep distance that it names."""
    parsed = parse_spec(spec) if isinstance(spec, str) else spec
    if isinstance(parsed, NamedSpec):
        return lookup("metric", parsed.name, _BY_NAME).stands_for or parsed
    return parsed


def create_metric(
    spec: MetricSpec | str, *, device: str | torch.device = "cpu", check: Check = "error"
) -> Metric:
    """Make the metric that a spec names.

    Parameters
    ----------
    spec
        Such as ``"default"``, ``"ssim"`` or ``"efficientnet_lite0:block12:euclidean"``.
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; see :func:`iqa_metrics.pick_device`.
    check
        As for :class:`Metric`.

    Raises
    ------
    UnknownNameError
        If the spec names nothing.
    WeightsError
        If the network's weights are missing or damaged.
    """
    parsed = parse_spec(spec) if isinstance(spec, str) else spec
    if isinstance(parsed, DeepSpec):
        metric = _deep(parsed, check)
    else:
        metric = lookup("metric", parsed.name, _BY_NAME).make(check)
    return metric.to(pick_device(str(device)))


def _deep(spec: DeepSpec, check: Check) -> Metric:
    return DeepDistance(spec.backbone, spec.layers, spec.readout, check=check)
