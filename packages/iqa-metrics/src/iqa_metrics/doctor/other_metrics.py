"""Mistakes in what is computed: another metric or variant, or another form of the value."""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from iqa_metrics.backbones import backbone
from iqa_metrics.doctor.hypotheses import Hypothesis, Measure
from iqa_metrics.doctor.other_ssim import OtherSSIM
from iqa_metrics.metrics import (
    DISTS,
    LPIPS,
    MSE,
    MSSSIM,
    PSNR,
    SSIM,
    Column,
    LayerTable,
    Metric,
)
from iqa_metrics.metrics.deep import DeepDistance
from iqa_metrics.metrics.lpips import NETS
from iqa_metrics.readouts import all_readouts, readout
from iqa_metrics.weights.files import WeightsError

_THIS_ONE = "use the same variant, and state which one"


def _one(
    name: str, tier: int, explanation: str, measure: Measure | str, remedy: str = _THIS_ONE
) -> Hypothesis:
    return Hypothesis(
        name=name,
        group="metric",
        tier=tier,
        explanation=explanation,
        remedy=remedy,
        measure=measure,
    )


def metric_mistakes(metric: Metric) -> Iterator[Hypothesis]:
    """Yield what may have been computed in place of a metric."""
    if isinstance(metric, LPIPS):
        yield from _of_lpips(metric)
    elif isinstance(metric, DISTS):
        if metric.resize:
            yield _one("dists", 1, "the images are not resized before DISTS", "dists")
    elif isinstance(metric, DeepDistance):
        yield from _of_deep(metric)
    elif isinstance(metric, SSIM):
        yield from _of_ssim(metric.name)
    elif isinstance(metric, MSSSIM):
        yield _one("ssim", 1, "SSIM is computed, at one scale", "ssim")
    elif isinstance(metric, PSNR):
        yield from _of_psnr()
    elif isinstance(metric, MSE):
        yield from _of_mse()


def _of_lpips(metric: LPIPS) -> Iterator[Hypothesis]:
    networks = {"alex": "AlexNet", "vgg": "VGG-16", "squeeze": "SqueezeNet"}
    own = metric.name.removesuffix("_baseline")
    baseline = _in_its_network(metric, [(name, "lpips") for name in metric.layers]).sum()
    for net in NETS:
        for spec, how, tier in (
            (f"lpips_{net}", "calibrated", 1),
            (f"lpips_{net}_baseline", "uncalibrated (lpips=False, the baseline)", 2),
        ):
            measure: Measure | str = spec
            if spec == metric.name:
                continue
            if spec == f"{own}_baseline":  # in the same network
                tier, measure = 1, baseline
            yield _one(
                spec,
                tier,
                f"LPIPS in {networks[net]}, {how}",
                measure,
                f"compare with -m {spec}, or make the other program use {metric.name}",
            )


class _Table:
    """Columns of a table, which are computed together: one pass gives all of a pair.

    Parameters
    ----------
    table
        The table.
    """

    def __init__(self, table: LayerTable) -> None:
        self._table = table
        self._last: tuple[Tensor, Tensor, Tensor] | None = None

    def values(self, reference: Tensor, distorted: Tensor) -> Tensor:
        """Return ``[N, K]``."""
        if self._last is None or self._last[0] is not reference or self._last[1] is not distorted:
            self._last = reference, distorted, self._table(reference, distorted)
        return self._last[2]

    def column(self, number: int) -> Measure:
        """Return a function of a pair to the values of a column, ``[N]``."""
        return lambda x, y: self.values(x, y)[:, number]

    def sum(self) -> Measure:
        """Return a function of a pair to the sum of all columns, ``[N]``."""
        return lambda x, y: self.values(x, y).sum(dim=1)


def _in_its_network(metric: DeepDistance, columns: Sequence[tuple[str, str]]) -> _Table:
    """Return a table of (layer, readout) columns that are read in a metric's own network."""
    made = [Column(layer, readout(name)) for layer, name in columns]
    return _Table(LayerTable(metric.table.name, made, extractor=metric.extractor, check="off"))


def _of_deep(metric: DeepDistance) -> Iterator[Hypothesis]:
    if len(metric.layers) > 1 or metric.readout.weighted:
        return
    (layer,), own = metric.layers, metric.readout.name
    names = [
        one.name
        for one in all_readouts()
        if one.name != own and not one.weighted and not one.per_channel
    ]
    table = _in_its_network(metric, [(layer, name) for name in names])
    for number, name in enumerate(names):
        yield _one(f"readout_{name}", 2, f"the readout is {name}", table.column(number))
    record = backbone(metric.table.name)
    others = [one.name for one in record.layers if one.name != layer]
    try:
        columns = [Column(name, metric.readout) for name in others]
        table = _Table(LayerTable(record, columns, unreached="nan", check="off"))
    except WeightsError:
        return  # the metric has a network of the caller's
    for number, name in enumerate(others):
        yield _one(f"layer_{name}", 3, f"the layer is {name}", table.column(number))


def _of_ssim(name: str) -> Iterator[Hypothesis]:
    say = "use the same window, covariance and borders, and state them"
    if name != "ssim":
        yield _one("ssim", 1, "the Gaussian window of the paper (11x11)", "ssim", say)
    if name != "ssim_skimage":
        yield _one(
            "ssim_skimage",
            1,
            "scikit-image's default: a uniform 7x7 window with the sample covariance",
            "ssim_skimage",
            "pass gaussian_weights=True, sigma=1.5, use_sample_covariance=False",
        )
    for key, tier, what, other in (
        (
            "ssim_sample_covariance",
            2,
            "the Gaussian window with the sample covariance (scikit-image without "
            "use_sample_covariance=False)",
            OtherSSIM(sample=True),
        ),
        ("ssim_uniform_population", 2, "a uniform 7x7 window", OtherSSIM(7, None)),
        ("ssim_uniform_8", 3, "a uniform 8x8 window", OtherSSIM(8, None)),
        ("ssim_uniform_11", 3, "a uniform 11x11 window", OtherSSIM(11, None)),
        ("ssim_gaussian_7", 3, "a Gaussian window of 7x7", OtherSSIM(7)),
        ("ssim_gaussian_5", 3, "a Gaussian window of 5x5", OtherSSIM(5)),
        (
            "ssim_zero_padded",
            1,
            "windows reach beyond the image, where there are zeros (as in pytorch-ssim)",
            OtherSSIM(padding="constant"),
        ),
        (
            "ssim_reflected",
            2,
            "windows reach beyond the image, which is reflected there (as in kornia)",
            OtherSSIM(padding="reflect"),
        ),
        (
            "ssim_downsampled",
            1,
            "the images are first averaged and subsampled to about 256 pixels (as in the "
            "authors' ssim.m)",
            OtherSSIM(halved=True),
        ),
    ):
        yield _one(key, tier, what, other, say)
    yield _one("ms_ssim", 2, "MS-SSIM is computed, at five scales", "ms_ssim")


def _of_psnr() -> Iterator[Hypothesis]:
    yield _one(
        "psnr_wrapped_integers",
        1,
        "differences of 8-bit integers wrap around at 256",
        lambda x, y: -10 * torch.log10(_wrapped(x, y)),
        "convert to float before subtracting",
    )
    yield _one(
        "psnr_mean_of_channels",
        2,
        "the PSNRs of the channels are averaged, and not their errors",
        lambda x, y: (-10 * torch.log10((x - y).double().square().mean(dim=(2, 3)))).mean(dim=1),
        "take the logarithm of the mean squared error over all channels",
    )


def _of_mse() -> Iterator[Hypothesis]:
    yield _one(
        "mse_wrapped_integers",
        1,
        "differences of 8-bit integers wrap around at 256",
        lambda x, y: _wrapped(x, y) * 255**2,
        "convert to float before subtracting",
    )
    yield _one(
        "mean_absolute_error",
        2,
        "differences are not squared",
        lambda x, y: (x - y).double().abs().mean(dim=(1, 2, 3)),
        "square the differences",
    )


def _wrapped(reference: Tensor, distorted: Tensor) -> Tensor:
    """Return the mean of the squares that uint8 leaves of 8-bit differences, over 255 squared."""
    x, y = (
        (255 * images).round().clamp(0, 255).to(torch.int64) for images in (reference, distorted)
    )
    return ((x - y) ** 2 % 256).double().mean(dim=(1, 2, 3)) / 255**2


def value_mistakes(metric: Metric) -> Iterator[Hypothesis]:
    """Yield other forms of the metric's value."""
    deep = isinstance(metric, DeepDistance | DISTS)
    similarity = isinstance(metric, SSIM | MSSSIM)
    forms: list[tuple[str, int, str, Callable[[float], float]]] = []
    if similarity:
        forms += [
            ("one_minus", 1, "1 - value, a loss", lambda v: 1 - v),
            ("half_of_one_minus", 1, "(1 - value) / 2, a loss", lambda v: (1 - v) / 2),
        ]
    else:
        forms += [
            ("one_minus", 2 if isinstance(metric, DISTS) else 3, "1 - value", lambda v: 1 - v)
        ]
    forms += [
        ("times_100", 1 if similarity or deep else 2, "the value times 100", lambda v: 100 * v),
        ("negative", 2, "the value with the other sign", lambda v: -v),
    ]
    if isinstance(metric, MSE):
        forms += [
            ("root", 1, "its square root, the RMSE", _root),
            (
                "root_255",
                1,
                "its square root, the RMSE, of images in 0-255",
                lambda v: 255 * _root(v),
            ),
            ("times_3", 2, "the sum over the channels, not their mean", lambda v: 3 * v),
        ]
    elif isinstance(metric, PSNR):
        forms += [
            ("doubled", 3, "20 log10 of the squared error's inverse", lambda v: 2 * v),
            ("natural_logarithm", 3, "ln in place of log10", lambda v: v * math.log(10)),
        ]
    elif deep:
        forms += [
            ("root", 2, "its square root", _root),
            ("squared", 2, "its square", lambda v: v * v),
        ]
        layers = len(metric.layers) if isinstance(metric, LPIPS) else 1
        if layers > 1:
            forms.append(
                (
                    "mean_of_layers",
                    2,
                    "the mean over the layers, not their sum",
                    lambda v: v / layers,
                )
            )
    for name, tier, what, value in forms:
        yield Hypothesis(
            name=f"value_{name}",
            group="value",
            tier=tier,
            explanation=f"what is reported is {what}",
            remedy="report the metric's own value",
            value=value,
        )


def _root(value: float) -> float:
    return math.sqrt(value) if value >= 0 else math.nan
