"""LPIPS against the authors' package, with the same trunk in both."""

import copy
from types import SimpleNamespace

import lpips as official_lpips
import pytest
import torch
from material import tensor
from seeded import trunk
from torchvision import models

from iqa_metrics import LPIPS, WeightsError, create_metric, resolve
from iqa_metrics.metrics.lpips import BACKBONES, CALIBRATIONS, NETS


@pytest.fixture(scope="module")
def trunks():
    return {net: trunk(BACKBONES[net]) for net in NETS}


@pytest.fixture(scope="module")
def images(photographs):
    """Three photographs of the same size, with blurred, noisy and low-contrast copies."""
    references = torch.cat([tensor(p)[..., 40:124, 30:121] for p in photographs.values()])
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(references[1:2].shape, generator=generator)
    distorted = [
        torch.nn.functional.avg_pool2d(references[:1], 5, stride=1, padding=2),
        (references[1:2] + 0.02 * noise).clamp(0, 1),
        0.5 + 0.9 * (references[2:] - 0.5),
    ]
    return references, torch.cat(distorted)


def official(net, network, monkeypatch, **options):
    """The authors' module in float64, with our trunk instead of a downloaded one."""
    name = {"alex": "alexnet", "vgg": "vgg16", "squeeze": "squeezenet1_1"}[net]
    models = SimpleNamespace(
        **{name: lambda pretrained: SimpleNamespace(features=copy.deepcopy(network))}
    )
    monkeypatch.setattr(official_lpips.pretrained_networks, "tv", models)
    module = official_lpips.LPIPS(net=net, verbose=False, **options).double()
    # Widened from float32, these would be off by 1e-8.
    for name, values in (("shift", [-0.030, -0.088, -0.188]), ("scale", [0.458, 0.448, 0.450])):
        exact = torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1)
        assert torch.allclose(getattr(module.scaling_layer, name), exact, rtol=1e-7)
        setattr(module.scaling_layer, name, exact)
    return module


@pytest.mark.parametrize("calibrated", [True, False], ids=["calibrated", "baseline"])
@pytest.mark.parametrize("net", NETS)
def test_values_and_maps_are_the_authors(net, calibrated, trunks, images, monkeypatch):
    wide = [i.double() for i in images]
    with torch.no_grad():
        theirs = official(net, trunks[net], monkeypatch, lpips=calibrated)
        values = theirs(*wide, normalize=True).flatten()
        spatial = official(net, trunks[net], monkeypatch, lpips=calibrated, spatial=True)
        maps = spatial(*wide, normalize=True)
    ours = LPIPS(net, calibrated=calibrated, trunk=trunks[net])
    assert torch.allclose(ours(*images).double(), values, rtol=1e-5, atol=0)
    assert torch.allclose(ours(*images, map=True).double(), maps, rtol=1e-4, atol=1e-6)
    double = ours.double()
    found = double(*wide)
    assert found.dtype == torch.float64
    assert torch.allclose(found, values, rtol=1e-9, atol=0)


def test_a_real_network_agrees_as_well(edge_network, images, monkeypatch):
    """VGG-16 fine-tuned to edges, since the original can't be downloaded here."""
    theirs = official("vgg", edge_network, monkeypatch)
    with torch.no_grad():
        expected = theirs(*(i.double() for i in images), normalize=True).flatten()
    found = LPIPS("vgg", trunk=edge_network)(*images)
    assert torch.allclose(found.double(), expected, rtol=1e-5, atol=0)


def test_gradients_equal_the_authors(trunks, images, monkeypatch):
    theirs = official("alex", trunks["alex"], monkeypatch)
    ours = LPIPS("alex", trunk=trunks["alex"])
    reference, distorted = images
    wide = distorted.double().requires_grad_()
    theirs(reference.double(), wide, normalize=True).sum().backward()
    narrow = distorted.clone().requires_grad_()
    ours(reference, narrow).sum().backward()
    difference = (narrow.grad.double() - wide.grad).norm() / wide.grad.norm()
    assert float(difference) < 1e-4


def test_identical_images_have_gradients_where_the_authors_code_has_none(trunks):
    """Flat regions give feature vectors of zeros, where the root of the length has no gradient."""
    network = copy.deepcopy(trunks["alex"])
    with torch.no_grad():
        network[0].weight.zero_()
        network[0].bias.zero_()
    flat = torch.full((1, 3, 64, 64), 0.5).requires_grad_()
    value = LPIPS("alex", trunk=network)(flat.detach(), flat)
    value.sum().backward()
    assert float(value.detach()) == 0
    assert torch.equal(flat.grad, torch.zeros_like(flat))


def test_the_callers_trunk_is_left_alone(images):
    whole = models.alexnet(weights=None).train()
    before = {key: value.clone() for key, value in whole.state_dict().items()}
    metric = LPIPS("alex", trunk=whole)
    value = metric(*images)
    assert torch.equal(LPIPS("alex", trunk=whole.features)(*images), value)
    assert whole.training
    assert all(p.requires_grad for p in whole.parameters())
    assert all(torch.equal(v, before[key]) for key, v in whole.state_dict().items())
    with torch.no_grad():
        whole.features[0].weight.zero_()
    assert torch.equal(metric(*images), value)


def test_another_trunk_is_refused(trunks):
    with pytest.raises(ValueError, match=r"expected AlexNet.*got a Linear"):
        LPIPS("alex", trunk=torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match=r"module 0 is Conv2d .*got Conv2d"):
        LPIPS("alex", trunk=trunks["vgg"])
    with torch.device("meta"):
        vgg19, alexnet = models.vgg19(), models.alexnet()
    # As far as its number of channels goes, VGG-19 would do: its layers lie elsewhere.
    for other in (vgg19, vgg19.features):
        with pytest.raises(ValueError, match=r"module 16 is MaxPool2d .*got Conv2d"):
            LPIPS("vgg", trunk=other)
    with pytest.raises(ValueError, match="meta device"):
        LPIPS("alex", trunk=alexnet)
    with pytest.raises(ValueError, match="expected a module, got"):
        LPIPS("alex", trunk=models.alexnet)
    with pytest.raises(ValueError, match="got both"):
        LPIPS("alex", trunk=trunks["alex"], weights="x.safetensors")


def test_names_and_what_they_stand_for(trunks):
    assert LPIPS("squeeze", trunk=trunks["squeeze"]).name == "lpips_squeeze"
    assert LPIPS("vgg", trunk=trunks["vgg"], calibrated=False).name == "lpips_vgg_baseline"
    spec = "alexnet:relu1+relu2+relu3+relu4+relu5:lpips:sum"
    assert str(resolve("lpips_alex_baseline")) == spec
    with pytest.raises(ValueError, match="expected one of alex, vgg, squeeze"):
        LPIPS("resnet")


def test_the_calibration_is_that_of_both_packages():
    """torchmetrics contains the same bytes."""
    from pathlib import Path

    torchmetrics = pytest.importorskip("torchmetrics")
    folder = Path(torchmetrics.__file__).parent / "functional/image/lpips_models"
    for net in NETS:
        ours = CALIBRATIONS[net].verified()
        assert ours.read_bytes() == (folder / f"{net}.pth").read_bytes()


def test_a_wrong_calibration_is_refused(trunks):
    wrong = CALIBRATIONS["squeeze"].verified()
    with pytest.raises(WeightsError, match=r"not a calibration of LPIPS alex: expected lin0"):
        LPIPS("alex", trunk=trunks["alex"], calibration=wrong)
    with pytest.raises(ValueError, match="calibrated=False"):
        LPIPS("alex", trunk=trunks["alex"], calibration=wrong, calibrated=False)
    with pytest.raises(ValueError, match="metric 'default' takes none"):
        create_metric("default", calibration=wrong)


def test_without_the_package_the_message_says_how_to_get_it(trunks, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(WeightsError, match=r"pip install lpips==0\.1\.4.*iqa weights fetch"):
        LPIPS("alex", trunk=trunks["alex"])


def test_the_calibration_keeps_its_precision(trunks):
    metric = LPIPS("alex", trunk=trunks["alex"])
    exact = metric.channel_weights["relu1"].clone()
    metric.to(torch.bfloat16)
    assert next(metric.extractor.network.parameters()).dtype == torch.bfloat16
    assert torch.equal(metric.channel_weights["relu1"], exact)
    assert metric.to("meta").channel_weights["relu1"].is_meta
    with pytest.raises(NotImplementedError, match="meta"):  # its values are lost
        metric.to_empty(device="cpu")


def test_missing_trunks_say_how_to_get_them():
    with pytest.raises(WeightsError, match=r"alexnet-owt.*iqa weights fetch"):
        create_metric("lpips_alex")
