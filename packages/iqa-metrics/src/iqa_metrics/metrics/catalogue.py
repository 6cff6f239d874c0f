"""The metrics that have names, and the way from a spec to a metric."""

from pathlib import Path

import torch

from iqa_metrics.backbones import backbone
from iqa_metrics.compute.devices import pick_device
from iqa_metrics.compute.memory import Memory
from iqa_metrics.compute.pair_module import Check, Precision
from iqa_metrics.io.conventions import Space
from iqa_metrics.metrics import dists, lpips
from iqa_metrics.metrics.columns import LayerWeights
from iqa_metrics.metrics.contract import Metric
from iqa_metrics.metrics.deep import DeepDistance
from iqa_metrics.metrics.dists import DISTS
from iqa_metrics.metrics.lpips import LPIPS
from iqa_metrics.metrics.perceptnet import PerceptNet
from iqa_metrics.metrics.pixel import MSE, MSSSIM, PSNR, SSIM
from iqa_metrics.metrics.record import MetricRecord, Needs, check_made, check_record
from iqa_metrics.metrics.specs import DeepSpec, MetricSpec, NamedSpec, deep_spec
from iqa_metrics.metrics.specs import parse_spec as _parse_spec
from iqa_metrics.registry import Registry

DEFAULT = DeepSpec("efficientnet_lite0", ("block14",), "rmse")
"""The default metric; docs/default_metric.md shows the measurements behind the choice."""


def _lpips(
    net: lpips.Net, network: str, smallest_input: int, aliases: tuple[str, ...] = ()
) -> tuple[MetricRecord, MetricRecord]:
    name, trunk = f"lpips_{net}", lpips.BACKBONES[net]
    return (
        MetricRecord(
            name=name,
            metric=LPIPS,
            summary=f"LPIPS v0.1 in {network}",
            make=lambda check, weights, calibration: LPIPS(
                net, weights=weights, calibration=calibration, check=check
            ),
            needs=Needs(trunk, lpips.CALIBRATIONS[net]),
            smallest_input=smallest_input,
            has_map=True,
            aliases=aliases,
        ),
        MetricRecord(
            name=f"{name}_baseline",
            metric=LPIPS,
            summary=f"LPIPS in {network}, uncalibrated",
            make=lambda check, weights, _: LPIPS(
                net, calibrated=False, weights=weights, check=check
            ),
            needs=Needs(trunk),
            stands_for=DeepSpec(trunk, lpips.LAYERS[net], "lpips", "sum"),
            smallest_input=smallest_input,
            has_map=True,
        ),
    )


def _dists(name: str, resize: bool, summary: str) -> MetricRecord:
    return MetricRecord(
        name=name,
        metric=DISTS,
        summary=summary,
        make=lambda check, weights, calibration: DISTS(
            resize=resize, weights=weights, calibration=calibration, check=check
        ),
        needs=Needs(dists.BACKBONE, dists.CALIBRATION),
    )


METRICS: tuple[MetricRecord, ...] = (
    MetricRecord(
        name="default",
        metric=DeepDistance,
        summary="deep distance in EfficientNet-Lite0, its weights embedded",
        make=lambda check, weights, _: _deep(DEFAULT, check, weights),
        needs=Needs(DEFAULT.backbone),
        stands_for=DEFAULT,
        smallest_input=32,
        has_map=True,
    ),
    MetricRecord(name="mse", metric=MSE, summary="mean squared error"),
    MetricRecord(name="psnr", metric=PSNR, summary="peak signal-to-noise ratio, in decibels"),
    MetricRecord(
        name="ssim",
        metric=SSIM,
        summary="structural similarity, Gaussian window of the paper",
        smallest_input=11,
    ),
    MetricRecord(
        name="ssim_skimage",
        metric=SSIM,
        summary="structural similarity with scikit-image's default window",
        make=lambda check, *_: SSIM("uniform", check=check),
        smallest_input=7,
    ),
    MetricRecord(name="ms_ssim", metric=MSSSIM, summary="structural similarity at five scales"),
    # The authors' own default.
    *_lpips("alex", "AlexNet", smallest_input=31, aliases=("lpips",)),
    *_lpips("vgg", "VGG-16", smallest_input=16),
    *_lpips("squeeze", "SqueezeNet 1.1", smallest_input=17),
    _dists("dists", False, "structure and texture in VGG-16"),
    _dists("dists_resized", True, "the same, the shorter side first brought to 256 pixels"),
    MetricRecord(
        name="perceptnet",
        metric=PerceptNet,
        summary="a network after early human vision, trained on opinions",
        make=lambda check, weights, _: PerceptNet(weights=weights, check=check),
        needs=Needs("perceptnet"),
        stands_for=DeepSpec("perceptnet", ("gdn4",), "rmse"),
        smallest_input=14,
        has_map=True,
        tuned=True,
    ),
)
"""The built-in metrics; :func:`all_metrics` returns those that are registered, too."""

REGISTRY: Registry[MetricRecord] = Registry(
    "metric",
    MetricRecord,
    METRICS,
    name=lambda record: record.name,
    check=check_record,
    aliases=lambda record: record.aliases,
)


def all_metrics() -> tuple[MetricRecord, ...]:
    """Return :data:`METRICS` and the metrics that are registered."""
    return REGISTRY.all()


def metric_record(name: str) -> MetricRecord:
    """Return the record of a metric that has a name, found by that name or an alias.

    Raises
    ------
    UnknownNameError
        If there is none; the message gives the nearest names.
    """
    return REGISTRY.get(name)


def parse_spec(text: str) -> MetricSpec:
    """Parse a metric spec; ``str()`` of the result is the spec again.

    Raises
    ------
    UnknownNameError
        If it does not parse or holds an unknown name. The message gives the nearest names.
    """
    networks = dict.fromkeys(record.needs.backbone for record in METRICS)
    return _parse_spec(text, REGISTRY, [name for name in networks if name is not None])


def resolve(spec: MetricSpec | str) -> MetricSpec:
    """Return what a spec stands for: ``default`` becomes the deep distance that it names.

    Raises
    ------
    UnknownNameError
        If the spec names nothing.
    """
    checked = _checked(spec)
    if isinstance(checked, NamedSpec):
        return _checked(metric_record(checked.name).stands_for or checked)
    return checked


def needs(spec: MetricSpec | str) -> Needs:
    """Return the files that the metric of a spec is made from. Raises UnknownNameError."""
    checked = _checked(spec)
    if isinstance(checked, DeepSpec):
        return Needs(checked.backbone)
    return metric_record(checked.name).needs


def create_metric(
    spec: MetricSpec | str,
    *,
    device: str | torch.device = "cpu",
    check: Check = "error",
    weights: str | Path | None = None,
    calibration: str | Path | None = None,
    channel_weights: LayerWeights | None = None,
    memory: Memory = None,
    precision: Precision | None = None,
    compile: bool | None = None,
    space: Space | None = None,
    border: int | None = None,
    peak: float | None = None,
) -> Metric:
    """Make the metric that a spec names.

    Parameters
    ----------
    spec
        Such as ``"default"``, ``"ssim"`` or ``"efficientnet_lite0:block12:euclidean"``.
    device
        ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; see :func:`iqa_metrics.pick_device`.
    check
        As for :class:`Metric`.
    weights, calibration
        Files for the metric's network and calibration, whose content the caller has checked; by
        default the published ones. :func:`needs` says which a metric has.
    channel_weights
        For a spec whose readout weighs channels: names of its layers to weights ``[C]``.
    memory, precision, compile
        How it computes; see :meth:`Metric.configure`.
    space, border, peak
        What is compared of the images; see :class:`Conventions`.

    Raises
    ------
    UnknownNameError
        If the spec names nothing.
    ValueError
        If an option is none of those that it can be, a file or weights are given that the metric
        does not take, or weights of channels are missing.
    WeightsError
        If the network's weights are missing or damaged.
    """
    chosen = _checked(spec)
    needed = needs(chosen)
    for name, given, taken in (
        ("weights", weights, needed.backbone),
        ("calibration", calibration, needed.calibration),
        ("channel_weights", channel_weights, isinstance(chosen, DeepSpec)),
    ):
        if given is not None and not taken:
            raise ValueError(f"{name}: metric {str(chosen)!r} takes none")
    paths = [None if path is None else Path(path) for path in (weights, calibration)]
    if isinstance(chosen, DeepSpec):
        metric = _deep(chosen, check, paths[0], channel_weights)
    else:
        record = metric_record(chosen.name)
        metric = check_made(record, record.make(check, *paths))
    metric.configure(
        memory=memory, precision=precision, compile=compile, space=space, border=border, peak=peak
    )
    return metric.to(pick_device(str(device)))


def _checked(spec: MetricSpec | str) -> MetricSpec:
    """Return a spec in its one form, whether it came as text or was put together by hand."""
    if not isinstance(spec, NamedSpec | DeepSpec):
        return parse_spec(spec)
    if isinstance(spec, NamedSpec):
        return NamedSpec(metric_record(spec.name).name)
    return deep_spec(
        backbone(spec.backbone),
        [spec.layers] if isinstance(spec.layers, str) else spec.layers,
        spec.readout,
        spec.concatenation,
        spec.layer_weights,
    )


def _deep(
    spec: DeepSpec, check: Check, weights: Path | None, channels: LayerWeights | None = None
) -> Metric:
    return DeepDistance(
        spec.backbone,
        spec.layers,
        spec.readout,
        concatenation=spec.concatenation,
        layer_weights=spec.layer_weights,
        channel_weights=channels,
        weights=weights,
        check=check,
    )
