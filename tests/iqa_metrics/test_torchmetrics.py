"""The torchmetrics adapter: accumulation over batches and processes."""

import copy
import socket

import pytest
import torch
from processes import accumulate, batch
from torch import multiprocessing
from torchmetrics import MetricCollection

from iqa_metrics import DeepDistance, ImageError, UnknownNameError, create_metric
from iqa_metrics.torchmetrics import ImageQuality


@pytest.fixture
def batches():
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(2, n, 3, 40, 44, generator=generator) for n in (1, 3, 2)]


@pytest.mark.parametrize("name", ["default", "ssim", "psnr"])
def test_every_image_counts_once(name, batches):
    values = torch.cat([create_metric(name)(y, x) for x, y in batches])
    mean, total, each = (ImageQuality(name, reduction=r) for r in ("mean", "sum", "none"))
    for metric in (mean, total, each):
        for preds, target in batches:
            metric.update(preds, target)
        assert metric.higher_is_better == (name != "default")
    assert float(mean.compute()) == pytest.approx(float(values.double().mean()), rel=1e-7)
    assert float(total.compute()) == pytest.approx(float(values.double().sum()), rel=1e-7)
    assert torch.equal(each.compute(), values)


def test_forward_returns_the_batch_and_reset_forgets(batches):
    metric = ImageQuality("ssim")
    preds, target = batches[1]
    for _ in range(2):
        value = metric(preds, target)
        assert float(value) == pytest.approx(float(create_metric("ssim")(target, preds).mean()))
    metric.reset()
    with pytest.warns(UserWarning, match="before the ``update``"):
        assert torch.isnan(metric.compute())
    none = ImageQuality("ssim", reduction="none")
    with pytest.warns(UserWarning, match="before the ``update``"):
        assert none.compute().shape == (0,)


def test_a_batch_can_be_a_loss(batches):
    preds, target = batches[1]
    preds.requires_grad_()
    ImageQuality("ssim")(preds, target).backward()
    assert float(preds.grad.abs().max()) > 0


def test_metrics_of_a_collection_stay_apart(batches):
    """Even if the first batch gives both the same value, here 0 for identical images."""
    collection = MetricCollection({"mse": ImageQuality("mse"), "default": ImageQuality("default")})
    preds, target = batches[0]
    collection.update(target, target)
    collection.update(preds, target)
    values = collection.compute()
    for name in ("mse", "default"):
        expected = float(create_metric(name)(target, preds)) / 2
        assert float(values[name]) == pytest.approx(expected, rel=1e-6)


def test_metrics_of_the_same_name_stay_apart_as_well(batches):
    """Such as one readout with two sets of channel weights."""
    single, double = (
        DeepDistance(
            *("efficientnet_lite0", "stem", "weighted_euclidean"),
            channel_weights={"stem": [factor] * 32},
        )
        for factor in (1.0, 4.0)
    )
    collection = MetricCollection({"plain": ImageQuality(single), "twice": ImageQuality(double)})
    preds, target = batches[0]
    collection.update(target, target)
    collection.update(preds, target)
    values = collection.compute()
    assert float(values["twice"]) == pytest.approx(2 * float(values["plain"]), rel=1e-6)
    assert ImageQuality("ssim").plot_upper_bound == 1
    assert ImageQuality("psnr").plot_upper_bound is None


def test_it_can_be_copied_and_takes_a_metric_object(batches):
    own = create_metric("efficientnet_lite0:stem:rmse", check="off")
    metric = ImageQuality(own)
    preds, target = batches[0]
    twin = copy.deepcopy(metric)
    assert torch.equal(twin(preds, target), metric(preds, target))
    assert metric.metric is own


def test_wrong_use_is_refused(batches):
    with pytest.raises(UnknownNameError, match="did you mean 'ssim'"):
        ImageQuality("ssmi")
    with pytest.raises(ValueError, match="expected one of mean, sum, none"):
        ImageQuality("ssim", reduction="median")
    metric = ImageQuality("ssim")
    with pytest.raises(ImageError, match="divide by 255"):
        metric.update(255 * batches[0][0], batches[0][1])
    assert torch.isnan(metric.compute())  # the refused batch left nothing


@pytest.mark.slow
def test_values_of_processes_are_combined():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with multiprocessing.Manager() as manager:
        found = manager.dict()
        multiprocessing.spawn(accumulate, args=(port, found), nprocs=2)
        results = dict(found)
    of_rank = []
    for rank in range(2):
        preds, target = batch(rank)
        of_rank.append(create_metric("ssim")(target, preds).tolist())
    values = [*of_rank[0], *of_rank[1]]
    for rank, result in results.items():
        assert result["each"] == pytest.approx(values, rel=1e-6)
        for name in ("mean", "step", "after the step"):
            assert result[name] == pytest.approx(sum(values) / 3, rel=1e-6), name
        assert result["alone"] == pytest.approx(sum(of_rank[rank]) / (rank + 1), rel=1e-6)
        assert result["not synced any more"] == rank + 1


def test_other_conventions_never_share_a_compute_group(pair):
    options = {"plain": {}, "luma": {"space": "y"}, "inside": {"border": 8}}
    made = {name: ImageQuality(create_metric("ssim", **o)) for name, o in options.items()}
    collection = MetricCollection(made)
    x, y = (image[..., :64, :64] for image in pair)
    collection.update(x, x)  # all of them are 1
    collection.update(y, x)
    values = collection.compute()
    assert len(collection.compute_groups) == len({float(v) for v in values.values()}) == 3
