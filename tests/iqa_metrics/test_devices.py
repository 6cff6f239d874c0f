"""Which device is chosen, and what is computed elsewhere on one without float64.

No machine with ``mps`` has run these: another device stands in for it.
"""

import contextlib
import warnings

import pytest
import torch
from seeded import trunk
from typer.testing import CliRunner
from without_float64 import KIND, There, device

from iqa_metrics import (
    DISTS,
    Column,
    DeepDistance,
    ImageError,
    LayerTable,
    create_metric,
    pick_device,
)
from iqa_metrics import torchmetrics as adapter
from iqa_metrics.cli import app
from iqa_metrics.compute import devices, pair_module
from iqa_metrics.readouts import READOUTS
from iqa_metrics.readouts.quantities import CHANNEL_SQUARES
from iqa_metrics.torchmetrics import ImageQuality


@pytest.fixture
def has(monkeypatch):
    def has(cuda=False, mps=False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: int(cuda))
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        # Old versions of torch say no.
        monkeypatch.setattr(torch.amp, "is_autocast_available", lambda kind: True)

    return has


@pytest.fixture
def stand_in(monkeypatch):
    """A device in the place of mps, which has not warned yet."""
    autocast = torch.autocast

    def autocast_there(kind, **options):
        return contextlib.nullcontext() if kind == KIND else autocast(kind, **options)

    monkeypatch.setattr(torch, "autocast", autocast_there)
    monkeypatch.setattr(devices, "lacks_float64", lambda home: home.type == KIND)
    for module in (pair_module, adapter):
        monkeypatch.setattr(module, "lacks_float64", devices.lacks_float64)
    devices._warn_once.cache_clear()
    with device(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=f"device {KIND} has no float64")
        yield
    devices._warn_once.cache_clear()


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    reference = torch.rand(1, 3, 64, 72, generator=generator)
    return reference, torch.rand(2, 3, 64, 72, generator=generator)


def there(images):
    return [image.to(KIND) for image in images]


def test_auto_takes_cuda_then_mps_then_the_cpu(has):
    for cuda, mps, expected in (
        (True, True, "cuda"),
        (True, False, "cuda"),
        (False, True, "mps"),
        (False, False, "cpu"),
    ):
        has(cuda, mps)
        assert pick_device() == torch.device(expected)


def test_devices_by_name(has):
    has(cuda=True, mps=True)
    for name in ("cpu", "cuda", "cuda:0", "mps"):
        assert pick_device(name) == torch.device(name)
    for name in ("gpu", "mps:x", "mps:1", "cpu:0", "cuda:", "cuda:one"):
        with pytest.raises(ValueError, match="expected auto, cpu, cuda, cuda:N or mps"):
            pick_device(name)
    with pytest.raises(ValueError, match="torch sees 1 GPUs"):
        pick_device("cuda:1")


def test_mps_that_is_not_there_is_refused(has, monkeypatch, tmp_path):
    has()
    with pytest.raises(ValueError, match="there is no device 'mps'"):
        create_metric("psnr", device="mps")
    has(mps=True)
    monkeypatch.setattr(torch.amp, "is_autocast_available", lambda kind: kind != "mps")
    assert pick_device() == torch.device("cpu")
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("reference,distorted\na.png,b.png\n")
    command = ["score", "--pairs", str(pairs), "--out", str(tmp_path / "s.csv"), "--device", "mps"]
    answer = CliRunner().invoke(app, command)
    assert answer.exit_code != 0
    assert "there is no device 'mps'" in answer.output


def test_the_stand_in_is_as_strict_as_mps(stand_in):
    tensor = torch.rand(3).to(KIND)
    assert tensor.device.type == KIND
    with pytest.raises(TypeError, match="float64"):
        tensor.double()
    with pytest.raises(RuntimeError, match="on this device"):
        tensor + torch.rand(3)


@pytest.mark.parametrize("name", ["mse", "psnr", "ssim", "ssim_skimage"])
def test_metrics_without_a_network_come_to_the_cpu(name, stand_in, images):
    metric = create_metric(name).to(KIND)
    values = metric(*there(images))
    assert isinstance(values, There)
    assert torch.equal(values.cpu(), metric(*images))
    with metric.reference(there(images)[0]) as shared:
        assert torch.equal(shared.score(there(images)[1]).cpu(), metric(*images))
    if metric.has_map:
        found = metric(*there(images), map=True)
        assert torch.equal(found.cpu(), metric(*images, map=True))


def test_networks_run_there_and_their_sums_on_the_cpu(stand_in, images):
    columns = [Column("stem", one) for one in READOUTS if not one.weighted]
    columns.append(Column("stem", CHANNEL_SQUARES))
    expected = LayerTable("efficientnet_lite0", columns)(*images)
    table = LayerTable("efficientnet_lite0", columns).to(KIND)
    assert {tensor.device.type for tensor in table.held()} == {KIND}
    found = table(*there(images))
    assert isinstance(found, There)
    assert torch.allclose(found.cpu().double(), expected.double(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: create_metric("default"),
        lambda: DeepDistance(
            *("efficientnet_lite0", "stem", "weighted_lpips"),
            channel_weights={"stem": [float(n % 5) for n in range(32)]},
        ),
        lambda: DISTS(trunk=trunk("vgg16")),
    ],
    ids=["default", "weighted", "dists"],
)
def test_deep_metrics(make, stand_in, images):
    metric = make()
    expected = metric(*images)
    metric.to(KIND)
    values = metric(*there(images))
    assert isinstance(values, There)
    assert torch.allclose(values.cpu(), expected, rtol=1e-5)
    with metric.reference(there(images)[0]) as shared:
        assert torch.allclose(shared.score(there(images)[1]).cpu(), expected, rtol=1e-5)
    reference, distorted = there(images)
    distorted.requires_grad_()
    metric(reference, distorted).sum().backward()
    assert distorted.grad.device.type == KIND
    assert float(distorted.grad.abs().sum()) > 0


def test_one_warning_says_so(stand_in, images):
    devices._warn_once.cache_clear()
    with pytest.warns(UserWarning, match="no float64: networks run on it") as caught:
        _ = [create_metric(name)(*there(images)) for name in ("psnr", "ssim", "psnr")]
    assert len(caught) == 1


def test_wrong_images_are_refused_there(stand_in, images):
    metric = create_metric("psnr")
    with pytest.raises(ImageError, match=r"\(x \+ 1\) / 2"):
        metric(*there([image * 2 - 1 for image in images]))


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_the_adapter_moves_there_and_back(reduction, stand_in, images):
    quality, plain = (ImageQuality("ssim", reduction=reduction) for _ in range(2))
    quality.update(images[1], images[0].expand_as(images[1]))
    quality.to(KIND)
    here = there([images[1], images[0].expand_as(images[1])])
    quality.update(*here)
    for _ in range(2):
        plain.update(images[1], images[0].expand_as(images[1]))
    assert torch.allclose(quality.compute().cpu().double(), plain.compute().double(), rtol=1e-6)
    quality.to("cpu")
    quality.reset()
    quality.update(images[1], images[0].expand_as(images[1]))
    assert quality.compute().device.type == "cpu"
