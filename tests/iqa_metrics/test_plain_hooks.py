"""Whatever network it is, every layer is what a plain hook on the caller's network sees."""

import copy
import math

import pytest
import timm
import torch
from own_networks import OWN_NETWORKS
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrizations
from torchvision import models

from iqa_metrics import (
    Backbone,
    DeepDistance,
    FeatureExtractor,
    FeatureReadouts,
    UnknownNameError,
    backbone,
    readouts,
)
from iqa_metrics.backbones.forms import CHANNELS_LAST, Tokens
from iqa_metrics.backbones.layers import only_size
from iqa_metrics.compute.extractors import extractor_of

# Small networks of timm's families. Left out are those that take no plain image (naflexvit), and
# those whose smallest takes too much memory or time (sam, deepseek, gemma, qwen, nasnet...).
TIMM = (
    *("beit_base_patch16_224", "coat_lite_tiny", "coatnet_pico_rw_224", "convit_tiny"),
    *("convmixer_768_32", "convnext_atto", "cpubone_nano", "crossvit_9_240", "cs3darknet_focus_s"),
    *("csatv2", "cspnext_tiny", "davit_tiny", "deit_tiny_distilled_patch16_224", "densenet121"),
    *("dla46_c", "dpn48b", "eca_botnext26ts_256", "eca_nfnet_l0", "edgenext_xx_small"),
    *("efficientformer_l1", "efficientformerv2_s0", "efficientnet_b0", "efficientnet_lite0"),
    *("efficientvim_m1", "efficientvit_b0", "efficientvit_m0", "ese_vovnet19b_dw"),
    *("eva02_tiny_patch14_224", "fasternet_t0", "fastvit_t8", "focalnet_tiny_srf", "gcvit_xxtiny"),
    *("ghostnet_050", "hardcorenas_a", "hgnetv2_b0", "hiera_tiny_224", "hrnet_w18_small"),
    *("iformer_t", "inception_next_atto", "inception_v3", "lcnet_035", "lcnetv2_small"),
    *("legacy_seresnet18", "legacy_xception", "levit_128s", "lowformer_b0", "mambaout_femto"),
    *("maxvit_rmlp_pico_rw_256", "mnasnet_small", "mobilenetv4_conv_small", "mobileone_s0"),
    *("mobilevit_xxs", "mobilevitv2_050", "mvitv2_tiny", "nest_tiny", "nextvit_small"),
    *("pit_ti_224", "pvt_v2_b0", "rdnet_tiny", "repvgg_a0", "repvit_m0_9", "res2net50_14w_8s"),
    *("resmlp_12_224", "resnest14d", "resnet18", "resnet26t", "rexnet_100", "selecsls42"),
    *("seresnet18", "shvit_s1", "skresnet18", "starnet_s1", "swiftformer_xs"),
    *("swinv2_tiny_window8_256", "tf_efficientnetv2_b0", "tiny_vit_5m_224", "tinynet_e"),
    *("tnt_s_legacy_patch16_224", "tresnet_m", "twins_svt_small", "vgg11_bn"),
    *("vit_medium_patch16_reg1_gap_256", "vit_relpos_small_patch16_224", "vit_small_r26_s32_224"),
    *("vitamin_small_224", "volo_d1_224", "vovnet39a", "xception41", "xcit_nano_12_p16_224"),
)
# One per kind: activations in norms, weight standardisation, tokens, a class token, windows.
QUICK_TIMM = (
    *("mobilenetv3_small_050", "resnetv2_50", "regnetx_002", "nf_regnet_b0"),
    *("vit_tiny_patch16_224", "mixer_s32_224", "cait_xxs24_224", "swin_tiny_patch4_window7_224"),
)


def trained(network):
    """Give norms statistics as after training, and heads that start at 0 values."""
    for parameter in network.parameters():
        if not parameter.any():
            parameter.data.normal_(std=0.02)
    for norm in network.modules():
        if isinstance(norm, _BatchNorm):
            norm.running_mean.normal_(std=0.1)
            norm.running_var.uniform_(0.5, 1.5)
            if norm.affine:
                norm.weight.data.uniform_(0.5, 1.5)
                norm.bias.data.normal_(std=0.1)
    return network.eval()


def hooked(network, layers, images):
    """What the first calls of modules return, by plain hooks on a network as it is."""
    seen, handles = {}, []
    for layer in layers:

        def hook(module, inputs, output, name=layer.name):
            seen.setdefault(name, output.detach().clone())

        handles.append(network.get_submodule(layer.module).register_forward_hook(hook))
    # The fused operation of old versions of torch calls no module, and so no hook.
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    with torch.no_grad():
        network(images)
    torch.backends.mha.set_fastpath_enabled(fused)
    for handle in handles:
        handle.remove()
    return seen


def by_channel(response, layer):
    """Return ``[N, C, positions]`` of what a module returned."""
    if isinstance(layer.form, Tokens):
        order = [layer.form.axes.index(axis) for axis in "NCL"]
        return response.permute(*order)[:, :, layer.form.prefix :]
    if layer.form == CHANNELS_LAST:
        response = response.permute(0, 3, 1, 2)
    return response.flatten(2) if response.ndim > 2 else response[:, :, None]


def check_against_hooks(network, record=None, tolerance=1e-5):
    """Every layer of a folded copy agrees with hooks on the network itself; returns the layers."""
    record = record or Backbone.from_module(network)
    size = only_size(record.layers) or 96
    images = torch.rand(2, 3, size, size)
    trained(network)
    # Its values are those of now, not those that the record was made with.
    extractor = extractor_of(record, [la.name for la in record.layers], trunk=network)
    with torch.no_grad():
        found = extractor.responses(images, extractor.layers)
    expected = hooked(network, record.layers, record.scaling.apply(images))
    assert list(found) == [layer.name for layer in record.layers]
    for layer in record.layers:
        response, wanted = found[layer.name], by_channel(expected[layer.name], layer)
        assert response.ndim == 4
        assert response.shape[1] == layer.channels == wanted.shape[1]
        if layer.stride is not None:
            rows = math.ceil(size / layer.stride)
            assert all(abs(side - rows) <= 4 for side in response.shape[2:]), layer.name
        scale = wanted.square().mean().sqrt()
        assert scale > 0, layer.name
        error = (response.flatten(2) - wanted).square().mean().sqrt() / scale
        assert error < tolerance, (layer.name, float(error))
    return record.layers


def check_timm(name):
    record = backbone(f"timm:{name}")
    torch.manual_seed(0)
    check_against_hooks(record.build(), record)


@pytest.mark.parametrize("kind", OWN_NETWORKS)
def test_own_networks_agree_with_plain_hooks(kind):
    torch.manual_seed(0)
    layers = check_against_hooks(OWN_NETWORKS[kind]().eval())
    assert len(layers) > 1


@pytest.mark.parametrize("kind", OWN_NETWORKS)
def test_every_module_of_own_networks_agrees_with_plain_hooks(kind):
    torch.manual_seed(0)
    network = OWN_NETWORKS[kind]().eval()
    named = [layer.module for layer in Backbone.from_module(network).modules]
    check_against_hooks(network, Backbone.from_module(network, named))


@pytest.mark.parametrize("kind", OWN_NETWORKS)
def test_distances_of_own_networks_survive_copies(kind):
    torch.manual_seed(0)
    network = OWN_NETWORKS[kind]().eval()
    record = Backbone.from_module(network)
    x, y = torch.rand(2, 1, 3, 64, 64)
    seen = [hooked(network, record.layers, image) for image in (x, y)]
    for layer in (record.layers[0], record.layers[-1]):
        first, second = (by_channel(s[layer.name], layer) for s in seen)
        expected = float((first - second).double().square().sum().sqrt())
        for metric in (
            DeepDistance(record, layer.name, "euclidean"),
            DeepDistance(record, layer.name, "euclidean", trunk=network),
            copy.deepcopy(DeepDistance(record, layer.name, "euclidean")),
        ):
            assert float(metric(x, y)) == pytest.approx(expected, rel=1e-4, abs=1e-7)


def test_activations_inside_norms_are_kept():
    record = backbone("timm:mobilenetv3_large_100.ra_in1k")
    torch.manual_seed(0)
    network = timm.create_model("mobilenetv3_large_100").eval()
    x = torch.rand(1, 3, 128, 128)
    metric = DeepDistance(record, "blocks.3.1", "rmse", trunk=network)
    assert float(metric(x, 0.8 * x)) == pytest.approx(1.9194, abs=5e-5)


@pytest.mark.parametrize("name", QUICK_TIMM)
def test_timm_networks_agree_with_plain_hooks(name):
    check_timm(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", TIMM)
def test_timm_families_agree_with_plain_hooks(name):
    check_timm(name)


def test_normalised_weights_can_stand_in_for_a_catalogued_network():
    torch.manual_seed(0)
    network = models.resnet18().eval()
    parametrizations.spectral_norm(network.layer1[0].conv1)
    nn.utils.weight_norm(network.layer1[1].conv2)
    network.layer2[0].bn1.register_forward_hook(lambda module, inputs, output: 2 * output)
    check_against_hooks(network, backbone("resnet18"))


# Layers ------------------------------------------------------------------------------------------

KINDS = {
    "alexnet": (
        lambda: models.alexnet(),
        20,
        [("features.0", 64, 4), ("classifier.6", 1000, None)],
    ),
    "vgg11_bn": (
        lambda: models.vgg11_bn(),
        27,
        [("features.2", 64, 1), ("features.28", 512, 32), ("avgpool", 512, None)],
    ),
    "vit": (
        lambda: timm.create_model("vit_tiny_patch16_224"),
        16,
        [("blocks.11", 192, 16), ("fc_norm", 192, None), ("head", 1000, None)],
    ),
    "mixer": (
        lambda: timm.create_model("mixer_b16_224"),
        16,
        [("stem", 768, 16), ("blocks.11", 768, 16), ("head", 1000, None)],
    ),
    "cait": (
        lambda: timm.create_model("cait_xxs24_224"),
        30,
        [("blocks.23", 192, 16), ("blocks_token_only.1", 192, None), ("head", 1000, None)],
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_are_found_and_all_readouts_are_finite(kind):
    make, count, some = KINDS[kind]
    torch.manual_seed(0)
    record = Backbone.from_module(trained(make()))
    found = {layer.name: (layer.name, layer.channels, layer.stride) for layer in record.layers}
    assert len(found) == count
    assert [found[name] for name, *_ in some] == some
    size = only_size(record.layers) or 96
    x = torch.rand(1, 3, size, size)
    y = (0.9 * x).requires_grad_()
    plain = [r for r in readouts.READOUTS if not r.weighted]
    layers = [name for name, *_ in some]
    table = FeatureReadouts(record, dict.fromkeys(layers, plain))
    values = [value for of_layer in table(x, y).values() for value in of_layer.values()]
    assert len(values) == len(layers) * len(plain)
    assert all(bool(torch.isfinite(value).all()) for value in values)
    sum(value.sum() for value in values).backward()
    assert bool(torch.isfinite(y.grad).all())
    assert float(y.grad.abs().max()) > 0


def test_a_vector_has_one_position():
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 5),
    )  # fmt: skip
    record = Backbone.from_module(network, ["1", "2", "4"])
    assert [(la.name, la.channels, la.stride) for la in record.layers] == [
        ("1", 8, 2),
        ("2", 8, None),
        ("4", 5, None),
    ]
    extractor = extractor_of(record, ["2", "4"])
    assert isinstance(extractor, FeatureExtractor)
    found = extractor.responses(torch.rand(2, 3, 32, 40), ["2", "4"])
    assert [tuple(r.shape) for r in found.values()] == [(2, 8, 1, 1), (2, 5, 1, 1)]


def test_a_path_that_is_none_is_answered_with_near_ones():
    with pytest.raises(
        UnknownNameError, match=r"no module 'feature\.3'; did you mean 'features.3'"
    ):
        Backbone.from_module(models.alexnet(), ["feature.3"])
    for wrong in ([], {}, 3, "features", [3]):
        with pytest.raises(ValueError, match="a list of such paths"):
            Backbone.from_module(models.alexnet(), wrong)


class Unused(nn.Module):
    """Returns a tuple, and never calls what it holds."""

    def __init__(self):
        super().__init__()
        self.pair = Pair()
        self.never = nn.ReLU()

    def forward(self, x):
        return self.pair(x)[0]


class Pair(nn.Module):
    def forward(self, x):
        return x, x


def test_what_gives_no_layer_says_why_and_what_can_be_named():
    with pytest.raises(ValueError, match=r"'never' of Unused is never called; .*names"):
        Backbone.from_module(nn.Sequential(Unused(), nn.ReLU())[0], ["never"])
    with pytest.raises(ValueError, match=r"'0\.pair' of Sequential returns tuple, .*; .*1"):
        Backbone.from_module(nn.Sequential(Unused(), nn.ReLU()), ["0.pair"])
    with pytest.raises(ValueError, match="no layers were found in Unused"):
        Backbone.from_module(Unused())


def test_a_network_that_takes_no_image_is_refused():
    with pytest.raises(ValueError, match="takes no images"):
        Backbone.from_module(nn.Sequential(nn.Conv2d(4, 8, 3)))
