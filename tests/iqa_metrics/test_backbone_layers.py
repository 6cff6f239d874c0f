"""Every backbone: its layers are what its record says, and a distance in them is a plain one."""

import pytest
import torch
from torch import nn
from torchvision import models

from iqa_metrics import (
    BACKBONES,
    DeepDistance,
    FeatureExtractor,
    backbone,
)
from iqa_metrics.backbones.forms import as_grid
from iqa_metrics.backbones.probing import passed, without_values
from iqa_metrics.weights.checkpoints import Unfilled

# One network per family, small where there is a choice.
FAMILIES = (
    *("efficientnet_lite0", "perceptnet", "alexnet", "vgg11_bn", "resnet18", "densenet121"),
    *("squeezenet1_0", "googlenet", "inception_v3", "mobilenet_v2", "mobilenet_v3_small"),
    *("mnasnet0_5", "shufflenet_v2_x0_5", "efficientnet_b0", "convnext_tiny", "regnet_y_400mf"),
    *("vit_b_32", "swin_t", "swin_v2_t", "maxvit_t"),
    *("fcn_resnet50", "lraspp_mobilenet_v3_large", "ssd300_vgg16", "retinanet_resnet50_fpn"),
    *("alexnet.caffenet", "alexnet.jigsaw_in1k_goyal19", "alexnet.colorization_in1k_goyal19"),
    *("alexnet.rotnet", "alexnet.deepcluster", "resnet50.colorization_in1k_goyal19"),
    "vit_s_16.dino_300ep",
)
ARCHITECTURES = {record.architecture: record.name for record in reversed(BACKBONES)}


LARGER = 384


def built(record):
    """The trunk with random weights, in eval mode."""
    torch.manual_seed(0)
    return record.trunk(record.build()).eval()


def seen_by(record, network, images):
    """Shapes of layers' responses."""
    extractor = FeatureExtractor(
        network,
        {layer.name: layer.module for layer in record.layers},
        forms={layer.name: layer.form for layer in record.layers},
    )
    seen = {}
    with torch.no_grad():
        extractor.visit(images, extractor.layers, lambda name, y: seen.__setitem__(name, y.shape))
    return seen


def shapes(record, network, size):
    """The same of a network on the meta device and an image of that size, as far as it gets."""
    found = passed(
        network,
        (1, record.scaling.channels, size, size),
        until=[layer.module for layer in record.layers],
    )
    outputs = {call.path: call.output for call in reversed(found.calls)}
    return {
        layer.name: as_grid(
            torch.empty(outputs[layer.module], device="meta"), layer.form, size, size
        ).shape
        for layer in record.layers
        if layer.module in outputs
    }


def check_layers(record, whole):
    """Channels and stride are as stated, and the smallest input is the smallest."""
    network = without_values(whole)
    size = record.input_size or 128
    larger = {} if record.input_size else shapes(record, network, LARGER)
    seen = shapes(record, network, size)
    assert set(seen) == {layer.name for layer in record.layers}
    for layer in record.layers:
        _, found, height, width = seen[layer.name]
        assert found == layer.channels
        assert height == width
        if record.input_size is None:
            # However borders are padded, what is added to an image is divided by the stride.
            more = larger[layer.name][2] - height
            assert abs(more * layer.stride - LARGER + size) < layer.stride
        else:
            assert height == size // layer.stride
    depths = [layer.depth for layer in record.layers]
    assert depths == sorted(depths)
    assert 0 < depths[0] <= depths[-1] == 1
    for smallest in {layer.smallest_input for layer in record.layers}:
        for n in (smallest, smallest - 1) if record.input_size is None else (smallest,):
            seen = shapes(record, network, n) if n else {}
            assert {name for name, shape in seen.items() if shape.numel()} == {
                layer.name for layer in record.layers if layer.smallest_input <= n
            }


@pytest.mark.parametrize("name", FAMILIES)
def test_layers_are_as_stated(name):
    record = backbone(name)
    network = built(record)
    check_layers(record, network)
    size = record.input_size or 128
    found = seen_by(record, network, torch.rand(1, record.scaling.channels, size, size))
    assert list(found) == [layer.name for layer in record.layers]
    assert found == shapes(record, without_values(network), size)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(ARCHITECTURES.values()) - set(FAMILIES)))
def test_layers_of_every_architecture_are_as_stated(name):
    record = backbone(name)
    with Unfilled():
        network = built(record)
    check_layers(record, network)


def check_deep_distance(record):
    """A deep distance is that of the whole network's feature maps, taken with plain hooks."""
    torch.manual_seed(0)
    whole = record.build().eval()
    trunk = record.trunk(whole)
    # The head of what finds objects takes no tensor; EfficientNet-Lite's chain has modules of its
    # own.
    runs = whole if record.goal == "classification" and "lite" not in record.name else trunk
    # Normalise as after training: else next to nothing is left of the images in deep layers.
    norms = [module for module in whole.modules() if isinstance(module, nn.BatchNorm2d)]
    epsilons = [norm.eps for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum, norm.eps = 1.0, 1e-5
    if isinstance(whole, models.VisionTransformer):
        size = whole.image_size
    else:
        size = record.input_size or max(96, 2 * record.smallest_input)
    x, y = torch.rand(2, 1, 3, size, size)
    with torch.no_grad():
        runs(record.scaling.apply(torch.cat([x, y])))
    for norm, epsilon in zip(norms, epsilons, strict=True):
        norm.eps = epsilon
    whole.eval()
    layers = [record.layers[len(record.layers) // 2], record.layers[-1]]
    responses = {layer.name: [] for layer in layers}

    def keep(layer):
        def hook(module, inputs, output):
            responses[layer.name].append(output.double())

        return trunk.get_submodule(layer.module).register_forward_hook(hook)

    handles = [keep(layer) for layer in layers]
    with torch.no_grad():
        for images in (x, y):
            runs(record.scaling.apply(images))
    for handle in handles:
        handle.remove()
    for layer in layers:
        metric = DeepDistance(record, layer.name, "euclidean", trunk=whole)
        first, second = responses[layer.name]
        if first.ndim == 3:  # the class token is none of the grid
            first, second = first[:, 1:], second[:, 1:]
        expected = (first - second).square().sum().sqrt().item()
        assert expected > 0
        assert metric(x, y).item() == pytest.approx(expected, rel=1e-4), layer.name


CHECKED = [name for name in FAMILIES if "." not in name]


@pytest.mark.parametrize("name", CHECKED)
def test_deep_distances_are_those_of_plain_hooks(name):
    check_deep_distance(backbone(name))


# Larger ones of a family repeat the blocks of these.
CLASSIFIERS = {
    name: record
    for record in reversed(BACKBONES)
    if record.goal == "classification" and (record.parameters or 0) < 30e6
    for name in [record.name.split(".")[0]]
    if name in models.list_models(module=models) and name not in CHECKED
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(CLASSIFIERS))
def test_deep_distances_of_every_classifier_are_those_of_plain_hooks(name):
    check_deep_distance(CLASSIFIERS[name])


def test_a_transformer_takes_any_size_and_agrees_with_torchvision_at_its_own():
    record = backbone("vit_b_32")
    whole = models.vit_b_32(weights=None).eval()
    trunk = record.trunk(whole)
    own = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(whole.heads(trunk(own)[:, 0]), whole(own))
        metric = DeepDistance(record, record.layers[-2].name, trunk=whole)
        x, y = torch.rand(2, 1, 3, 100, 300)
        assert metric(x, y) > 0
        assert metric(x, x) == 0
        seen = seen_by(record, trunk, x)
    assert {tuple(shape) for shape in seen.values()} == {(1, 768, 4, 10)}
