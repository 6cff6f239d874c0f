"""The metrics that have names, and the way from a spec to a metric."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from iqa_metrics.backbones import backbone
from iqa_metrics.compute.devices import pick_device
from iqa_metrics.compute.memory import Memory
from iqa_metrics.compute.pair_module import Check, Precision
from iqa_metrics.metrics import dists, lpips
from iqa_metrics.metrics.contract import Metric
from iqa_metrics.metrics.deep import DeepDistance
from iqa_metrics.metrics.dists import DISTS
from iqa_metrics.metrics.layer_table import LayerWeights
from iqa_metrics.metrics.lpips import LPIPS
from iqa_metrics.metrics.perceptnet import PerceptNet
from iqa_metrics.metrics.pixel import MSE, MSSSIM, PSNR, SSIM
from iqa_metrics.metrics.specs import DeepSpec, MetricSpec, NamedSpec, deep_spec
from iqa_metrics.metrics.specs import parse_spec as _parse_spec
from iqa_metrics.names import lookup
from iqa_metrics.weights.files import WeightsFile

DEFAULT = DeepSpec("efficientnet_lite0", ("block14",), "rmse")
"""The default metric; docs/default_metric.md shows the measurements behind the choice."""


@dataclass(frozen=True)
class Needs:
    """The files that a metric is made from.

    Attributes
    ----------
    backbone
        Name of the network under it, or None.
    calibration
        Its calibration, or None.
    """

    backbone: str | None = None
    calibration: WeightsFile | None = None

    @property
    def files(self) -> tuple[WeightsFile, ...]:
        """The published files."""
        of_trunk = None if self.backbone is None else backbone(self.backbone).weights
        trunk = () if of_trunk is None else (of_trunk,)
        return trunk if self.calibration is None else (*trunk, self.calibration)


@dataclass(frozen=True)
class MetricRecord:
    """A metric that has a name.

    Attributes
    ----------
    name
        Its spec.
    metric
        Its class, which declares direction, range and source.
    make
        Makes it, given ``check`` and, for those that need them, files with the trunk's weights and
        the calibration (None: the published ones).
    summary
        One line for listings.
    needs
        The files that it is made from.
    stands_for
        The deep distance that the name abbreviates, or None.
    """

    name: str
    metric: type[Metric]
    make: Callable[[Check, Path | None, Path | None], Metric]
    summary: str
    needs: Needs = Needs()
    stands_for: DeepSpec | None = None


def _lpips(net: lpips.Net, network: str) -> tuple[MetricRecord, MetricRecord]:
    name, trunk = f"lpips_{net}", lpips.BACKBONES[net]
    return (
        MetricRecord(
            name,
            LPIPS,
            lambda check, weights, calibration: LPIPS(
                net, weights=weights, calibration=calibration, check=check
            ),
            f"LPIPS v0.1 in {network}",
            Needs(trunk, lpips.CALIBRATIONS[net]),
        ),
        MetricRecord(
            f"{name}_baseline",
            LPIPS,
            lambda check, weights, _: LPIPS(net, calibrated=False, weights=weights, check=check),
            f"LPIPS in {network}, uncalibrated",
            Needs(trunk),
            DeepSpec(trunk, lpips.LAYERS[net], "lpips", "sum"),
        ),
    )


def _dists(name: str, resize: bool, summary: str) -> MetricRecord:
    return MetricRecord(
        name,
        DISTS,
        lambda check, weights, calibration: DISTS(
            resize=resize, weights=weights, calibration=calibration, check=check
        ),
        summary,
        Needs(dists.BACKBONE, dists.CALIBRATION),
    )


METRICS: tuple[MetricRecord, ...] = (
    MetricRecord(
        "default",
        DeepDistance,
        lambda check, weights, _: _deep(DEFAULT, check, weights),
        "deep distance in EfficientNet-Lite0, its weights embedded",
        Needs(DEFAULT.backbone),
        DEFAULT,
    ),
    MetricRecord("mse", MSE, lambda check, *_: MSE(check=check), "mean squared error"),
    MetricRecord(
        "psnr",
        PSNR,
        lambda check, *_: PSNR(check=check),
        "peak signal-to-noise ratio, in decibel",
    ),
    MetricRecord(
        "ssim",
        SSIM,
        lambda check, *_: SSIM(check=check),
        "structural similarity, Gaussian window of the paper",
    ),
    MetricRecord(
        "ssim_skimage",
        SSIM,
        lambda check, *_: SSIM("uniform", check=check),
        "structural similarity with scikit-image's default window",
    ),
    MetricRecord(
        "ms_ssim",
        MSSSIM,
        lambda check, *_: MSSSIM(check=check),
        "structural similarity at five scales",
    ),
    *_lpips("alex", "AlexNet"),
    *_lpips("vgg", "VGG-16"),
    *_lpips("squeeze", "SqueezeNet 1.1"),
    _dists("dists", False, "structure and texture in VGG-16"),
    _dists("dists_resized", True, "the same, the shorter side first brought to 256 pixels"),
    MetricRecord(
        "perceptnet",
        PerceptNet,
        lambda check, weights, _: PerceptNet(weights=weights, check=check),
        "a network after early human vision, trained on opinions",
        Needs("perceptnet"),
        DeepSpec("perceptnet", ("gdn4",), "rmse"),
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
    """Return what a spec stands for: ``default`` becomes the deep distance that it names.

    Raises
    ------
    UnknownNameError
        If the spec names nothing.
    """
    checked = _checked(spec)
    if isinstance(checked, NamedSpec):
        return _checked(_BY_NAME[checked.name].stands_for or checked)
    return checked


def needs(spec: MetricSpec | str) -> Needs:
    """Return the files that the metric of a spec is made from. Raises UnknownNameError."""
    checked = _checked(spec)
    if isinstance(checked, DeepSpec):
        return Needs(checked.backbone)
    return _BY_NAME[checked.name].needs


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
    weights, calibration
        Files for the metric's network and calibration, whose content the caller has checked; by
        default the published ones. :func:`needs` says which a metric has.
    channel_weights
        For a spec whose readout weighs channels: names of its layers to weights ``[C]``.
    memory, precision, compile
        How it computes; see :meth:`Metric.configure`.

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
        metric = _BY_NAME[chosen.name].make(check, *paths)
    metric.configure(memory=memory, precision=precision, compile=compile)
    return metric.to(pick_device(str(device)))


def _checked(spec: MetricSpec | str) -> MetricSpec:
    """Return a spec in its one form, whether it came as text or was put together by hand."""
    if not isinstance(spec, NamedSpec | DeepSpec):
        return parse_spec(spec)
    if isinstance(spec, NamedSpec):
        return NamedSpec(lookup("metric", spec.name, _BY_NAME).name)
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
