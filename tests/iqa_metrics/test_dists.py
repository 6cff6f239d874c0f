"""DISTS against the authors' package, with the same trunk in both."""

import copy
from types import SimpleNamespace

import pytest
import torch
from DISTS_pytorch import DISTS_pt
from material import tensor
from PIL import Image
from safetensors.torch import save_file
from seeded import trunk

from iqa_metrics import DISTS, WeightsError
from iqa_metrics.metrics.dists import CALIBRATION, L2Pooling
from iqa_metrics.metrics.lpips import CALIBRATIONS


@pytest.fixture(scope="module")
def network():
    return trunk("vgg16")


@pytest.fixture(scope="module")
def images(photographs):
    references = torch.cat([tensor(p)[..., 40:105, 30:101] for p in photographs.values()])
    blurred = torch.nn.functional.avg_pool2d(references, 5, stride=1, padding=2)
    return references, torch.cat([blurred[:1], references[1:2] ** 1.1, references[2:].flip(3)])


def official(network, monkeypatch):
    """The authors' module in float64, with our trunk instead of a downloaded one."""
    models = SimpleNamespace(
        vgg16=lambda pretrained: SimpleNamespace(features=copy.deepcopy(network))
    )
    monkeypatch.setattr(DISTS_pt, "models", models)
    module = DISTS_pt.DISTS(load_weights=False)
    weights = torch.load(CALIBRATION.verified(), map_location="cpu", weights_only=True)
    module.alpha.data, module.beta.data = weights["alpha"], weights["beta"]
    module.double()
    # Widened from float32, these would be off by 1e-8.
    for name, values in (("mean", [0.485, 0.456, 0.406]), ("std", [0.229, 0.224, 0.225])):
        exact = torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1)
        assert torch.allclose(getattr(module, name), exact, rtol=1e-7)
        setattr(module, name, exact)
    return module


def compare(network, images, monkeypatch):
    """Our float32 and float64 values, and the authors' in float64, which both must equal."""
    wide = [i.double() for i in images]
    theirs = official(network, monkeypatch)(*wide).detach()
    ours = DISTS(trunk=network)
    return ours(*images).double(), ours.double()(*wide), theirs


def test_values_equal_the_authors(network, images, monkeypatch):
    single, double, theirs = compare(network, images, monkeypatch)
    assert torch.allclose(single, theirs, rtol=1e-5, atol=0)
    assert double.dtype == torch.float64
    assert torch.allclose(double, theirs, rtol=1e-9, atol=0)


def test_a_real_network_agrees_as_well(edge_network, images, monkeypatch):
    """VGG-16 fine-tuned to edges, since the original can't be downloaded here."""
    single, double, theirs = compare(edge_network, images, monkeypatch)
    assert torch.allclose(double, theirs, rtol=1e-9, atol=0)
    # Of the faint second pair, 0.003, rounding in the network itself takes more digits; from the
    # authors' own float32 it takes three times as many.
    tolerance = torch.tensor([1e-5, 3e-5, 1e-5], dtype=torch.float64)
    assert bool(((single / theirs - 1).abs() < tolerance).all())


def test_gradients_equal_the_authors(network, images, monkeypatch):
    theirs, ours = official(network, monkeypatch), DISTS(trunk=network)
    reference, distorted = (i[:1] for i in images)
    wide = distorted.double().requires_grad_()
    theirs(reference.double(), wide, require_grad=True).sum().backward()
    narrow = distorted.clone().requires_grad_()
    ours(reference, narrow).sum().backward()
    difference = (narrow.grad.double() - wide.grad).norm() / wide.grad.norm()
    assert float(difference) < 1e-4


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (1, 1)])
def test_pooling_equals_the_authors(size):
    response = torch.rand(2, 5, *size)
    expected = DISTS_pt.L2pooling(channels=5)(response)
    assert torch.allclose(L2Pooling()(response), expected, rtol=1e-6)


def test_resizing_equals_the_authors(network, photographs):
    """The authors resize the 8-bit image; we resize the tensor, without rounding again."""
    reference = photographs["astronaut"][:, :270].repeat(2, 0).repeat(2, 1)
    distorted = reference[:, ::-1].copy()
    prepared = [DISTS_pt.prepare_image(Image.fromarray(i), True) for i in (reference, distorted)]
    assert min(prepared[0].shape[2:]) == 256
    expected = float(DISTS(trunk=network)(*prepared))
    found = float(DISTS(resize=True, trunk=network)(tensor(reference), tensor(distorted)))
    assert found == pytest.approx(expected, rel=2e-3)
    small = [tensor(i[:200, :210]) for i in (reference, distorted)]
    assert torch.equal(DISTS(resize=True, trunk=network)(*small), DISTS(trunk=network)(*small))


def test_the_trunk_keeps_its_own_pooling(network):
    DISTS(trunk=network)
    assert isinstance(network[4], torch.nn.MaxPool2d)


def test_it_tolerates_another_patch_of_the_same_texture():
    """The purpose of the metric: patches of one texture have similar statistics, not pixels."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(1, 3, 96, 96, generator=generator) for _ in range(2))
    coarse = torch.nn.functional.interpolate(y[..., :24, :24], scale_factor=4.0)
    metric = DISTS(trunk=trunk("vgg16"))
    assert float(metric(x, y)) < float(metric(x, coarse))


def test_names_and_a_wrong_calibration(network, tmp_path):
    assert DISTS(trunk=network).name == "dists"
    assert DISTS(trunk=network, resize=True).name == "dists_resized"
    with pytest.raises(WeightsError, match="not a calibration of DISTS"):
        DISTS(trunk=network, calibration=CALIBRATIONS["alex"].verified())
    path = tmp_path / "zeros.safetensors"
    save_file({"alpha": torch.zeros(1475), "beta": torch.zeros(1475)}, path)
    with pytest.raises(WeightsError, match="not all 0"):
        DISTS(trunk=network, calibration=path)
