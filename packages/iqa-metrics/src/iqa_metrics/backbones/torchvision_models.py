"""torchvision's networks, read from its own catalogue of weights.

Every classifier, and the backbone of every segmentation and detection network, with each of the
weights that the installed torchvision publishes: a new release brings its networks without a line
here. What its catalogue does not say - the family's name, its paper, where the layers lie - is in
:data:`_FAMILIES`; a network of an unknown family goes by torchvision's name, and its layers are
found in the whole network.
"""

import math
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import nn
from torchvision import models
from torchvision.models import detection, segmentation

from iqa_metrics.backbones.finding import Names, blocks, counted, residual, staged
from iqa_metrics.backbones.record import Backbone
from iqa_metrics.backbones.scaling import HALVES, IMAGENET, InputScaling
from iqa_metrics.backbones.vision_transformers import AnySizeTransformer
from iqa_metrics.weights.checkpoints import State
from iqa_metrics.weights.files import WeightsFile


@dataclass(frozen=True)
class _Family:
    """What torchvision's catalogue leaves open about networks with names like ``pattern``.

    The pattern's first group is put into ``architecture``; where ``counts_layers`` it is the depth.
    """

    pattern: str
    family: str
    architecture: str
    paper: str
    names: Names = blocks
    counts_layers: bool = False
    depth: int | None = None
    kind: str = ""


_STAGES = partial(counted, stages=True)
_FAMILIES = (
    _Family("alexnet", "AlexNet", "AlexNet", "arXiv:1404.5997", counted, depth=8),
    _Family(r"vgg(\d+)", "VGG", "VGG-{}", "arXiv:1409.1556", _STAGES, True),
    _Family(r"vgg(\d+)_bn", "VGG", "VGG-{} BN", "arXiv:1409.1556", _STAGES, True, kind="BN"),
    _Family(r"resnet(\d+)", "ResNet", "ResNet-{}", "arXiv:1512.03385", residual, True),
    _Family(r"resnext(\d+)_(\w+)", "ResNeXt", "ResNeXt-{} {}", "arXiv:1611.05431", residual, True),
    _Family(
        *(r"wide_resnet(\d+)_2", "Wide ResNet", "Wide ResNet-{}-2", "arXiv:1605.07146"),
        *(residual, True),
    ),
    _Family(r"densenet(\d+)", "DenseNet", "DenseNet-{}", "arXiv:1608.06993", blocks, True),
    _Family("squeezenet1_0", "SqueezeNet", "SqueezeNet 1.0", "arXiv:1602.07360", counted, depth=18),
    _Family("squeezenet1_1", "SqueezeNet", "SqueezeNet 1.1", "arXiv:1602.07360", counted, depth=18),
    _Family("googlenet", "Inception", "GoogLeNet", "arXiv:1409.4842", depth=22),
    _Family("inception_v3", "Inception", "Inception v3", "arXiv:1512.00567", depth=48),
    _Family("mobilenet_v2", "MobileNetV2", "MobileNetV2", "arXiv:1801.04381", staged),
    _Family(r"mobilenet_v3_(\w+)", "MobileNetV3", "MobileNetV3 {}", "arXiv:1905.02244", staged),
    _Family(r"mnasnet(\d_\d+)", "MnasNet", "MnasNet {}", "arXiv:1807.11626"),
    _Family(r"shufflenet_v2_x(\d_\d)", "ShuffleNetV2", "ShuffleNetV2 x{}", "arXiv:1807.11164"),
    _Family(r"efficientnet_(b\d)", "EfficientNet", "EfficientNet-{}", "arXiv:1905.11946", staged),
    _Family(
        *(r"efficientnet_v2_(\w)", "EfficientNetV2", "EfficientNetV2-{}", "arXiv:2104.00298"),
        staged,
    ),
    _Family(r"convnext_(\w+)", "ConvNeXt", "ConvNeXt {}", "arXiv:2201.03545", staged),
    _Family(r"regnet_(\w)_(\w+)", "RegNet", "RegNet{} {}", "arXiv:2003.13678"),
    _Family(r"vit_(\w)_(\d+)", "ViT", "ViT-{}/{}", "arXiv:2010.11929"),
    _Family(r"swin_([tsb])", "Swin", "Swin-{}", "arXiv:2103.14030", staged),
    _Family(r"swin_v2_([tsb])", "Swin V2", "Swin V2-{}", "arXiv:2111.09883", staged),
    _Family(r"maxvit_(\w)", "MaxViT", "MaxViT-{}", "arXiv:2204.01697"),
)
_UPPER = {"EfficientNet", "EfficientNetV2", "RegNet", "ViT", "Swin", "Swin V2", "MaxViT"}

_TASKS = (
    # What the network is named after, its goal, the paper, and the network inside.
    ("fcn", "segmentation", "FCN, arXiv:1411.4038"),
    ("deeplabv3", "segmentation", "DeepLabV3, arXiv:1706.05587"),
    ("lraspp", "segmentation", "LR-ASPP, arXiv:1905.02244"),
    ("fasterrcnn", "detection", "Faster R-CNN, arXiv:1506.01497"),
    ("fcos", "detection", "FCOS, arXiv:1904.01355"),
    ("retinanet", "detection", "RetinaNet, arXiv:1708.02002"),
    ("ssdlite", "detection", "SSDLite, arXiv:1801.04381"),
    ("ssd", "detection", "SSD, arXiv:1512.02325"),
    ("maskrcnn", "instance segmentation", "Mask R-CNN, arXiv:1703.06870"),
    ("keypointrcnn", "keypoint detection", "Mask R-CNN, arXiv:1703.06870"),
)
_VGG_OF_SSD = InputScaling(1.0, (0.48235, 0.45882, 0.40784), (1 / 255,) * 3)

# Networks whose forward calls these children one after another, but for the head.
_CHAINS = {"ResNet", "GoogLeNet", "Inception3", "MNASNet", "ShuffleNetV2", "RegNet", "MaxVit"}
_HEADS = {"avgpool", "dropout", "fc", "classifier", "aux1", "aux2", "AuxLogits"}


def torchvision_backbones() -> Iterator[Backbone]:
    """Yield the networks of the installed torchvision: trained, then the untrained controls."""
    classifiers = [name for name in models.list_models(module=models) if _weights_of(name)]
    trained = [record for name in classifiers for record in _classifiers(name)]
    yield from trained
    for module in (segmentation, detection):
        for name in models.list_models(module=module):
            yield from _dense(name)
    of_architecture: dict[str, Backbone] = {}
    for record in trained:
        of_architecture.setdefault(record.name.split(".")[0], record)
    for name, record in of_architecture.items():
        build = record.build
        if isinstance(build, partial) and "init_weights" in build.keywords:
            # Left out where a file's weights replace them at once.
            build = partial(build, init_weights=True)
        yield replace(record, name=name, build=build).untrained()


def _weights_of(name: str) -> list[Any]:
    return list(models.get_model_weights(name))


def _classifiers(name: str) -> Iterator[Backbone]:
    for weights in _weights_of(name):
        transforms = weights.transforms()
        scaling = InputScaling(1.0, tuple(transforms.mean), tuple(transforms.std))
        if name in ("googlenet", "inception_v3"):
            scaling = HALVES  # torchvision takes ImageNet's scaling back in the network itself
        options: dict[str, Any] = {}
        if name in ("googlenet", "inception_v3"):
            options = {"aux_logits": True, "init_weights": False}
        if name.startswith("vit_"):
            options = {"image_size": weights.meta["min_size"][0]}
        data, method = _data(weights.name)
        metrics = weights.meta.get("_metrics", {}).get("ImageNet-1K", {})
        score = metrics.get("acc@1")
        yield _record(
            name,
            name,
            weights,
            build=partial(models.get_model_builder(name), weights=None, **options),
            trunk=features_of,
            scaling=scaling,
            goal="classification",
            method=method,
            data=data,
            score=None if score is None or math.isnan(score) else score,
            score_of="ImageNet-1k top-1 accuracy, %",
        )


def _dense(name: str) -> Iterator[Backbone]:
    """Describe the backbone of a segmentation or detection network."""
    task = next((t for t in _TASKS if name.startswith(t[0])), None)
    if task is None:  # one that this version does not know
        return
    prefix, goal, paper = task
    inside = re.sub(r"^[a-z]*\d*_|_fpn.*|_320", "", name)
    scaling = IMAGENET
    options: dict[str, Any] = {"weights": None, "weights_backbone": None}
    if goal == "segmentation":
        if prefix != "lraspp":
            options["aux_loss"] = True  # the files have it
        trunk = _segmentation_trunk
    elif prefix == "ssd":
        trunk, scaling = _ssd_trunk, _VGG_OF_SSD
    elif prefix == "ssdlite":
        trunk, scaling = _ssdlite_trunk, HALVES
    else:
        trunk = _detection_trunk
    for weights in _weights_of(name):
        values = [
            value
            for metrics in weights.meta.get("_metrics", {}).values()
            for key, value in metrics.items()
            if key in ("miou", "box_map", "kp_map", "mask_map")
        ]
        # torchvision sets this for the weights that it took over from Caffe2-style training.
        frozen = prefix != "fcos" and re.fullmatch(r"[a-z]+rcnn_resnet50_fpn|retina\w+_fpn", name)
        build = partial(models.get_model_builder(name), **options)
        yield _record(
            name,
            inside,
            weights,
            build=partial(_without_epsilon, build) if frozen and "V1" in weights.name else build,
            trunk=trunk,
            scaling=scaling,
            goal=goal,
            method="",
            data="COCO",
            start="" if prefix == "ssdlite" else "ImageNet-1k",
            score=max(values, default=None),
            score_of="mean IoU, %" if goal == "segmentation" else "COCO mAP",
            paper=paper,
            note=_note(goal, inside),
        )


def _note(goal: str, inside: str) -> str:
    """Say what segmentation changes about a classifier."""
    if goal != "segmentation":
        return ""
    return f"dilated: output stride {16 if 'mobilenet' in inside else 8}"


def _record(name: str, network: str, weights: Any, **factors: Any) -> Backbone:
    family = next((f for f in _FAMILIES if re.fullmatch(f.pattern, network)), None)
    groups = re.fullmatch(family.pattern, network).groups() if family else ()  # type: ignore[union-attr]
    shown = [g.upper() if family and family.family in _UPPER else g for g in groups]
    shown = [re.sub(r"(?<=\d)_(?=\d)", ".", text).replace("_", " ") for text in shown]
    paper = factors.pop("paper", "") or (family.paper if family else "")
    names = family.names if family else blocks
    if factors["trunk"] is _ssd_trunk:
        names = _STAGES
    elif factors["trunk"] is _ssdlite_trunk:
        names = blocks
    # Detection on a single pass changes the last layers themselves.
    changed = {_ssd_trunk: " (SSD)", _ssdlite_trunk: " (SSDLite)"}.get(factors["trunk"], "")
    filename = weights.url.rsplit("/", 1)[1]
    digits = re.search(r"-([0-9a-f]{8,})\.pth$", filename)
    counts = bool(family and family.counts_layers)
    return Backbone(
        name=_name(name, weights.name),
        architecture=f"{family.architecture.format(*shown) if family else network}{changed}",
        family=family.family if family else network,
        kind=(family.kind or " ".join(shown[counts:])) if family else "",
        depth=(int(groups[0]) if counts else family.depth) if family else None,
        environment="torchvision",
        recipe=weights.name,
        parameters=weights.meta.get("num_params"),
        paper=paper,
        names=names,
        unpack=older_densenet_keys if network.startswith("densenet") else None,
        weights=WeightsFile(
            filename=filename,
            # torchvision ends each file name in the first digits of the file's SHA-256.
            sha256=digits[1] if digits else "",
            licence="CC-BY-NC-4.0" if "SWAG" in weights.name else "BSD-3-Clause",
            source="torchvision",
            url=weights.url,
            megabytes=weights.meta.get("_file_size"),
        ),
        **factors,
    )


def _name(network: str, weights: str) -> str:
    """Return ``resnet50`` for the first training of a network, ``resnet50.v2`` for others."""
    suffix = re.sub(r"^(IMAGENET1K|COCO_WITH_VOC_LABELS|COCO)_", "", weights).lower()
    return network if suffix == "v1" else f"{network}.{suffix}"


def _data(weights: str) -> tuple[str, str]:
    """Return what weights were trained on, and by which method."""
    if "SWAG_LINEAR" in weights:  # only the classifier on top has seen ImageNet
        return "Instagram-3.6B", "hashtags"
    if "SWAG" in weights:
        return "Instagram-3.6B + ImageNet-1k", "hashtags, then fine-tuned"
    return "ImageNet-1k", ""


# Trunks -----------------------------------------------------------------------------------------


def features_of(network: nn.Module) -> nn.Module:
    """Return the part of a classifier that holds its layers, without the head."""
    kind = type(network).__name__
    if kind == "VisionTransformer":
        return AnySizeTransformer(network)
    if kind in _CHAINS:
        children = OrderedDict((n, m) for n, m in network.named_children() if n not in _HEADS)
        if kind == "MaxVit":
            children["blocks"] = nn.Sequential(*children["blocks"].children())
        return nn.Sequential(children)
    # Of an unknown network all of it: the pass ends at the last layer in any case.
    features = getattr(network, "features", None)
    return network if features is None else network.get_submodule("features")


def _in_turn(getter: nn.Module) -> nn.Module:
    """Return torchvision's getter of intermediate layers as the sequence that it is."""
    return nn.Sequential(OrderedDict(getter.named_children()))


def _segmentation_trunk(network: nn.Module) -> nn.Module:
    return _in_turn(network.get_submodule("backbone"))


def _detection_trunk(network: nn.Module) -> nn.Module:
    return _in_turn(network.get_submodule("backbone.body"))


def _ssdlite_trunk(network: nn.Module) -> nn.Module:
    return network.get_submodule("backbone.features")


def _ssd_trunk(network: nn.Module) -> nn.Module:
    """Return VGG-16 as SSD has it: up to fc7, which are convolutions there."""
    *stages, after = network.get_submodule("backbone.extra.0").children()
    features = network.get_submodule("backbone.features").children()
    return nn.Sequential(*features, *stages, *after.children())


def _without_epsilon(build: Callable[[], nn.Module]) -> nn.Module:
    network = build()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.0
    return network


def older_densenet_keys(state: State) -> State:
    """Return DenseNet's keys as its modules are called now: ``norm.1`` became ``norm1``."""
    pattern = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.(\d\.)")
    return {pattern.sub(r"\1\2", key): value for key, value in state.items()}
