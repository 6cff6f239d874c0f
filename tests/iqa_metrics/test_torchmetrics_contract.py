"""What torchmetrics asks of every metric, checked as its own tests do."""

import copy
import math
import pickle
from functools import cache
from typing import ClassVar

import matplotlib as mpl
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn
from torchmetrics import MetricCollection

from iqa_metrics import Metric, create_metric
from iqa_metrics.torchmetrics import ImageQuality

QUICK = [("default", "none"), ("ssim", "mean"), ("psnr", "sum")]
KINDS = [(name, how) for name in ("default", "ssim", "psnr") for how in ("mean", "sum", "none")]
CASES = [
    kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow, id="-".join(kind))
    for kind in KINDS
]


class Darkest(Metric):
    """A metric without a gradient."""

    name = "darkest"
    higher_is_better: ClassVar[bool] = False
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    differentiable: ClassVar[bool] = False
    smallest_input = 1
    source: ClassVar[str] = "this test"

    def compare(self, reference, distorted):
        return (reference - distorted).abs().flatten(1).amin(1)


@pytest.fixture(scope="module")
def batches():
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(2, n, 3, 40, 44, generator=generator) for n in (1, 3, 2)]


@pytest.fixture(scope="module")
def values(batches):
    metrics = {name: create_metric(name) for name in ("default", "ssim", "psnr")}
    return {name: [metric(y, x) for x, y in batches] for name, metric in metrics.items()}


@pytest.fixture(scope="module")
def made():
    return cache(lambda name, how: ImageQuality(name, reduction=how))


@pytest.fixture
def quality(kind, made):
    return made(*kind).clone()


def reduced(values, how):
    if how == "none":
        return values
    return values.double().sum() if how == "sum" else values.double().mean()


@pytest.mark.parametrize("kind", CASES, ids="-".join)
class TestEveryMetric:
    def test_batches_and_their_total(self, kind, quality, batches, values):
        expected = values[kind[0]]
        for (preds, target), of_batch in zip(batches, expected, strict=True):
            found = quality(preds, target)
            assert torch.allclose(found.double(), reduced(of_batch, kind[1]).double(), rtol=1e-6)
        total = reduced(torch.cat(expected), kind[1]).double()
        assert isinstance(quality.compute(), torch.Tensor)
        assert torch.allclose(quality.compute().double(), total, rtol=1e-6)
        assert quality.update_count == len(batches)

    def test_forward_and_update_agree(self, kind, quality, batches):
        twin = copy.deepcopy(quality)
        found = quality(*batches[1])
        twin.update(*batches[1])
        assert torch.equal(found, twin.compute())

    def test_reset_forgets(self, kind, quality, batches):
        quality.update(*batches[0])
        quality.reset()
        assert not quality.update_called
        quality.update(*batches[1])
        expected = made_and_updated(kind, batches[1])
        assert torch.equal(quality.compute(), expected.compute())

    def test_copies_go_on_from_where_they_were_made(self, kind, quality, batches):
        quality.update(*batches[0])
        copies = [quality.clone(), pickle.loads(pickle.dumps(quality))]  # noqa: S301
        for one in (quality, *copies):
            one.update(*batches[1])
        for one in copies:
            assert one is not quality
            assert type(one) is ImageQuality
            assert torch.equal(one.compute(), quality.compute())

    def test_facts_are_told_and_constant(self, kind, quality):
        metric = quality.metric
        assert quality.is_differentiable is metric.differentiable
        assert quality.higher_is_better is metric.higher_is_better
        assert quality.full_state_update is False
        for name in (
            *("is_differentiable", "higher_is_better", "full_state_update"),
            *("plot_lower_bound", "plot_upper_bound"),
        ):
            with pytest.raises(RuntimeError, match="Can't change const"):
                setattr(quality, name, not getattr(quality, name))

    def test_hash_repr_and_state_dict(self, kind, quality, batches):
        twin = quality.clone()
        assert hash(quality) != hash(twin)
        quality.update(*batches[0])
        assert hash(quality)
        assert len({quality, twin}) == 2
        assert quality.state_dict() == {}
        assert "ImageQuality" in repr(quality)
        assert f"reduction={kind[1]!r}" in repr(quality)
        assert quality.metric.name in repr(quality)

    def test_persistent_states_are_saved(self, kind, quality, batches):
        quality.persistent(True)
        quality.update(*batches[1])
        other = made_and_updated(kind, batches[0])
        other.load_state_dict(quality.state_dict())
        assert torch.equal(other.compute(), quality.compute())

    def test_half_precision_images(self, kind, quality, batches):
        preds, target = batches[1]
        found = quality(preds.half(), target.half())
        expected = quality.clone()(preds.half().float(), target.half().float())
        assert torch.allclose(found, expected, rtol=1e-6)

    def test_gradients_are_as_declared(self, kind, quality, batches):
        preds = batches[1][0].clone().requires_grad_()
        found = quality(preds, batches[1][1])
        assert found.requires_grad is quality.is_differentiable
        found.sum().backward()
        assert bool(torch.isfinite(preds.grad).all())

    def test_what_was_accumulated_is_not_converted(self, kind, quality, batches):
        """In half precision, the count of images would end at 2048."""
        quality.update(*batches[1])
        expected = quality.compute()
        for convert in (
            lambda m: m.half(),
            lambda m: m.set_dtype(torch.float16),
            lambda m: nn.ModuleList([m]).to(torch.bfloat16),
            lambda m: nn.ModuleList([m]).half(),
        ):
            convert(quality)
            assert torch.equal(quality.compute(), expected)
            assert quality.compute().dtype == expected.dtype
        again = made_and_updated(kind, batches[1])
        for metric in (quality, again):
            metric.update(*batches[2])
        assert torch.equal(quality.compute(), again.compute())

    def test_to_a_device(self, kind, quality, batches):
        quality.update(*batches[0])
        assert quality.to("cpu").device == torch.device("cpu")
        quality.to("meta")
        assert quality.device == torch.device("meta")
        state = quality.metric_state[quality._state]
        assert all(one.is_meta for one in ([state] if torch.is_tensor(state) else state))

    def test_plots(self, kind, quality, batches):
        mpl.use("agg")
        values = [quality(*batch) for batch in batches if len(batch[0]) == 3] * 2
        figure, axes = quality.plot()
        assert isinstance(figure, Figure)
        assert axes.get_ylabel() == quality.metric.name
        low, high = axes.get_ylim()
        bounded = kind[1] != "sum"
        for bound in quality.metric.range if bounded else ():
            assert not math.isfinite(bound) or low <= bound <= high
        assert quality.plot(values[0], ax=axes)[1] is axes
        figure, axes = quality.plot(values)
        assert len(axes.lines) == (3 if kind[1] == "none" else 1)
        assert axes.lines[0].get_xdata().tolist() == [0, 1]
        mpl.pyplot.close("all")


def made_and_updated(kind, batch):
    metric = ImageQuality(kind[0], reduction=kind[1])
    metric.update(*batch)
    return metric


def test_sums_take_no_more_memory_with_more_images(batches):
    quality = ImageQuality("psnr")
    sizes = []
    for batch in batches:
        quality.update(*batch)
        state = quality.metric_state[quality._state]
        sizes.append(state.untyped_storage().nbytes())
        assert not state.requires_grad
    assert set(sizes) == {16}


def test_a_metric_that_is_no_loss_gives_no_gradient(batches):
    quality = ImageQuality(Darkest())
    assert quality.is_differentiable is False
    preds = batches[1][0].clone().requires_grad_()
    assert not quality(preds, batches[1][1]).requires_grad


def test_a_collection_computes_resets_and_plots(batches, values):
    collection = MetricCollection({name: ImageQuality(name) for name in ("ssim", "psnr")})
    copies = [collection, collection.clone(prefix="test_"), pickle.loads(pickle.dumps(collection))]  # noqa: S301
    for one in copies:
        for batch in batches:
            one(*batch)
        for name, value in one.compute().items():
            expected = reduced(torch.cat(values[name.removeprefix("test_")]), "mean")
            assert float(value) == pytest.approx(float(expected), rel=1e-6)
    mpl.use("agg")
    assert len(collection.plot()) == 2
    assert isinstance(collection.plot(together=True)[0], Figure)
    mpl.pyplot.close("all")
    collection.reset()
    assert not any(metric.update_called for metric in collection.values())


def test_metrics_can_be_combined(batches):
    both = ImageQuality("ssim") + 2 * ImageQuality("psnr")
    both.update(*batches[1])
    parts = [made_and_updated((name, "mean"), batches[1]).compute() for name in ("ssim", "psnr")]
    assert float(both.compute()) == pytest.approx(float(parts[0] + 2 * parts[1]))


def test_infinite_values_can_be_plotted(batches):
    mpl.use("agg")
    quality = ImageQuality("psnr")
    quality.update(batches[0][0], batches[0][0])
    assert math.isinf(float(quality.compute()))
    figure, _ = quality.plot()
    assert isinstance(figure, Figure)
    mpl.pyplot.close("all")
