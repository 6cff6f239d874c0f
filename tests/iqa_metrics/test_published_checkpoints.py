"""Checkpoints in the layouts of their publishers give the same feature maps as a plain file."""

import re
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file

from iqa_metrics import (
    WeightsError,
    WeightsFile,
    backbone,
)


def wrapped(record, state, layout):
    """Put a state dict into a checkpoint as its publisher does."""
    blocks = {
        key if key.startswith("sobel.") else f"_feature_blocks.{key}": value
        for key, value in state.items()
    }
    return {
        "classy": {"classy_state_dict": {"base_model": {"model": {"trunk": blocks, "heads": {}}}}},
        "converted": {"model_state_dict": blocks},
        "bare": blocks,
        "tar": {f"module.{key}": value for key, value in state.items()}
        | dict.fromkeys(
            ("module.prototypes.weight", "module.projection_head.0.bias"), torch.ones(1)
        ),
        "places": {"epoch": 90, "state_dict": {f"module.{k}": v for k, v in state.items()}},
    }[layout]


def published(record, checkpoint, tmp_path, monkeypatch):
    """Write a checkpoint where the record's file is expected."""
    monkeypatch.setenv("IQA_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    torch.save(checkpoint, tmp_path / record.weights.filename)


@pytest.mark.filterwarnings("ignore::iqa_metrics.FirstSightWarning")
@pytest.mark.parametrize(
    ("name", "layout"),
    [
        *(("resnet50.simclr_100ep", "classy"), ("resnet50.caffe2", "converted")),
        *(("resnet50.barlow_twins_300ep", "bare"), ("resnet50.swav_800ep", "tar")),
        *(("resnet50.colorization_in1k_goyal19", "converted"), ("resnet18.places365", "places")),
        *(("alexnet.caffenet", "converted"), ("alexnet.jigsaw_yfcc100m_goyal19", "converted")),
        *(("alexnet.colorization_in22k_goyal19", "converted"), ("alexnet.rotnet", "converted")),
        *(("alexnet.deepcluster", "converted"), ("vit_s_16.dino_300ep", "classy")),
        *(("alexnet.places365", "places"), ("densenet161.places365", "places")),
        ("vit_b_16.mocov3_300ep", "tar"),
    ],
)
def test_a_checkpoint_in_its_published_layout_gives_the_same_feature_maps(
    name, layout, tmp_path, monkeypatch
):
    record = backbone(name)
    torch.manual_seed(1)
    whole = record.build().eval()
    state = theirs(name, whole.state_dict())
    published(record, wrapped(record, state, layout), tmp_path, monkeypatch)
    loaded = record.network()
    images = torch.rand(1, record.scaling.channels, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(
            loaded(images), record.trunk(whole)(images), rtol=1e-6, atol=1e-6
        )
    damaged = dict(state)
    damaged.pop(next(key for key in state if key.endswith("weight")))
    damaged["surplus"] = torch.zeros(1)
    # The first sight's record is of the good file.
    published(record, wrapped(record, damaged, layout), tmp_path, monkeypatch)
    (tmp_path / "torch" / "hub" / "checkpoints" / f"{record.weights.filename}.sha256").unlink()
    with pytest.raises(WeightsError, match=r"does not fit.*Missing key.*Unexpected key.*surplus"):
        record.network()


def of_an_older_release(name, state):
    """Rename parameters as in torchvision's older published files of a network."""
    renamed = OrderedDict()
    for key, value in state.items():
        for now, then in (
            (r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2"),
            (r"mlp\.0\.", "mlp.linear_1."),
            (r"mlp\.3\.", "mlp.linear_2."),
            (r"(inner_blocks|layer_blocks)\.(\d)\.0\.", r"\1.\2."),
            (r"rpn\.head\.conv\.0\.0\.", "rpn.head.conv."),
        ):
            key = re.sub(now, then, key)
        if "backbone.body" not in key or "num_batches_tracked" not in key:
            renamed[key] = value
    return renamed


@pytest.mark.parametrize(
    "name",
    ["densenet121", "vit_b_32", "fasterrcnn_resnet50_fpn", "mnasnet0_5", "googlenet", "swin_t"],
)
def test_published_files_of_older_releases_load(name, tmp_path, monkeypatch):
    record = backbone(name)
    monkeypatch.setenv("IQA_WEIGHTS", str(tmp_path))
    torch.manual_seed(1)
    whole = record.build().eval()
    today = whole.state_dict()
    state = today if name in ("swin_t", "mnasnet0_5") else of_an_older_release(name, today)
    if name not in ("swin_t", "mnasnet0_5"):
        state._metadata = OrderedDict({"": {"version": 1}})
    torch.save(state, tmp_path / record.weights.filename)
    monkeypatch.setattr(WeightsFile, "check", lambda *_: None)  # it is not the published one
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(record.network()(images), record.trunk(whole)(images))
    state.pop(next(key for key in state if key.endswith("weight")))
    torch.save(state, tmp_path / record.weights.filename)
    with pytest.raises(WeightsError, match="Missing key") as caught:
        record.network()
    assert "num_batches" not in str(caught.value)


def test_a_file_without_a_version_has_current_keys(tmp_path):
    record = backbone("mnasnet0_5")
    torch.manual_seed(1)
    trunk = record.trunk(record.build()).eval()
    save_file(trunk.state_dict(), tmp_path / "x.safetensors")
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(
            record.network(tmp_path / "x.safetensors")(images), trunk(images)
        )


ALEXNET_BLOCKS = ("conv1", "pool1", "conv2", "pool2", "conv3", "conv4", "conv5", "pool5")


def theirs(name, state):
    """Rename a network's parameters as their publisher does."""
    renamed = {}
    for key, value in state.items():
        match = re.fullmatch(r"(conv|bn)(\d)\.(\w+)", key)
        if name.startswith("alexnet.") and match:
            block = ALEXNET_BLOCKS.index(f"conv{match[2]}")
            key = f"{block}.{'01'[match[1] == 'bn']}.{match[3]}"
        if name == "alexnet.deepcluster":
            key = re.sub("^sobel", "sobel.1", key) if key.startswith("sobel") else key
            key = re.sub("^grey", "sobel.0", key)
        if name == "alexnet.places365":
            key = key.replace("features.", "features.module.")
        if name == "densenet161.places365":
            key = re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", key)
        if name.startswith("vit_"):
            for ours, others in (
                *((r"^class_token$", "cls_token"), (r"^encoder\.pos_embedding$", "pos_embed")),
                *((r"^conv_proj\.", "patch_embed.proj."), (r"^encoder\.ln\.", "norm.")),
                (r"^encoder\.layers\.encoder_layer_", "blocks."),
                *((r"\.ln_(\d)\.", r".norm\1."), (r"self_attention\.in_proj_", "attn.qkv.")),
                (r"self_attention\.out_proj\.", "attn.proj."),
                *((r"mlp\.0\.", "mlp.fc1."), (r"mlp\.3\.", "mlp.fc2.")),
            ):
                key = re.sub(ours, others, key)
        renamed[key] = value
    if name.startswith("vit_"):
        renamed = {key: value for key, value in renamed.items() if not key.startswith("heads.")}
    elif name.startswith("resnet") and "places" not in name:
        renamed = {key: value for key, value in renamed.items() if not key.startswith("fc.")}
    return renamed
