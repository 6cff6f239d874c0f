"""Compiled comparisons give the uncompiled values, and their number is bounded."""

import copy
import logging
import shutil

import pytest
import torch
from seeded import trunk

from iqa_metrics import LPIPS, DeepDistance, FeatureReadouts, create_metric
from iqa_metrics.compute import compilation as module
from iqa_metrics.compute.compilation import Compiled

needs_a_compiler = pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler"
)


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    reference = torch.rand(1, 3, 96, 104, generator=generator)
    noise = torch.randn(3, 3, 96, 104, generator=generator)
    return reference, (reference + 0.1 * noise).clamp(0, 1)


@pytest.fixture
def uncompiled(monkeypatch):
    """Replace torch.compile where only the bookkeeping is tested."""
    made = []
    monkeypatch.setattr(torch, "compile", lambda f, **_: made.append(f) or f)
    return made


@pytest.mark.slow
@needs_a_compiler
@pytest.mark.parametrize(
    "make",
    [
        lambda: LPIPS("alex", calibrated=False, trunk=trunk("alexnet")),
        lambda: create_metric("default"),
        lambda: create_metric("efficientnet_lite0:stem+block9:gram:sum"),
        lambda: create_metric("ssim"),
        lambda: create_metric("psnr"),
    ],
)
def test_values_are_the_uncompiled_ones(make, images):
    reference, distorted = images
    plain, fast = make(), make().configure(compile=True)
    with torch.inference_mode():
        expected = plain(reference.expand_as(distorted), distorted)
        assert torch.allclose(fast(reference[:1], distorted[:1]), expected[:1], rtol=1e-5)
        with fast.reference(reference) as shared:
            assert torch.allclose(shared.score(distorted), expected, rtol=1e-5)
        assert float(fast(reference, reference)) == float(plain(reference, reference))
    assert fast.compiled.warm_ups
    y = distorted.clone().requires_grad_()
    fast(reference, y)[0].backward()  # uncompiled, as it says
    assert y.grad.isfinite().all()


@pytest.mark.slow
@needs_a_compiler
def test_fresh_images_of_a_size_are_not_compiled_again(images):
    from torch._dynamo.utils import counters

    metric = DeepDistance("vgg16", "relu1_2", "rmse", trunk=trunk("vgg16")).configure(compile=True)
    torch._dynamo.reset()
    counters.clear()
    graphs = []
    for number in range(1, 5):
        metric(images[0].clone(), images[1][:1] / number)
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[0] > 0
    assert graphs == graphs[:1] * 4
    assert not counters["graph_break"]


@pytest.mark.slow
@needs_a_compiler
def test_lower_precision_compiles(images):
    reference, distorted = images
    metric = LPIPS("alex", calibrated=False, trunk=trunk("alexnet"))
    expected = metric(reference, distorted)
    metric.configure(compile=True, precision="bfloat16")
    assert torch.allclose(metric(reference, distorted), expected, rtol=0.05)


@pytest.mark.slow
@needs_a_compiler
def test_many_readouts_compile(images):
    wanted = {"stem": ["rmse", "channel_std"], "block9": ["cosine"]}
    plain = FeatureReadouts("efficientnet_lite0", wanted)
    fast = FeatureReadouts("efficientnet_lite0", wanted).configure(compile=True)
    with torch.no_grad():
        expected, found = plain(*images), fast(*images)
    for layer, of_layer in expected.items():
        for name, values in of_layer.items():
            assert torch.allclose(found[layer][name], values, rtol=1e-5), (layer, name)


def test_each_size_is_compiled_once(uncompiled, images):
    reference, distorted = images
    metric = create_metric("psnr").configure(compile=True, memory="4GiB")
    with torch.no_grad():
        for _ in range(3):
            metric(reference, distorted)
            metric(reference[..., :64], distorted[..., :64])
            metric(reference, distorted[:2])
    assert len(uncompiled) == len(metric.compiled.warm_ups) == 3
    assert metric(reference, distorted).tolist() == create_metric("psnr")(*images).tolist()


def test_sizes_are_bounded(uncompiled, images, caplog, monkeypatch):
    monkeypatch.setattr(module, "MOST_SHAPES", 2)
    metric = create_metric("psnr").configure(compile=True)
    with torch.no_grad(), caplog.at_level(logging.WARNING):
        for side in (40, 48, 56, 64):
            pair = [image[:1, :, :side] for image in images]
            assert float(metric(*pair)) == float(create_metric("psnr")(*pair))
    assert len(uncompiled) == 2
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert "2 sizes are compiled" in caplog.text


def test_gradients_are_not_compiled(uncompiled, images):
    reference, distorted = images
    metric = create_metric("default").configure(compile=True)
    metric(reference, distorted.clone().requires_grad_())
    assert uncompiled == []


def test_weights_that_move_or_change_precision_are_compiled_again(uncompiled, images):
    metric = create_metric("default", compile=True)
    with torch.no_grad():
        for change in (lambda: None, metric.double, lambda: metric.configure(precision="float32")):
            change()
            metric(*images)
    assert len(uncompiled) == 3


def test_compiling_can_be_switched_off_and_compiled_metrics_copied(uncompiled, images):
    metric = create_metric("psnr", compile=True)
    with torch.no_grad():
        metric(*images)
    assert copy.deepcopy(metric).compiled.warm_ups == {}
    assert isinstance(metric.compiled, Compiled)
    assert metric.configure(compile=False).compiled is None
