"""Less work for the same convolutions: Winograd convolution and folded batch normalisation."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from own_networks import OWN_NETWORKS, StandardisedConv2d
from torch import nn

from iqa_metrics import DeepDistance, backbone
from iqa_metrics.compute.folding import folded
from iqa_metrics.compute.winograd import WinogradConv2d, with_fewer_multiplications


def convolution(channels=192, filters=200, **options):
    torch.manual_seed(0)
    layer = nn.Conv2d(channels, filters, 3, **options).eval().requires_grad_(False)
    nn.init.kaiming_normal_(layer.weight)
    return layer


@pytest.fixture(autouse=True, scope="module")
def without_gradients():
    """Where gradients are enabled, torch's own convolutions are used."""
    with torch.no_grad():
        yield


def images(count, channels, height, width):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, channels, height, width, generator=generator)


@settings(max_examples=15, deadline=None)
@given(
    st.integers(24, 34), st.integers(24, 34), st.integers(0, 1), st.integers(1, 2), st.booleans()
)
def test_winograd_convolution_gives_the_same_values(height, width, padding, count, bias):
    plain = convolution(padding=padding, bias=bias)
    fast = WinogradConv2d(plain)
    x = images(count, 192, height, width)
    wide = copy.deepcopy(plain).double()(x.double())
    found = fast(x)
    assert found.shape == wide.shape
    error = (found - wide).square().mean().sqrt() / wide.square().mean().sqrt()
    assert 0 < error < 1e-5
    assert not torch.equal(found, plain(x))  # it did go the other way
    in_place = x.to(memory_format=torch.channels_last)
    assert torch.allclose(fast(in_place), found, rtol=1e-5, atol=1e-4)


def test_other_cases_use_torchs_convolution():
    plain = convolution(padding=1)
    fast = WinogradConv2d(plain)
    small = images(1, 192, 8, 8)
    assert torch.equal(fast(small), plain(small))
    x = images(1, 192, 24, 24)
    with torch.enable_grad():
        assert torch.equal(fast(x), plain(x))
        x.requires_grad_()
        assert torch.equal(fast(x), plain(x))
    x = images(1, 192, 24, 24)
    for dtype in (torch.float64, torch.bfloat16):
        changed = copy.deepcopy(plain).to(dtype)
        assert torch.equal(WinogradConv2d(changed)(x.to(dtype)), changed(x.to(dtype)))


def test_an_image_does_not_depend_on_its_batch():
    fast = WinogradConv2d(convolution(padding=1))
    x = images(3, 192, 24, 24)
    assert torch.allclose(fast(x)[1:2], fast(x[1:2]), rtol=1e-5, atol=1e-5)


def test_changed_weights_are_noticed():
    fast = WinogradConv2d(convolution(padding=1))
    x = images(1, 192, 24, 24)
    before = fast(x)
    fast.weight.mul_(2)
    bias = fast.bias.view(1, -1, 1, 1)
    assert torch.allclose(fast(x) - bias, 2 * (before - bias), rtol=1e-4, atol=1e-4)
    copied = copy.deepcopy(fast)
    copied.weight.zero_()
    assert torch.allclose(copied(x), bias.expand_as(before))
    assert not torch.allclose(fast(x), bias.expand_as(before))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(192, 192, 3, stride=2),
        nn.Conv2d(192, 192, 3, dilation=2),
        nn.Conv2d(192, 192, 3, groups=2),
        nn.Conv2d(192, 192, 5),
        nn.Conv2d(192, 192, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(64, 192, 3),
        nn.ReLU(),
    ],
)
def test_unsuitable_modules_are_left_alone(layer):
    network = with_fewer_multiplications(nn.Sequential(layer))
    assert network[0] is layer


class Block(nn.Module):
    """Convolutions and norms that a trace can tell apart."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4)
        self.twice, self.bn3 = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.used, self.bn4 = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x, option=None):
        x = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        x = self.bn3(self.twice(self.twice(x)))
        y = self.used(x)
        return self.bn4(y) + y if option is None else y


def normed(network):
    torch.manual_seed(3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 2)
            module.bias.data.normal_()
    return network.eval()


def test_norms_fold_where_nothing_else_reads_the_convolution():
    network = normed(nn.Sequential(Block(), nn.Conv2d(4, 5, 1), nn.BatchNorm2d(5)))
    x = images(2, 3, 9, 9)
    expected = network(x)
    found = folded(copy.deepcopy(network), ["2"], (1, 3, 9, 9))
    assert torch.allclose(found(x), expected, rtol=1e-5, atol=1e-5)
    left = [name for name, m in found.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert left == ["0.bn3", "0.bn4"]
    kept = folded(copy.deepcopy(network), ["0.conv2", "2"], (1, 3, 9, 9))
    assert isinstance(kept[0].bn2, nn.BatchNorm2d)
    assert isinstance(kept[0].bn1, nn.Identity)


def test_networks_that_can_not_be_traced_are_left_alone():
    class Odd(Block):
        def forward(self, x):
            return super().forward(x if x.sum() > 0 else -x)

    network = normed(nn.Sequential(Odd()))
    assert (
        sum(isinstance(m, nn.BatchNorm2d) for m in folded(network, ["0"], (1, 3, 9, 9)).modules())
        == 4
    )


# Not EfficientNet-Lite, some of whose convolutions are subclasses, which stay as they are.
@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet50"])
def test_catalogued_networks_fold(name):
    record = backbone(name)
    torch.manual_seed(0)
    network = normed(record.trunk(record.build()))
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = network(x)
        quick = folded(network, [record.layers[-1].module], (1, 3, 64, 64))
        found = quick(x)
    left = sum(isinstance(m, nn.BatchNorm2d) for m in quick.modules())
    # TensorFlow's uneven padding, where EfficientNet-Lite halves an image, is a class of its own.
    assert left == (5 if name == "efficientnet_lite0" else 0)
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_the_feature_map_of_a_convolution_before_its_norm_is_unchanged():
    torch.manual_seed(0)
    record = backbone("resnet50")
    network = normed(record.build()).requires_grad_(False)
    x, y = torch.rand(2, 1, 3, 64, 64)
    metric = DeepDistance("resnet50", ["conv1", "relu1"], "euclidean", trunk=network)
    scaled = [metric.extractor.scaling.apply(i) for i in (x, y)]
    first = [network.conv1(i) for i in scaled]
    second = [network.bn1(r).relu() for r in first]
    expected = sum(float((a - b).square().sum()) for a, b in (first, second)) ** 0.5
    assert float(metric(x, y)) == pytest.approx(expected, rel=1e-5)
    assert isinstance(network.bn1, nn.BatchNorm2d)  # the caller's own is untouched


@pytest.mark.parametrize("kind", OWN_NETWORKS)
def test_only_untouched_modules_are_replaced(kind):
    network = normed(OWN_NETWORKS[kind]())
    last = [path for path, _ in network.named_modules()][-1]
    before = dict(network.named_modules())
    folded(network, ["last" if "last" in before else last], (1, 3, 64, 64))
    replaced = {path for path, module in network.named_modules() if module is not before[path]}
    if kind == "plain":
        expected = {"0", "1", "3", "4"}
    elif kind == "hook on sequence":
        expected = {"0.0", "0.1", "0.3", "0.4"}
    else:  # the first pair of a chain stands before what must stay as it is
        expected = {"0", "1"} if "0" in before else set()
    assert replaced == expected


@pytest.mark.parametrize("make", [StandardisedConv2d, nn.Conv2d])
def test_winograd_takes_torchs_own_convolution_alone(make):
    layer = make(192, 192, 3).eval()
    network = nn.Sequential(layer)
    assert (with_fewer_multiplications(network)[0] is layer) == (make is not nn.Conv2d)
    hooked = nn.Sequential(nn.Conv2d(192, 192, 3))
    hooked[0].register_forward_hook(lambda module, inputs, output: 2 * output)
    assert type(with_fewer_multiplications(hooked)[0]) is nn.Conv2d
