"""Deep distances against plain hooks, and the contract that all metrics keep."""

import csv
import functools
import math
from typing import ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from material import REPOSITORY, tensor
from seeded import save_trunk, trunk
from torch import nn

from iqa_metrics import (
    CONCATENATIONS,
    METRICS,
    READOUTS,
    DeepDistance,
    FeatureReadouts,
    ImageError,
    backbone,
    create_metric,
    needs,
)
from iqa_metrics.metrics.together import DistancesTogether, can_share, share_network
from iqa_metrics.readouts import readout
from iqa_metrics.weights.checkpoints import read_state_dict

LITE0 = [layer.name for layer in backbone("efficientnet_lite0").layers]
MOBILE = [layer.name for layer in backbone("mobilenet_v2").layers]


class PlainHooks:
    """A network made by its own package, with a hook on every stage and without our code."""

    def __init__(self, network, stages, prepare):
        self.network, self.prepare, self.seen = network.eval(), prepare, {}
        for name, module, after in stages:
            module.register_forward_hook(
                lambda m, i, out, name=name, after=after: self.seen.__setitem__(name, after(out))
            )

    def responses(self, image):
        self.seen = {}
        with torch.no_grad():
            self.network(self.prepare(image))
        return dict(self.seen)


@pytest.fixture(scope="module")
def plain_lite0():
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(read_state_dict(backbone("efficientnet_lite0").weights.verified()))
    relu6 = nn.functional.relu6
    stages = [("stem", network._bn0, relu6)]
    stages += [(f"block{i}", b, torch.clone) for i, b in enumerate(network._blocks)]
    stages += [("head", network._bn1, relu6)]
    return PlainHooks(network, stages, lambda image: (image * 255 - 127) / 128)


@pytest.fixture(scope="module")
def plain_mobilenet(real_weights):
    from torchvision.models import mobilenet_v2

    network = mobilenet_v2()
    network.load_state_dict(
        torch.load(real_weights / "mobilenet_v2-b0353104.pth", weights_only=True)
    )
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    stages = [(MOBILE[i], network.features[i], torch.clone) for i in range(19)]
    return PlainHooks(network, stages, lambda image: (image - mean) / std)


@pytest.mark.parametrize("size", [(256, 320), (97, 131)])
def test_every_layer_of_efficientnet_lite0(size, pair, plain_lite0):
    check_against_hooks("efficientnet_lite0", LITE0, size, pair, plain_lite0)


@pytest.mark.parametrize("size", [(256, 320), (97, 131)])
def test_every_layer_of_mobilenet_v2(size, pair, plain_mobilenet, real_weights, monkeypatch):
    monkeypatch.setenv("IQA_WEIGHTS", str(real_weights))
    check_against_hooks("mobilenet_v2", MOBILE, size, pair, plain_mobilenet)


def check_against_hooks(name, layers, size, pair, plain):
    images = [image[..., : size[0], : size[1]] for image in pair]
    responses = [plain.responses(image) for image in images]
    found = FeatureReadouts(name, {layer: ["euclidean"] for layer in layers})(*images)
    assert list(found) == layers
    for layer in layers:
        x, y = (of_image[layer].double() for of_image in responses)
        expected = float((x - y).square().sum().sqrt())
        assert float(found[layer]["euclidean"]) == pytest.approx(expected, rel=1e-5), layer


def test_joint_layers_are_one_long_feature_vector(pair, plain_lite0):
    layers = ["block9", "stem", "block3"]
    x, y = (plain_lite0.responses(image) for image in pair)
    long = [torch.cat([r[name].double().flatten() for name in layers]) for r in (x, y)]
    expected = float((long[0] - long[1]).norm())
    metric = DeepDistance("efficientnet_lite0", layers)
    assert metric.name == "efficientnet_lite0:stem+block3+block9:euclidean:joint"
    assert float(metric(*pair)) == pytest.approx(expected, rel=1e-5)
    rmse = create_metric("efficientnet_lite0:stem+block3+block9:rmse")
    assert float(rmse(*pair)) == pytest.approx(expected / math.sqrt(long[0].numel()), rel=1e-5)


def test_summed_layers(pair, plain_lite0):
    x, y = (plain_lite0.responses(image) for image in pair)
    pairs = [(x[name].double(), y[name].double()) for name in ("stem", "block9")]
    stem, block9 = (float((a - b).norm()) for a, b in pairs)
    counts = [a.numel() for a, _ in pairs]
    summed = DeepDistance("efficientnet_lite0", ["block9", "stem"], concatenation="sum")
    assert float(summed(*pair)) == pytest.approx(stem + block9, rel=1e-5)
    # The weights follow their layers, whatever the order in which both are given.
    orders = [(["block9", "stem"], [3, 0.5]), (["stem", "block9"], [0.5, 3])]
    for names, weights in orders:
        weighted = DeepDistance(
            "efficientnet_lite0", names, concatenation="sum", layer_weights=weights
        )
        assert weighted.name == "efficientnet_lite0:0.5*stem+3*block9:euclidean:sum"
        assert float(weighted(*pair)) == pytest.approx(0.5 * stem + 3 * block9, rel=1e-5)
    named = create_metric("efficientnet_lite0:3*block9+0.5*stem:euclidean:sum_per_element")
    expected = 0.5 * stem / counts[0] + 3 * block9 / counts[1]
    assert float(named(*pair)) == pytest.approx(expected, rel=1e-5)


MAPS = [record for record in READOUTS if record.map]


@pytest.mark.parametrize("record", MAPS, ids=lambda r: r.name)
def test_maps_are_enlarged_and_concatenated(record, pair):
    """Layers as large as the image are not enlarged, so that their map sums up to the value."""
    images = [image[..., :48, :40] for image in pair]
    layers = ["conv1_1", "relu1_1", "relu1_2"]
    weights = {name: torch.rand(64) for name in layers} if record.weighted else None

    def deep(chosen, kind=None, factors=None):
        names = [chosen] if isinstance(chosen, str) else chosen
        return DeepDistance(
            *("vgg16", names, record.name),
            concatenation=kind,
            layer_weights=factors,
            channel_weights=weights and {name: weights[name] for name in names},
            trunk=trunk("vgg16"),
        )

    for kind in ["sum", "joint"] if record.joint else ["sum"]:
        metric = deep(layers, kind)
        assert metric.has_map
        found = metric(*images, map=True)
        assert found.shape == (1, 1, 48, 40)
        value = float(metric(*images))
        if kind == "joint":
            positions = found.flatten(1).unbind(1)
            total = record.joint(positions, [1] * len(positions))
            assert float(total) == pytest.approx(value, rel=1e-5)
    single = [deep(layer)(*images, map=True) for layer in layers]
    factors = [0.5, 1, 3]
    weighted = sum(factor * layer_map for factor, layer_map in zip(factors, single, strict=True))
    for kind, expected in (("sum", weighted), ("sum_per_element", weighted / (64 * 48 * 40))):
        found = deep(layers, kind, factors)(*images, map=True)
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-9)


def test_a_map_of_a_small_layer_is_enlarged_bilinearly(pair, plain_lite0):
    x, y = (plain_lite0.responses(image)["block3"] for image in pair)
    expected = nn.functional.interpolate(
        (x - y).square().mean(1, keepdim=True).sqrt(), (256, 320), mode="bilinear"
    )
    found = create_metric("efficientnet_lite0:block3:rmse")(*pair, map=True)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-6)


class TestChannelWeights:
    def test_channel_weights_weigh_each_channel(self, pair, plain_lite0):
        x, y = (plain_lite0.responses(image)["stem"].double() for image in pair)
        weights = torch.rand(32, generator=torch.Generator().manual_seed(0))
        expected = (weights.double()[:, None, None] * (x - y)[0].square()).sum().sqrt()
        metric = DeepDistance(
            "efficientnet_lite0", "stem", "weighted_euclidean", channel_weights={"stem": weights}
        )
        assert metric.name == "efficientnet_lite0:stem:weighted_euclidean"
        assert float(metric(*pair)) == pytest.approx(float(expected), rel=1e-5)

    @pytest.mark.parametrize(
        ("weights", "words"),
        [
            (None, r"expected \{layer: \[C\]\} for stem, got none"),
            ({}, r"expected \{layer: \[C\]\} for stem, got none"),
            ({"stem": [1.0] * 31}, r"has 32 channels; expected \[32\], got \[31\]"),
            ({"stem": [1.0] * 31 + [-1.0]}, "at least 0"),
            ({"stem": [math.nan] * 32}, "finite"),
        ],
    )
    def test_wrong_channel_weights_are_refused(self, weights, words):
        with pytest.raises(ValueError, match=words):
            DeepDistance("efficientnet_lite0", "stem", "weighted_lpips", channel_weights=weights)

    def test_plain_readouts_and_specs_have_no_channel_weights(self):
        with pytest.raises(ValueError, match="no readout weighs channels, got stem"):
            DeepDistance("efficientnet_lite0", "stem", channel_weights={"stem": [1.0] * 32})
        with pytest.raises(ValueError, match=r"for stem, got none"):
            create_metric("efficientnet_lite0:stem:weighted_lpips")
        with pytest.raises(ValueError, match="metric 'psnr' takes none"):
            create_metric("psnr", channel_weights={"stem": [1.0] * 32})

    def test_a_spec_with_weights_makes_the_metric_again(self, pair):
        weights = {"stem": torch.rand(32, generator=torch.Generator().manual_seed(0))}
        metric = DeepDistance(
            "efficientnet_lite0", "stem", "weighted_lpips", channel_weights=weights
        )
        again = create_metric(metric.name, channel_weights=weights)
        assert torch.equal(again(*pair), metric(*pair))


class TestFeatureReadouts:
    wanted: ClassVar = {
        "head": ["channel_mean"],
        "stem": [r.name for r in READOUTS if not r.weighted],
        "block3": ["weighted_euclidean", "gram", "gram"],
    }
    weights: ClassVar = {"block3": torch.linspace(0, 1, 40)}

    def test_one_pass_gives_the_values_of_single_metrics(self, pair):
        images = [image[..., :96, :112] for image in pair]
        passes = []
        readouts = FeatureReadouts("efficientnet_lite0", self.wanted, channel_weights=self.weights)
        stem = readouts.extractor.network.get_submodule("stem")
        stem.register_forward_hook(lambda module, inputs, output: passes.append(len(inputs[0])))
        values = readouts(*images)
        assert passes == [2]
        assert list(values) == ["stem", "block3", "head"]
        assert list(values["block3"]) == ["weighted_euclidean", "gram"]
        for layer, of_layer in values.items():
            for name, value in of_layer.items():
                weights = self.weights if readout(name).weighted else None
                single = DeepDistance("efficientnet_lite0", layer, name, channel_weights=weights)
                assert torch.allclose(value, single(*images), rtol=1e-6), (layer, name)

    def test_gradients_are_those_of_single_metrics(self, pair):
        distorted = pair[1][..., :64, :64].clone().requires_grad_()
        readouts = FeatureReadouts("efficientnet_lite0", {"stem": ["gram"], "block9": ["cosine"]})
        values = readouts(pair[0][..., :64, :64], distorted)
        (values["stem"]["gram"] + values["block9"]["cosine"]).sum().backward()
        assert float(distorted.grad.abs().max()) > 0

    def test_images_are_checked_as_a_metric_checks_them(self, pair):
        readouts = FeatureReadouts("efficientnet_lite0", {"head": ["rmse"]})
        with pytest.raises(ImageError, match="divide by 255"):
            readouts(pair[0], 255 * pair[1])
        with pytest.raises(ImageError, match="too small for efficientnet_lite0"):
            readouts(*(image[..., :31, :31] for image in pair))

    @pytest.mark.parametrize(
        ("wanted", "words"),
        [
            ({}, "at least one layer, and at least one readout"),
            ({"stem": []}, "at least one layer, and at least one readout"),
            ({"stem": "rmse"}, "expected a list of readouts for each layer"),
            (["stem"], "expected a list of readouts for each layer"),
            ({"stem": ["weighted_lpips"]}, "for stem, got none"),
        ],
    )
    def test_wrong_options_are_refused(self, wanted, words):
        with pytest.raises(ValueError, match=words):
            FeatureReadouts("efficientnet_lite0", wanted)

    def test_unneeded_weights_are_refused(self):
        with pytest.raises(ValueError, match="no readout weighs channels, got stem"):
            FeatureReadouts(
                "efficientnet_lite0", {"stem": ["rmse"]}, channel_weights={"stem": [1.0] * 32}
            )


def test_the_callers_own_network(pair, real_weights):
    """A record tells a whole network from a trunk; the copy gives the values of the original."""
    from torchvision.models import mobilenet_v2

    network = mobilenet_v2(weights=None)
    state = torch.load(real_weights / "mobilenet_v2-b0353104.pth", weights_only=True)
    network.load_state_dict(state)
    values = [
        float(DeepDistance("mobilenet_v2", "block7", "rmse", trunk=t)(*pair))
        for t in (network, network.features)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IQA_WEIGHTS", str(real_weights))
        expected = float(DeepDistance("mobilenet_v2", "block7", "rmse")(*pair))
    assert values == [pytest.approx(expected, rel=1e-6)] * 2


def test_a_layers_own_smallest_input():
    images = [torch.rand(1, 3, 16, 16) for _ in range(2)]
    assert DeepDistance("efficientnet_lite0", "block9").smallest_input == 16
    assert torch.isfinite(DeepDistance("efficientnet_lite0", "block9")(*images)).all()
    with pytest.raises(ImageError, match="at least 32"):
        DeepDistance("efficientnet_lite0", ["block9", "head"])(*images)


def golden_rows():
    with (REPOSITORY / "tests/golden/scores.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    """Return a function that gives the metric of a golden row, made once for all photographs."""
    folder = tmp_path_factory.mktemp("trunks")

    @functools.cache
    def weights(name):
        return save_trunk(name, folder)

    @functools.lru_cache(maxsize=2)
    def metric(spec, seeded):
        return create_metric(spec, weights=weights(needs(spec).backbone) if seeded else None)

    return lambda row: metric(row["metric"], bool(row["trunk"]))


@pytest.mark.parametrize(
    "row",
    sorted(golden_rows(), key=lambda row: row["metric"]),
    ids=lambda r: f"{r['metric']}-{r['photograph']}",
)
def test_golden_values(row, photographs, golden):
    reference = tensor(photographs[row["photograph"]])
    distorted = torch.nn.functional.avg_pool2d(reference, 3, stride=1, padding=1)
    found = float(golden(row)(reference, distorted))
    assert found == pytest.approx(float(row["value"]), rel=float(row["tolerance"]))


def test_every_metric_and_readout_has_a_golden_value():
    seen = {row["metric"] for row in golden_rows()}
    assert {record.name for record in METRICS} <= seen
    parts = [metric.split(":") for metric in seen if ":" in metric]
    assert {r.name for r in READOUTS if not r.weighted} <= {part[2] for part in parts}
    assert set(CONCATENATIONS) == {part[3] for part in parts if len(part) == 4}


@settings(deadline=None, max_examples=12)
@given(st.data())
def test_identity_symmetry_batch_and_order(data):
    metric = shared_default()
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    count = data.draw(st.integers(1, 4))
    size = (count, 3, data.draw(st.integers(32, 80)), data.draw(st.integers(32, 80)))
    x, y = (torch.rand(size, generator=generator) for _ in range(2))
    values = metric(x, y)
    assert torch.equal(metric(x, x), torch.zeros(count))
    assert torch.allclose(metric(y, x), values, rtol=1e-5)
    single = torch.cat([metric(x[i : i + 1], y[i : i + 1]) for i in range(count)])
    assert torch.allclose(single, values, rtol=1e-6)
    order = torch.randperm(count, generator=generator)
    assert torch.allclose(metric(x[order], y[order]), values[order], rtol=1e-6)
    assert torch.allclose(metric(x[:1], y), metric(x[:1].expand_as(y), y), rtol=1e-6)


_default = None


def shared_default():
    global _default
    _default = _default or create_metric("default")
    return _default


def test_gradients_reach_the_distorted_image_alone(pair):
    metric = shared_default()
    reference = pair[0][..., :64, :64].repeat(2, 1, 1, 1)
    distorted = torch.cat([reference[:1], pair[1][..., :64, :64]]).requires_grad_()
    values = metric(reference, distorted)
    values.sum().backward()
    assert values[0] == 0
    assert bool(torch.isfinite(distorted.grad).all())
    assert torch.equal(distorted.grad[0], torch.zeros_like(distorted.grad[0]))
    assert float(distorted.grad[1].abs().max()) > 0
    # A step against the gradient comes nearer.
    closer = (distorted - 0.01 * distorted.grad / distorted.grad.abs().max()).clamp(0, 1).detach()
    assert metric(reference, closer)[1] < values[1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_gpu_agrees(pair):
    metric = create_metric("default", device="cuda")
    value = float(metric(*(image.cuda() for image in pair)))
    assert value == pytest.approx(float(shared_default()(*pair)), rel=1e-3)
    with pytest.raises(ImageError, match="different devices"):
        metric(*pair)


def test_no_layer_is_refused():
    with pytest.raises(ValueError, match="at least one layer"):
        DeepDistance("efficientnet_lite0", [])


def test_a_trunk_is_compared_layer_by_layer():
    from efficientnet_lite_pytorch import EfficientNet
    from torchvision import models

    with torch.device("meta"):
        networks = {"resnet50": models.resnet50(), "resnet101": models.resnet101()}
        networks |= {f"lite{i}": EfficientNet.from_name(f"efficientnet-lite{i}") for i in (0, 1)}
    cases = {
        ("resnet50", "layer2.1", "resnet50"): "meta device",  # all else is right
        ("resnet50", "layer2.1", "resnet101"): r"module layer3\.6 is absent",
        ("resnet50", "layer2.1", "lite0"): "expected ResNet-50",
        ("efficientnet_lite0", "block1", "lite0"): "meta device",
        (
            "efficientnet_lite0",
            "block1",
            "lite1",
        ): "expected EfficientNet-Lite0, where module block",
        ("mobilenet_v2", "block1", "lite0"): "expected MobileNetV2",
    }
    for (backbone_name, layer, name), words in cases.items():
        with pytest.raises(ValueError, match=words):
            DeepDistance(backbone_name, layer, trunk=networks[name])


def test_joined_distances_equal_those_of_their_metrics_to_the_bit(pair):
    specs = ["default", "efficientnet_lite0:0.5*stem+block3:cosine:sum"]
    specs += ["efficientnet_lite0:stem+block14:rmse", "efficientnet_lite0:block3:gram"]
    metrics = [create_metric(spec) for spec in specs]
    assert all(can_share(metric) for metric in metrics)
    apart = [metric(*pair) for metric in metrics]
    with pytest.raises(ValueError, match="not the same object"):
        DistancesTogether(metrics)
    share_network(metrics, backbone("efficientnet_lite0"))
    together = DistancesTogether(metrics)
    assert together.layers == ("stem", "block3", "block14")
    passes = []
    stem = together.extractor.network.get_submodule("stem")[0]
    stem.register_forward_hook(lambda _, x, __: x[0].is_meta or passes.append(1))
    distorted = torch.cat([pair[1], pair[0]])
    with torch.no_grad():
        table = together(pair[0].expand(2, -1, -1, -1), distorted)
        assert sum(passes) == 1
        for column, metric, before in zip(table.unbind(1), metrics, apart, strict=True):
            assert torch.equal(column[:1], metric(*pair))
            assert column[0].item() == pytest.approx(before.item(), rel=1e-5)
            assert column[1] == 0
        with together.reference(pair[0]) as shared:
            assert torch.equal(shared.score(distorted), table)
    with (
        pytest.raises(ValueError, match="ask each metric for its own"),
        together.reference(pair[0]) as shared,
    ):
        shared.score(distorted, map=True)
    with pytest.raises(ValueError, match="at least one"):
        DistancesTogether([])
