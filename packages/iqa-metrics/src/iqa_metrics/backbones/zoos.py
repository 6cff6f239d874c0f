"""Zoos of differently trained networks: VISSL's self-supervised ones, and those of Places.

Names, top-1 accuracies and addresses are facts of the zoos' own pages. Neither publishes hashes: a
file's SHA-256 is recorded when it first comes, and compared ever after.

References
----------
P. Goyal et al., "VISSL", 2021, github.com/facebookresearch/vissl, whose configurations state the
inputs; B. Zhou, A. Lapedriza, A. Khosla, A. Oliva and A. Torralba, "Places", TPAMI 2018.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from torch import nn
from torchvision import models

from iqa_metrics.backbones.alexnets import alexnet, from_blocks
from iqa_metrics.backbones.finding import Names, blocks, counted, residual
from iqa_metrics.backbones.record import Backbone
from iqa_metrics.backbones.scaling import IMAGENET, InputScaling
from iqa_metrics.backbones.torchvision_models import features_of, older_densenet_keys
from iqa_metrics.backbones.vision_transformers import AnySizeTransformer, from_timm_keys
from iqa_metrics.backbones.zoo_trainings import PLACES, TRAININGS, Training
from iqa_metrics.weights.checkpoints import State
from iqa_metrics.weights.files import WeightsFile

_LIGHTNESS = InputScaling(peak=100.0, mean=(0.0,), std=(1.0,), order="L")
_CAFFE = InputScaling(peak=255.0, mean=(123.675, 116.28, 103.53), std=(1.0,) * 3)


_SUPERVISED = {"", "semi-supervised", "semi-weakly supervised"}


@dataclass(frozen=True)
class _Network:
    """How a zoo's network is built, and the state dict found in its files."""

    build: Callable[[], nn.Module]
    trunk: Callable[[nn.Module], nn.Module]
    names: Names
    unpack: Callable[[State], State]
    scaling: InputScaling = IMAGENET
    family: str = ""
    kind: str = ""
    depth: int | None = None
    note: str = ""


def zoo_backbones() -> Iterator[Backbone]:
    """Yield the networks of VISSL's zoo and of Places."""
    for row in TRAININGS:
        network = _network(row)
        yield Backbone(
            name=row.name,
            architecture=row.network,
            family=network.family,
            kind=network.kind,
            depth=network.depth,
            goal="classification" if row.method in _SUPERVISED else "self-supervised",
            method=row.method,
            data=row.data,
            environment=row.environment,
            recipe=row.recipe,
            score=row.score,
            score_of="" if row.score is None else "top-1 of a linear classifier on it, %",
            paper=row.paper,
            scaling=network.scaling,
            weights=_file(row),
            build=network.build,
            trunk=network.trunk,
            names=network.names,
            unpack=network.unpack,
            note=network.note,
        )


def _file(row: Training) -> WeightsFile:
    if row.environment == "torchvision":
        filename = row.url.rsplit("/", 1)[1]
        digits = filename.removesuffix(".pth").rsplit("-", 1)[1]
        return WeightsFile(filename, digits, "BSD-3-Clause", "torchvision", row.url)
    of_places = row.url.startswith(PLACES)
    filename = row.url.rsplit("/", 1)[1]
    if filename.startswith("model_final_checkpoint"):  # which many of VISSL's are called
        filename = f"{row.name}.torch"
    return WeightsFile(
        filename=filename,
        sha256="",
        licence="CC-BY" if of_places else "MIT",
        source="Places365" if of_places else "VISSL's model zoo",
        url=row.url,
    )


def _network(row: Training) -> _Network:
    if row.data == "Places365":
        name = row.name.removesuffix(".places365")
        return _Network(
            partial(models.get_model_builder(name), weights=None, num_classes=365),
            features_of,
            *_of_torchvision(name),
        )
    variant = re.fullmatch(r"AlexNet \((\w+)\)", row.network)
    if variant:
        scaling = {"colorization": _LIGHTNESS, "CaffeNet": _CAFFE}.get(variant[1], IMAGENET)
        return _Network(
            *(partial(alexnet, variant[1]), _itself, _without_filters),
            partial(_of_alexnet, variant[1]),
            scaling,
            *("AlexNet", variant[1], 8),
        )
    if row.network.startswith("ViT"):
        small = row.network == "ViT-S/16"
        build = partial(
            models.VisionTransformer,
            image_size=224,
            patch_size=16,
            num_layers=12,
            num_heads=6 if small else 12,
            hidden_dim=384 if small else 768,
            mlp_dim=4 * (384 if small else 768),
            norm_layer=partial(nn.LayerNorm, eps=1e-5 if row.environment == "VISSL" else 1e-6),
        )
        return _Network(
            *(build, AnySizeTransformer, blocks, _of_transformer, IMAGENET, "ViT", row.network[4:]),
            note="the layout of this file was not checked against the file",
        )
    depth = int(re.sub(r"\D", "", row.network))
    lightness = "lightness" in row.network
    return _Network(
        _resnet50_of_lightness if lightness else models.get_model_builder(f"resnet{depth}"),
        features_of,
        residual,
        _of_resnet,
        _LIGHTNESS if lightness else IMAGENET,
        *("ResNet", "lightness" if lightness else "", depth),
    )


def _of_torchvision(
    name: str,
) -> tuple[Names, Callable[[State], State], InputScaling, str, str, int]:
    names = counted if name == "alexnet" else blocks if name.startswith("dense") else residual
    family = {"a": "AlexNet", "d": "DenseNet", "r": "ResNet"}[name[0]]
    depth = int(re.sub(r"\D", "", name) or 8)
    return names, _of_places, IMAGENET, family, "", depth


def _itself(network: nn.Module) -> nn.Module:
    return network


def _without_filters(network: nn.Module) -> dict[str, str]:
    """Name an AlexNet's layers; what makes grey and its gradients is no layer."""
    return {path: path for path in blocks(network) if path not in ("grey", "sobel")}


def _resnet50_of_lightness() -> nn.Module:
    """Build the ResNet-50 that saw lightness alone, whose last stage keeps the resolution."""
    network: nn.Module = models.resnet50()
    network.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    first = network.get_submodule("layer4.0")
    for path in ("conv2", "downsample.0"):
        setattr(first.get_submodule(path), "stride", (1, 1))  # noqa: B010 - typed as a module
    return network


# State dicts ------------------------------------------------------------------------------------


def _inside(state: State) -> State:
    """Return the state dict that lies in a checkpoint of VISSL's, its keys without prefixes."""
    for keys in (
        ("classy_state_dict", "base_model", "model", "trunk"),
        ("model_state_dict",),
        ("state_dict",),
    ):
        found: object = state
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        if isinstance(found, dict):
            return found
    return state


_HEADS = (
    "fc.",
    "projection_head.",
    "prototypes",
    "heads.",
    "head.",
    "momentum_encoder.",
    "predictor.",
)


def _without_heads(state: State) -> State:
    """Leave out what training had on top of the trunk."""
    return {key: value for key, value in state.items() if not key.startswith(_HEADS)}


def _stripped(state: State, *prefixes: str) -> State:
    stripped = {}
    for key, value in state.items():
        for prefix in prefixes:
            key = key.removeprefix(prefix)
        stripped[key] = value
    return stripped


def _of_resnet(state: State) -> State:
    return _without_heads(_stripped(_inside(state), "_feature_blocks.", "module."))


def _of_transformer(state: State) -> State:
    stripped = _stripped(_inside(state), "_feature_blocks.", "module.", "base_encoder.")
    return from_timm_keys(_without_heads(stripped))


def _of_alexnet(variant: str, state: State) -> State:
    return from_blocks(variant, _inside(state))


def _of_places(state: State) -> State:
    """Return torchvision's keys, given such as ``features.module.0.weight``."""
    flat = {key.replace("module.", ""): value for key, value in _inside(state).items()}
    return older_densenet_keys(flat)
