"""Any of timm's networks, by its name there: ``timm:resnet18.a1_in1k``.

timm's own record says input and weights; goal and data are read from the tag after the dot, as far
as it says them.
"""

import re
from functools import lru_cache, partial
from typing import Any

from torch import nn

from iqa_metrics.backbones.finding import blocks
from iqa_metrics.backbones.record import Backbone, itself
from iqa_metrics.backbones.scaling import InputScaling
from iqa_metrics.names import UnknownNameError, nearest
from iqa_metrics.weights.files import WeightsFile

PREFIX = "timm:"

_METHODS = (
    # What names and tags contain, the goal and its method.
    ("dino", "self-supervised", "self-distillation"),
    ("ijepa", "self-supervised", "self-distillation"),
    ("mae", "self-supervised", "masked images"),
    ("mim", "self-supervised", "masked images"),
    ("beit", "self-supervised", "masked images"),
    ("moco", "self-supervised", "contrastive"),
    ("clip", "image and text", "contrastive"),
    ("siglip", "image and text", "contrastive"),
    ("openai", "image and text", "contrastive"),
    ("laion", "image and text", "contrastive"),
    ("datacomp", "image and text", "contrastive"),
)
_LABELLED = {"in1k", "in12k", "in21k", "in22k"}
_DATA = {
    **{"in1k": "ImageNet-1k", "in12k": "ImageNet-12k", "in21k": "ImageNet-22k"},
    **{"in22k": "ImageNet-22k", "yfcc100m": "YFCC100M", "yfcc15m": "YFCC15M"},
    **{"laion2b": "LAION-2B", "lvd142m": "LVD-142M", "lvd1689m": "LVD-1689M"},
    **{"ig1b": "Instagram-940M", "swag": "Instagram-3.6B", "jft300m": "JFT-300M"},
}


@lru_cache(maxsize=64)
def timm_backbone(name: str) -> Backbone:
    """Return the record of one of timm's networks.

    Raises
    ------
    UnknownNameError
        If timm is not installed, or has no such network; the message gives the nearest names.
    """
    try:
        import timm
    except ImportError as error:
        raise UnknownNameError(
            f"{name!r} needs timm: pip install 'iqa-metrics[timm]' ({error})",
            "unknown_backbone",
        ) from error

    network = name.removeprefix(PREFIX)
    architecture, _, tag = network.partition(".")
    if not timm.is_model(architecture):
        raise UnknownNameError(
            f"timm has no network {network!r}; {nearest(architecture, timm.list_models())}",
            "unknown_backbone",
        )
    tags = [n for n in timm.list_pretrained(architecture) if n.split(".")[0] == architecture]
    if tag and network not in tags:
        raise UnknownNameError(
            f"timm has no weights {network!r}; {nearest(network, tags)}", "unknown_backbone"
        )
    published: Any = timm.get_pretrained_cfg(network)
    goal, method, data = _factors(architecture, published.tag or "")
    return Backbone(
        name=name,
        architecture=architecture,
        family=re.split(r"[\d_]", architecture)[0],
        kind=architecture,
        goal=goal,
        method=method,
        data=data,
        environment="timm",
        recipe=published.tag or "",
        scaling=InputScaling(1.0, tuple(published.mean), tuple(published.std)),
        weights=_file(network, published),
        build=partial(_build, network),
        trunk=itself,
        names=blocks,
        note="goal and data as far as timm's tag says them",
    )


def _factors(architecture: str, tag: str) -> tuple[str, str, str]:
    """Return goal, method and data that a name and its tag say; empty where they do not."""
    parts = re.split(r"[_.]", tag)
    whole = f"{architecture}.{tag}"
    goal, method = next(((g, m) for part, g, m in _METHODS if part in whole), ("", ""))
    if not goal and _LABELLED & set(parts):
        goal = "classification"
    elif goal and "ft" in parts:
        goal, method = "classification", f"{method}, then fine-tuned"
    found = [_DATA[part] for part in parts if part in _DATA]
    return goal, method, " + ".join(dict.fromkeys(found))


def _file(network: str, published: Any) -> WeightsFile:
    on_hub = published.hf_hub_id
    url = (
        f"https://huggingface.co/{on_hub}/resolve/main/"
        f"{published.hf_hub_filename or 'model.safetensors'}"
        if on_hub
        else published.url or None
    )
    ending = "safetensors" if on_hub else "pth"
    digits = re.search(r"-([0-9a-f]{8})\.pth$", url or "")
    return WeightsFile(
        filename=f"timm-{network}.{ending}",
        sha256=digits[1] if digits else "",
        licence=published.license or "none stated",
        source="timm",
        url=url,
    )


def _build(network: str) -> nn.Module:
    import timm

    # Vision transformers take one size alone, unless told otherwise; others know no such option.
    any_size = {"dynamic_img_size": True, "dynamic_img_pad": True}
    for options in (any_size, {}):
        try:
            built: nn.Module = timm.create_model(network, pretrained=False, **options)
            return built
        except TypeError:
            if not options:
                raise
    raise AssertionError  # the loop ends above
