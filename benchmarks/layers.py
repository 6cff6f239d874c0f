"""Every layer of VGG-16 read out: streamed by us, or all of them kept by plain hooks."""

import copy

import torch
from torch import Tensor, nn

from benchmarks.peers import Compare
from iqa_metrics import FeatureReadouts, backbone

RECORD = "vgg16"


def every_layer(network: nn.Module) -> Compare:
    """Our way: Euclidean distance in each layer, ``[N x layers]``."""
    wanted = {layer.name: ["euclidean"] for layer in backbone(RECORD).layers}
    readouts = FeatureReadouts(RECORD, wanted, trunk=network)

    def compare(x: Tensor, y: Tensor) -> Tensor:
        found = readouts(x, y)
        return torch.stack([values["euclidean"] for values in found.values()], dim=1)

    return compare


def by_hooks(network: nn.Module) -> Compare:
    """The plain way: forward hooks keep all feature maps, and distances are computed afterwards.

    Activations must not overwrite what a hook keeps, so they are made to work on a copy.
    """
    network = copy.deepcopy(network)
    scaling = backbone(RECORD).scaling
    kept: dict[str, Tensor] = {}
    for name, module in network.named_children():
        if isinstance(module, nn.ReLU):
            module.inplace = False
        module.register_forward_hook(lambda _, __, output, name=name: kept.update({name: output}))

    def feature_maps(images: Tensor) -> dict[str, Tensor]:
        network(scaling.apply(images))
        found = dict(kept)
        kept.clear()
        return found

    def compare(x: Tensor, y: Tensor) -> Tensor:
        of_x, of_y = feature_maps(x), feature_maps(y)
        distances = [
            # Not torch's norm, which loses three digits of float32 over this many elements.
            (of_x[name] - of_y[name]).square_().flatten(1).sum(dim=1).sqrt()
            for name in of_x
        ]
        return torch.stack(distances, dim=1)

    return compare


def sum_of_layers(size: tuple[int, int], count: int) -> int:
    """Return the bytes of all layers' feature maps of some pairs, computed from their shapes."""
    width, height = size
    elements = sum(
        layer.channels * (height // layer.stride) * (width // layer.stride)
        for layer in backbone(RECORD).layers
    )
    return 2 * count * 4 * elements
