"""Records of backbones: what they say is true, and their weights are checked."""

import csv
import re
from collections import Counter

import pytest
import torch
from material import SHARED, names_what_it_sees
from torch import nn
from torchvision import models
from torchvision.models import detection, segmentation

from iqa_metrics import (
    BACKBONES,
    Backbone,
    DeepDistance,
    FeatureReadouts,
    ImageError,
    InputScaling,
    UnknownNameError,
    WeightsError,
    backbone,
    create_metric,
    parse_spec,
)
from iqa_metrics.weights.checkpoints import read_checkpoint, read_state_dict


@pytest.fixture
def here(real_weights, monkeypatch):
    """Let the library find the real networks."""
    monkeypatch.setenv("IQA_WEIGHTS", str(real_weights))


def test_records_are_distinct_and_say_what_they_are():
    assert [name for name, count in Counter(r.name for r in BACKBONES).items() if count > 1] == []
    for record in BACKBONES:
        assert record.goal
        assert record.architecture
        assert not set(record.name) & set(":+* ")
        if record.goal == "untrained":
            assert (record.weights, record.data, record.seed) == (None, "", 0)
            continue
        assert record.data
        assert record.environment
        assert record.weights.licence
        assert record.weights.source
    files = {}
    for record in BACKBONES:
        if record.weights is not None:
            # Two records may share a file, and then mean the same one.
            assert files.setdefault(record.weights.filename, record.weights) == record.weights


def test_records_agree_with_torchvision():
    """There is a record for each published training of each network, with URL, score and input."""
    urls = {record.weights.url: record for record in BACKBONES if record.weights}
    for module in (models, segmentation, detection):
        for name in models.list_models(module=module):
            for weights in models.get_model_weights(name):
                record = urls[weights.url]
                assert weights.url.endswith(f"-{record.weights.sha256}.pth")
                assert record.parameters == weights.meta["num_params"]
                if module is not detection and name not in ("googlenet", "inception_v3"):
                    assert record.scaling.mean == tuple(weights.transforms().mean)
                if module is detection:
                    with torch.device("meta"):
                        network = record.build()
                    assert record.scaling.mean == tuple(network.transform.image_mean)
                    assert record.scaling.std == tuple(network.transform.image_std)


def test_networks_that_transform_their_input_get_the_right_input():
    """torchvision's GoogLeNet takes ImageNet's scaling and transforms it itself."""
    record = backbone("googlenet")
    network = models.googlenet(init_weights=False, transform_input=True).eval()
    images = torch.rand(1, 3, 8, 8)
    imagenet = backbone("resnet50").scaling
    expected = network._transform_input(imagenet.apply(images))
    torch.testing.assert_close(record.scaling.apply(images), expected, rtol=1e-5, atol=1e-5)


def test_a_network_builds_with_the_keys_of_its_published_file():
    """For networks that need options, as far as torchvision's own builders show the keys."""
    for name in ("googlenet", "inception_v3", "fcn_resnet50", "fasterrcnn_resnet50_fpn"):
        record = backbone(name)
        options = record.build.keywords or record.build.args[0].keywords
        assert options["weights"] is None
        with torch.device("meta"):
            keys = set(record.build().state_dict())
        assert any("aux" in key.lower() for key in keys) is (name != "fasterrcnn_resnet50_fpn")


def test_frozen_normalisation_has_torchvisions_epsilon():
    for name, epsilon in (
        *(("fasterrcnn_resnet50_fpn", 0.0), ("retinanet_resnet50_fpn", 0.0)),
        *(("keypointrcnn_resnet50_fpn.legacy", 1e-5), ("fasterrcnn_resnet50_fpn_v2", 1e-5)),
    ):
        with torch.device("meta"):
            network = backbone(name).build()
        norms = [m for m in network.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
        assert {norm.eps for norm in norms} == {epsilon}, name


def test_the_zoo_is_the_one_that_was_published():
    """Every row of the facts beside the repository is a record with the same facts."""
    path = SHARED / "facts" / "pretrained_checkpoints.csv"
    if not path.is_file():
        pytest.skip("shared/facts is not beside this checkout")
    records = {record.weights.url: record for record in BACKBONES if record.weights}
    methods = {
        **{"Supervised": "", "Semi-supervised": "semi-supervised", "Jigsaw": "jigsaw"},
        **{"Semi-weakly supervised": "semi-weakly supervised", "Colorization": "colorization"},
        **{"RotNet": "rotation", "DeepCluster": "clustering", "ClusterFit": "clustering"},
        **{"NPID": "instance discrimination", "NPID++": "instance discrimination"},
        **{"PIRL": "contrastive", "SimCLR": "contrastive", "DeepClusterV2": "clustering"},
        **{"SwAV": "clustering", "MoCo-v2": "contrastive", "MoCo-v3": "contrastive"},
        **{"Barlow Twins": "redundancy reduction", "DINO": "self-distillation"},
    }
    data = {
        **{"ImageNet": "ImageNet-1k", "ImageNet-1K": "ImageNet-1k", "ImageNet-22K": "ImageNet-22k"},
        "YFCC100M - ImageNet": "YFCC100M + ImageNet-1k",
        "Public Instagram Images - ImageNet": "Instagram-940M + ImageNet-1k",
    }
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            record = records[row["url"]]
            assert record.method == methods[row["method"]]
            assert record.data == data.get(row["pretraining_data"], row["pretraining_data"])
            assert record.score == (float(row["imagenet_linear_top1"] or 0) or None)
            if row["paper"]:
                assert record.paper == f"arXiv:{row['paper'].rsplit('/', 1)[1]}"
            short = {"RN": "ResNet-", "AlexNet": "AlexNet", "Alexnet": "AlexNet", "ViT": "ViT-"}
            stated = re.match(r"RN|Ale[a-zN]+|ViT|ResNet|DenseNet", row["model"])[0]
            assert record.architecture.startswith(short.get(stated, stated))


# The record ---------------------------------------------------------------------------------------


def test_unknown_names_are_answered_with_near_ones():
    with pytest.raises(UnknownNameError, match="did you mean 'mobilenet_v2'"):
        backbone("mobilenetv2")
    with pytest.raises(UnknownNameError, match="did you mean 'block12'"):
        backbone("efficientnet_lite0").layer("blok12")
    with pytest.raises(UnknownNameError, match=r"did you mean 'layer1\.0\.conv2'"):
        backbone("resnet18").layer("layer1.0.conv22")


def test_every_module_can_be_read_out():
    record = backbone("resnet18")
    assert {layer.name for layer in record.modules} > {"layer1.0.conv2", "layer4.1.bn2", "layer3"}
    spec = "resnet18:layer1.0.conv2+layer2:rmse:sum"
    assert str(parse_spec(spec)) == spec
    assert record.in_order(["layer2", "conv1", "layer1.0.conv2"]) == (
        *("conv1", "layer1.0.conv2", "layer2"),
    )


def test_layers_and_modules_are_in_execution_order():
    record = backbone("mobilenet_v2")
    assert record.in_order(["block3", "3.conv.3"]) == ("3.conv.3", "block3")
    trunk = record.build()
    x, y = torch.rand(2, 1, 3, 64, 64)
    together = FeatureReadouts(record, {"block3": ["rmse"], "3.conv.3": ["rmse"]}, trunk=trunk)
    for name, values in together(x, y).items():
        alone = DeepDistance(record, name, "rmse", trunk=trunk)(x, y)
        torch.testing.assert_close(values["rmse"], alone)


def test_threads_measure_the_same():
    from concurrent.futures import ThreadPoolExecutor
    from dataclasses import replace

    expected = {layer.name: layer.smallest_input for layer in backbone("squeezenet1_0").layers}
    fresh = replace(backbone("squeezenet1_0"), note="measured again")
    assert fresh.layers
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(
            lambda _: {layer.name: layer.smallest_input for layer in fresh.layers}, range(4)
        )
        assert list(found) == [expected] * 4


def test_the_network_is_frozen_and_in_eval_mode():
    network = backbone("efficientnet_lite0").network()
    assert not any(p.requires_grad for p in network.parameters())
    assert not any(m.training for m in network.modules())
    assert not any(t.is_meta for t in network.state_dict().values())


def test_untrained_networks_are_the_same_each_time_and_seeds_differ():
    record = backbone("squeezenet1_1.untrained")
    before = torch.random.get_rng_state()
    first, again = record.network(), record.network()
    assert torch.equal(before, torch.random.get_rng_state())
    other = backbone("squeezenet1_1").untrained(seed=1)
    assert other.name == "squeezenet1_1.untrained1"
    for a, b, c in zip(*(n.parameters() for n in (first, again, other.network())), strict=True):
        assert torch.equal(a, b)
        if a.ndim > 1:
            assert not torch.equal(a, c)
    x, y = torch.rand(2, 1, 3, 64, 64)
    metric = create_metric("squeezenet1_1.untrained:fire9:euclidean")
    assert metric(x, y) > 0
    assert metric(x, x) == 0


def test_a_network_that_takes_only_one_size_says_so():
    record = backbone("maxvit_t")
    assert record.input_size == 224
    metric = DeepDistance(record, record.layers[0].name, trunk=models.maxvit_t(weights=None))
    with pytest.raises(
        ImageError, match=r"needs images of exactly 224x224 pixels, got 240x224"
    ) as caught:
        metric(torch.rand(1, 3, 224, 240), torch.rand(1, 3, 224, 240))
    assert caught.value.code == "wrong_size"


def test_inputs_are_scaled_as_networks_expect_them():
    images = torch.rand(2, 3, 4, 4)
    scaling = InputScaling(255.0, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0), "BGR")
    expected = (images.flip(1) * 255 - torch.tensor([1.0, 2, 3]).view(3, 1, 1)) / torch.tensor(
        [4.0, 5, 6]
    ).view(3, 1, 1)
    torch.testing.assert_close(scaling.apply(images), expected)
    for bad in (
        {"peak": 1, "mean": (0,), "std": (1,)},
        {"peak": 1, "mean": (0,) * 3, "std": (0,) * 3},
        {"peak": 1, "mean": (0,) * 3, "std": (1,) * 3, "order": "GBR"},
    ):
        with pytest.raises(ValueError, match="expected"):
            InputScaling(**bad)


def test_lightness_is_that_of_cie_lab():
    from skimage.color import rgb2lab

    images = torch.rand(1, 3, 16, 16)
    images[..., :4] *= 0.01  # where the curves are straight lines
    images.requires_grad_()
    scaling = InputScaling(100.0, (0.0,), (1.0,), "L")
    found = scaling.apply(images)
    expected = torch.from_numpy(rgb2lab(images[0].detach().numpy(), channel_axis=0)[0])
    torch.testing.assert_close(found[0, 0].detach(), expected, rtol=1e-4, atol=1e-4)
    found.sum().backward()
    assert torch.isfinite(images.grad).all()
    assert scaling.apply(torch.zeros(1, 3, 1, 1)).item() == 0


def test_a_module_of_ones_own():
    network = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    record = Backbone.from_module(
        network, {"relu": "1"}, InputScaling(100.0, (50.0,), (10.0,), "L"), name="mine", goal="x"
    )
    metric = DeepDistance(record, "relu")
    assert metric.name == "mine:relu:euclidean"
    x, y = torch.rand(2, 1, 3, 32, 24)
    value = metric(x, y)
    with torch.no_grad():
        a, b = (network[:2](record.scaling.apply(images)) for images in (x, y))
        network[0].weight.zero_()
    assert value.item() == pytest.approx((a - b).norm().item(), rel=1e-5)
    assert metric(x, y) == value
    assert [layer.name for layer in Backbone.from_module(models.resnet18()).layers] == [
        *("conv1", "relu", "maxpool"),
        *(f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)),
        *("avgpool", "fc"),
    ]
    with pytest.raises(ValueError, match="can't be initialised again"):
        record.untrained()
    with pytest.raises(UnknownNameError, match="module"):
        Backbone.from_module(network, {"relu": "7"})
    with pytest.raises(ValueError, match="name"):
        Backbone.from_module(network, {"relu": "1"}, name="a:b")


# Real weights -------------------------------------------------------------------------------------


def whole_network(record, path):
    whole = record.build().eval()
    state = read_state_dict(path)
    whole.load_state_dict({key: value.float() for key, value in state.items()})
    return whole


def test_the_embedded_network_names_what_it_sees():
    """It classifies scikit-image's photographs correctly, so scaling and weights are right."""
    record = backbone("efficientnet_lite0")
    assert names_what_it_sees(whole_network(record, record.weights.verified()), record.scaling)


@pytest.mark.parametrize("number", [1, 2])
def test_the_larger_ones_name_it_too(number):
    record = backbone(f"efficientnet_lite{number}")
    if record.weights.find() is None:
        pytest.skip("iqa-metrics[lite] is not installed")
    assert names_what_it_sees(whole_network(record, record.weights.verified()), record.scaling)
    assert record.network()(torch.rand(1, 3, 64, 64)).shape[1] == record.layers[-1].channels


def test_torchvisions_mobilenet_names_what_it_sees(here, real_weights):
    record = backbone("mobilenet_v2")
    assert names_what_it_sees(whole_network(record, record.weights.verified()), record.scaling)


def test_missing_weights_say_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("IQA_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError) as caught:
        backbone("vgg16").network()
    for words in ("iqa weights fetch", "vgg16-397923af.pth", "https://", "IQA_WEIGHTS"):
        assert words in str(caught.value)


def test_damaged_weights_are_refused(tmp_path, monkeypatch, here, real_weights):
    name = backbone("mobilenet_v2").weights.filename
    damaged = bytearray((real_weights / name).read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / name).write_bytes(damaged)
    monkeypatch.setenv("IQA_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match=r"expected SHA-256 b0353104\.\.\., got [0-9a-f]{64}"):
        backbone("mobilenet_v2").network()


def test_weights_of_another_network_are_refused_with_the_keys(tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"0.weight": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match="does not fit") as caught:
        backbone("mobilenet_v2").network(path)
    assert "Missing key" in str(caught.value)
    assert "Unexpected key" in str(caught.value)


def test_a_checkpoint_with_code_in_it_is_refused(tmp_path):
    path = tmp_path / "code.pth"
    torch.save(torch.nn.Linear(1, 1), path)
    with pytest.raises(WeightsError, match="can't be read as weights"):
        read_checkpoint(path)
