"""The AlexNets of self-supervised learning, which are five different networks.

Each was published with changes of its own: strides, groups, normalisation, even the number of input
channels. They share five convolutions and three poolings, here ``conv1``, ``relu1``, ``pool1``...
``pool5``; where a response is normalised before or after a pooling, ``norm1`` and ``norm2``.

References
----------
P. Goyal, D. Mahajan, A. Gupta and I. Misra, "Scaling and Benchmarking Self-Supervised Visual
Representation Learning", ICCV 2019, arXiv:1905.01235; S. Gidaris, P. Singh and N. Komodakis,
arXiv:1803.07728; M. Caron, P. Bojanowski, A. Joulin and M. Douze, arXiv:1807.05520; and for
CaffeNet Y. Jia et al., arXiv:1408.5093.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from iqa_metrics.weights.checkpoints import State


@dataclass(frozen=True)
class AlexNet:
    """One variant.

    Attributes
    ----------
    inputs
        Channels of its input, of which the first layer before ``conv1`` may make others.
    widths
        Channels of the five convolutions.
    stride, padding
        Of the first convolution, whose kernel is 11x11.
    groups
        Of the second, fourth and fifth convolution.
    batch_norm
        Numbers of the convolutions that batch normalisation follows.
    local_norm
        Where local response normalisation stands: before or after the first two poolings.
    sobel
        Whether fixed filters first turn colour into two gradients of grey.
    """

    inputs: int = 3
    widths: tuple[int, int, int, int, int] = (96, 256, 384, 384, 256)
    stride: int = 4
    padding: int = 0
    groups: int = 2
    batch_norm: tuple[int, ...] = (1, 2, 3, 4, 5)
    local_norm: Literal["before pooling", "after pooling"] | None = None
    sobel: bool = False


VARIANTS: Mapping[str, AlexNet] = {
    "CaffeNet": AlexNet(batch_norm=(), local_norm="before pooling"),
    "jigsaw": AlexNet(stride=2, batch_norm=(3, 4, 5), local_norm="after pooling"),
    "colorization": AlexNet(inputs=1),
    "RotNet": AlexNet(widths=(64, 192, 384, 256, 256), padding=2, groups=1),
    "DeepCluster": AlexNet(inputs=2, padding=2, groups=1, sobel=True),
}


def alexnet(variant: str) -> nn.Module:
    """Build one of :data:`VARIANTS` as a sequence of named layers, uninitialised."""
    facts = VARIANTS[variant]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if facts.sobel:
        layers["grey"] = _fixed(nn.Conv2d(3, 1, 1), [[[[1 / 3]]] * 3])
        across = [[1, 0, -1], [2, 0, -2], [1, 0, -1]]
        down = [[1, 2, 1], [0, 0, 0], [-1, -2, -1]]
        layers["sobel"] = _fixed(nn.Conv2d(1, 2, 3, padding=1), [[across], [down]])
    channels = facts.inputs
    kernels = (11, 5, 3, 3, 3)
    for number, (width, kernel) in enumerate(zip(facts.widths, kernels, strict=True), start=1):
        layers[f"conv{number}"] = nn.Conv2d(
            channels,
            width,
            kernel,
            stride=facts.stride if number == 1 else 1,
            padding=facts.padding if number == 1 else kernel // 2,
            groups=facts.groups if number in (2, 4, 5) else 1,
        )
        if number in facts.batch_norm:
            layers[f"bn{number}"] = nn.BatchNorm2d(width)
        layers[f"relu{number}"] = nn.ReLU(inplace=True)
        if number in (1, 2, 5):
            norms = facts.local_norm if number != 5 else None
            if norms == "before pooling":
                layers[f"norm{number}"] = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75)
            layers[f"pool{number}"] = nn.MaxPool2d(3, stride=2)
            if norms == "after pooling":
                layers[f"norm{number}"] = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75)
        channels = width
    return nn.Sequential(layers)


def _fixed(filters: nn.Conv2d, weights: list[Any]) -> nn.Conv2d:
    with torch.no_grad():
        filters.weight.copy_(torch.tensor(weights, dtype=torch.float32))
        if filters.bias is not None:
            filters.bias.zero_()
    return filters


def keys_in_blocks(layers: Iterable[str], *, sobel: bool = False) -> dict[str, str]:
    """Return what the published files call modules: to our names.

    There, the convolutions with what follows them and the poolings are blocks 0 to 7, each a
    sequence: ``_feature_blocks.0.1.weight`` is the batch normalisation after the first
    convolution. The fixed filters are ``sobel.0`` and ``sobel.1``.
    """
    block_of = {"1": 0, "2": 2, "3": 4, "4": 5, "5": 6}
    keys = {"sobel.0": "grey", "sobel.1": "sobel"} if sobel else {}
    for name in layers:
        kind, number = name[:-1], name[-1]
        if kind in ("conv", "bn"):
            keys[f"_feature_blocks.{block_of[number]}.{0 if kind == 'conv' else 1}"] = name
    return keys


def from_blocks(variant: str, state: State) -> State:
    """Return a variant's state dict in our keys, given the published file's."""
    names = [name for name, _ in alexnet(variant).named_children()]
    keys = keys_in_blocks(names, sobel=VARIANTS[variant].sobel)
    renamed = {}
    for key, value in state.items():
        module, _, parameter = key.rpartition(".")
        ours = keys.get(module)
        renamed[f"{ours}.{parameter}" if ours else key] = value
    return renamed
