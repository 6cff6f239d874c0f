"""The core: one pass, layer by layer, that stops early and leaves nothing behind."""

import gc
import threading
import weakref

import pytest
import torch
from torch import nn

from iqa_metrics import (
    FeatureError,
    FeatureExtractor,
    InputScaling,
    UnknownNameError,
    create_metric,
)


class InPlace(nn.Module):
    """A network that overwrites its own activations, with modules and with operators."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.last = nn.Conv2d(4, 2, 1)
        self.calls = []

    def forward(self, x):
        x = self.relu(self.first(x))
        y = self.second(x)
        y += x
        y = self.relu(y)
        self.calls.append("before last")
        y = self.last(y)
        self.calls.append("after last")
        return y


LAYERS = {"first": "first", "relu": "relu", "second": "second", "last": "last"}


@pytest.fixture
def network():
    torch.manual_seed(0)
    return InPlace()


@pytest.fixture
def images():
    return torch.rand(2, 3, 9, 7, generator=torch.Generator().manual_seed(1))


def hooks(network):
    return sum(len(module._forward_hooks) for module in network.modules())


def test_feature_maps_are_those_before_any_in_place_change(network, images):
    found = FeatureExtractor(network, LAYERS).responses(images, LAYERS)
    first = network.first(images)
    relu = first.clamp(min=0)
    second = network.second(relu)
    last = network.last((second + relu).clamp(min=0))
    for name, expected in (("first", first), ("relu", relu), ("second", second), ("last", last)):
        assert torch.allclose(found[name], expected, rtol=1e-5, atol=1e-6), name


def test_layers_come_once_each_in_the_networks_order(network, images):
    seen = []
    extractor = FeatureExtractor(network, LAYERS)
    extractor.visit(images, ["last", "second", "relu"], lambda name, _: seen.append(name))
    assert seen == ["relu", "second", "last"]


def test_the_pass_stops_after_the_last_layer(network, images):
    extractor = FeatureExtractor(network, LAYERS)
    extractor.visit(images, ["second"], lambda *_: None)
    assert network.calls == []
    extractor.visit(images, ["last"], lambda *_: None)
    assert network.calls == ["before last"]
    extractor.visit(images, [], lambda *_: pytest.fail("no layer was asked for"))


def test_a_feature_map_is_freed_before_the_next_layer(images):
    torch.manual_seed(0)
    network = nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(6)))
    alive = []

    def visitor(name, response):
        gc.collect()
        # Only the layer before this one, still this layer's input, may be alive.
        assert sum(ref() is not None for ref in alive[:-1]) == 0
        alive.append(weakref.ref(response))

    FeatureExtractor(network, {str(i): str(i) for i in range(6)}).visit(
        images, [str(i) for i in range(6)], visitor
    )
    assert len(alive) == 6


def test_hooks_are_removed_whatever_happens(network, images):
    extractor = FeatureExtractor(network, LAYERS)
    extractor.visit(images, ["first"], lambda *_: None)
    assert hooks(network) == 0

    def fails(*_):
        raise KeyError("the visitor's own")

    with pytest.raises(KeyError, match="own"):
        extractor.visit(images, ["first"], fails)
    assert hooks(network) == 0
    with pytest.raises(RuntimeError):
        extractor.visit(torch.rand(1, 5, 4, 4), ["first"], lambda *_: None)
    assert hooks(network) == 0


def test_training_mode_and_gradients_do_not_reach_the_network(images):
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5))
    model = nn.ModuleList([FeatureExtractor(network, {"last": "2"})])
    model.train()
    before = network[1].running_mean.clone()
    extractor = model[0]
    first, second = (extractor.responses(images, ["last"])["last"] for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(network[1].running_mean, before)
    assert not any(p.requires_grad for p in network.parameters())


def test_gradients_reach_the_images_through_in_place_activations(network, images):
    images.requires_grad_()
    losses = []
    extractor = FeatureExtractor(network, LAYERS)
    extractor.visit(images, LAYERS, lambda _, response: losses.append(response.square().sum()))
    sum(losses).backward()
    reference = images.detach().double().requires_grad_()
    wide = network.double()
    first = wide.first(reference)
    relu = first.clamp(min=0)
    second = wide.second(relu)
    last = wide.last((second + relu).clamp(min=0))
    sum(x.square().sum() for x in (first, relu, second, last)).backward()
    assert torch.allclose(images.grad.double(), reference.grad, rtol=1e-4, atol=1e-5)


def test_threads_do_not_see_each_others_passes(network):
    extractor = FeatureExtractor(network, LAYERS)
    inputs = [torch.rand(1, 3, 8 + i, 8) for i in range(4)]
    alone = [extractor.responses(x, ["first", "last"]) for x in inputs]
    found, start = [{} for _ in inputs], threading.Barrier(len(inputs))

    def run(index):
        start.wait()
        for _ in range(30):
            found[index] = extractor.responses(inputs[index], ["first", "last"])

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for ours, expected in zip(found, alone, strict=True):
        assert all(torch.equal(ours[name], expected[name]) for name in expected)


def test_an_enclosing_autocast_changes_nothing(network, images):
    extractor = FeatureExtractor(network, LAYERS)
    plain = extractor.responses(images, ["last"])["last"]
    with torch.autocast("cpu", torch.bfloat16):
        cast = extractor.responses(images, ["last"])["last"]
    assert torch.equal(plain, cast)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(network, images, dtype):
    plain = FeatureExtractor(network, LAYERS).responses(images, ["last"])["last"]
    found = FeatureExtractor(network.to(dtype), LAYERS).responses(images, ["last"])["last"]
    assert found.dtype == dtype
    assert torch.allclose(found.float(), plain, rtol=0.05, atol=0.02)


def test_scaling():
    scaling = InputScaling(peak=255.0, mean=(10.0, 20.0, 30.0), std=(1.0, 2.0, 4.0))
    scaled = scaling.apply(torch.full((1, 3, 1, 1), 0.5)).flatten()
    assert torch.allclose(scaled, torch.tensor([117.5, 53.75, 24.375]))


def test_other_outputs_and_unreached_layers_are_errors(images):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.pair = nn.Identity()
            self.unused = nn.Identity()

        def forward(self, x):
            return self.pair((x, x))

    extractor = FeatureExtractor(Odd(), {"pair": "pair", "unused": "unused", "wrong": "no.such"})
    with pytest.raises(FeatureError, match="gives tuple"):
        extractor.visit(images, ["pair"], lambda *_: None)
    with pytest.raises(FeatureError, match="did not reach layers: unused"):
        extractor.visit(images, ["unused"], lambda *_: None)
    with pytest.raises(UnknownNameError, match="did you mean 'pair'"):
        extractor.visit(images, ["pear"], lambda *_: None)
    with pytest.raises(UnknownNameError, match=r"unknown module 'no\.such'"):
        extractor.visit(images, ["wrong"], lambda *_: None)


@pytest.mark.parametrize("size", [(32, 32), (64, 48), (120, 160), (384, 512)])
def test_an_image_gives_the_same_bits_alone_and_in_a_batch(size):
    # torch has another kernel for the convolutions of one small image.
    metric = create_metric("default")
    images = torch.rand(3, 3, *size, generator=torch.Generator().manual_seed(0))
    layers = list(metric.extractor.layers)
    together = metric.extractor.responses(images, layers)
    alone = metric.extractor.responses(images[:1], layers)
    for name in layers:
        assert torch.equal(alone[name], together[name][:1]), name
    with torch.no_grad(), metric.reference(images[:1]) as shared:
        assert shared.score(images)[0] == 0
        assert torch.equal(shared.score(images[1:2]), metric(images[:1], images[1:2]))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_value_does_not_depend_on_how_many_share_its_pass(threads):
    # In one thread torch has another kernel for 1x1 convolutions of many images.
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        metric = create_metric("default", memory="4GiB")
        images = torch.rand(20, 3, 48, 48, generator=torch.Generator().manual_seed(0))
        copies = images[:1].expand(20, -1, -1, -1).contiguous()
        with torch.no_grad(), metric.reference(images[:1]) as shared:
            assert shared.score(copies).max() == 0
            alone = torch.cat([metric(images[:1], image[None]) for image in images])
            assert torch.equal(shared.score(images), alone)
            assert torch.equal(metric(copies, images), alone)
    finally:
        torch.set_num_threads(before)


def test_a_network_without_support_for_the_meta_device_gives_the_same_values():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution = nn.Conv2d(3, 8, 3)

        def forward(self, images):
            return self.convolution(images * float(images.sum() > -1))

    extractor = FeatureExtractor(Own(), {"all": "convolution"})
    images = torch.rand(4, 3, 20, 20)
    together = extractor.responses(images, ["all"])["all"]
    assert torch.equal(extractor.responses(images[:1], ["all"])["all"], together[:1])
