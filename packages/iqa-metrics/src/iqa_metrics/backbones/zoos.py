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
from typing import NamedTuple

from torch import nn
from torchvision import models

from iqa_metrics.backbones.alexnets import alexnet, from_blocks
from iqa_metrics.backbones.layers import Names, blocks, counted, residual
from iqa_metrics.backbones.records import Backbone
from iqa_metrics.backbones.scaling import IMAGENET, InputScaling
from iqa_metrics.backbones.torchvision_models import features_of, older_densenet_keys
from iqa_metrics.backbones.vision_transformers import any_size, from_timm_keys
from iqa_metrics.checkpoints import State
from iqa_metrics.weights import WeightsFile

_VISSL = "https://dl.fbaipublicfiles.com/vissl/model_zoo/"
_PLACES = "http://places2.csail.mit.edu/models_places365/"

_LIGHTNESS = InputScaling(peak=100.0, mean=(0.0,), std=(1.0,), order="L")
_CAFFE = InputScaling(peak=255.0, mean=(123.675, 116.28, 103.53), std=(1.0,) * 3)


class _Training(NamedTuple):
    """A row of a zoo."""

    name: str
    network: str
    method: str
    data: str
    recipe: str
    environment: str
    score: float | None
    paper: str
    url: str


_IN1K, _IN22K, _YFCC = "ImageNet-1k", "ImageNet-22k", "YFCC100M"
_GOYAL = "Goyal et al. 2019"


def _vissl(
    name: str,
    network: str,
    method: str,
    data: str,
    recipe: str,
    score: float,
    paper: str,
    file: str,
    environment: str = "VISSL",
) -> _Training:
    return _Training(
        name, network, method, data, recipe, environment, score, paper, f"{_VISSL}{file}"
    )


def _goyal(
    network: str, method: str, data: str, short: str, score: float, paper: str, file: str
) -> _Training:
    of = "resnet50" if network.startswith("ResNet-50") else "alexnet"
    name = f"{of}.{method}_{short}_goyal19"
    return _vissl(name, network, method, data, _GOYAL, score, paper, file, _GOYAL)


def _epochs(
    algorithm: str, method: str, paper: str, rows: dict[str, tuple[str, float, str]]
) -> list[_Training]:
    """Describe trainings of one ResNet-50 on ImageNet-1k that differ in their recipe."""
    short = algorithm.lower().replace("-", "").replace(" ", "_").replace("++", "pp")
    return [
        _vissl(
            *(f"resnet50.{short}_{suffix}", "ResNet-50", method, _IN1K),
            *(f"{algorithm}, {recipe}", score, paper, file),
        )
        for suffix, (recipe, score, file) in rows.items()
    ]


_JIGSAW, _COLOUR, _ROTATION = "arXiv:1603.09246", "arXiv:1603.08511", "arXiv:1803.07728"
_CHECKPOINT = "model_final_checkpoint_phase{}.torch"

_TRAININGS: tuple[_Training, ...] = (
    # Supervised.
    *(
        _Training(
            *(f"resnet{depth}.v0", f"ResNet-{depth}", "", _IN1K, "first release", "torchvision"),
            *(score, "arXiv:1512.03385", f"https://download.pytorch.org/models/{file}"),
        )
        for depth, score, file in (
            (50, 76.1, "resnet50-19c8e357.pth"),
            (101, 77.21, "resnet101-5d3b4d8f.pth"),
        )
    ),
    _vissl(
        *("resnet50.caffe2", "ResNet-50", "", _IN1K, "", 75.88, "arXiv:1512.03385"),
        *("converted_vissl_rn50_supervised_in1k_caffe2.torch", "Caffe2"),
    ),
    _vissl(
        *("resnet50.caffe2_places205", "ResNet-50", "", "Places205", "", 58.49, "arXiv:1512.03385"),
        *("converted_vissl_rn50_supervised_places205_caffe2.torch", "Caffe2"),
    ),
    _vissl(
        *("alexnet.caffenet", "AlexNet (CaffeNet)", "", _IN1K, "", 49.54, "arXiv:1408.5093"),
        *("converted_caffenet_bvlc_in1k_supervised.torch", "Caffe"),
    ),
    _vissl(
        *("resnet50.vissl_105ep", "ResNet-50", "", _IN1K, "105 epochs", 75.45, "arXiv:1512.03385"),
        "sup_rn50_in1k_ep105_supervised_8gpu_resnet_17_07_20.733dbdee/" + _CHECKPOINT.format(208),
    ),
    _vissl(
        *("vit_b_16.vissl_in22k", "ViT-B/16", "", _IN22K, "90 epochs", 83.38, "arXiv:2010.11929"),
        "baselines/vit_b16_p16_in22k_ep90_supervised.torch",
    ),
    _vissl(
        *("resnet50.semi_supervised", "ResNet-50", "semi-supervised", f"{_YFCC} + {_IN1K}", ""),
        79.2,
        *("arXiv:1905.00546", "converted_vissl_rn50_semi_sup_08389792.torch", "Yalniz et al. 2019"),
    ),
    _vissl(
        *("resnet50.semi_weakly_supervised", "ResNet-50", "semi-weakly supervised"),
        *(f"Instagram-940M + {_IN1K}", ""),
        81.06,
        "arXiv:1905.00546",
        *("converted_vissl_rn50_semi_weakly_sup_16a12f1b.torch", "Yalniz et al. 2019"),
    ),
    # Pretext tasks.
    *(
        _vissl(
            *(f"resnet50.jigsaw_{short}", "ResNet-50", "jigsaw", _IN1K),
            *(f"{count} permutations, 105 epochs", score, _JIGSAW),
            f"jigsaw_rn50_in1k_ep105_perm2k_jigsaw_8gpu_resnet_{run}/" + _CHECKPOINT.format(104),
        )
        for short, count, score, run in (
            ("perm100", "100", 48.57, "17_07_20.db174a43"),
            ("perm2k", "2000", 46.73, "17_07_20.cccee144"),
            ("perm10k", "10000", 48.11, "20_07_20.3d706467"),
        )
    ),
    _vissl(
        *("resnet50.jigsaw_perm2k_in22k", "ResNet-50", "jigsaw", _IN22K),
        *("2000 permutations, 105 epochs", 44.84, _JIGSAW),
        "converted_vissl_jigsaw_rn50_perm2k_in22k_8gpu_ep105.torch",
    ),
    *(
        _goyal("ResNet-50", "jigsaw", data, short, score, _JIGSAW, file)
        for data, short, score, file in (
            (_IN1K, "in1k", 46.58, "converted_vissl_rn50_jigsaw_in1k_goyal19.torch"),
            (_IN22K, "in22k", 53.09, "converted_vissl_rn50_jigsaw_in22k_goyal19.torch"),
            (_YFCC, "yfcc100m", 51.37, "converted_vissl_rn50_jigsaw_yfcc100m_goyal19.torch"),
        )
    ),
    *(
        _goyal("AlexNet (jigsaw)", "jigsaw", data, short, score, _JIGSAW, file)
        for data, short, score, file in (
            (_IN1K, "in1k", 34.82, "converted_alexnet_jigsaw_in1k_pretext.torch"),
            (_IN22K, "in22k", 37.5, "converted_alexnet_jigsaw_in22k_pretext.torch"),
            (_YFCC, "yfcc100m", 37.01, "converted_alexnet_jigsaw_yfcc100m_pretext.torch"),
        )
    ),
    *(
        _goyal("ResNet-50 (lightness)", "colorization", data, short, score, _COLOUR, file)
        for data, short, score, file in (
            (_IN1K, "in1k", 40.11, "converted_vissl_rn50_colorization_in1k_goyal19.torch"),
            (_IN22K, "in22k", 49.24, "converted_vissl_rn50_colorization_in22k_goyal19.torch"),
            (_YFCC, "yfcc100m", 47.46, "converted_vissl_rn50_colorization_yfcc100m_goyal19.torch"),
        )
    ),
    *(
        _goyal("AlexNet (colorization)", "colorization", data, short, score, _COLOUR, file)
        for data, short, score, file in (
            (_IN1K, "in1k", 30.39, "converted_alexnet_colorization_in1k_pretext.torch"),
            (_IN22K, "in22k", 36.83, "converted_alexnet_colorization_in22k_pretext.torch"),
            (_YFCC, "yfcc100m", 34.19, "converted_alexnet_colorization_yfcc100m_pretext.torch"),
        )
    ),
    _vissl(
        *("alexnet.rotnet", "AlexNet (RotNet)", "rotation", _IN1K, "", 39.51, _ROTATION),
        *("rotnet_alexnet_model_net_epoch50.torch", "the paper's authors"),
    ),
    _vissl(
        *("resnet50.rotnet", "ResNet-50", "rotation", _IN1K, "105 epochs", 48.2, _ROTATION),
        "rotnet_rn50_in1k_ep105_rotnet_8gpu_resnet_17_07_20.46bada9f/" + _CHECKPOINT.format(125),
    ),
    _vissl(
        *("resnet50.rotnet_in22k", "ResNet-50", "rotation", _IN22K, "105 epochs", 54.89, _ROTATION),
        "converted_vissl_rn50_rotnet_in22k_ep105.torch",
    ),
    # Clustering.
    _vissl(
        *("alexnet.deepcluster", "AlexNet (DeepCluster)", "clustering", _IN1K, "DeepCluster"),
        *(37.88, "arXiv:1807.05520", "deepcluster_alexnet_checkpoint.torch", "the paper's authors"),
    ),
    _vissl(
        *("resnet50.clusterfit", "ResNet-50", "clustering", _IN1K),
        *("ClusterFit, 16000 clusters from RotNet, 105 epochs", 53.63, "arXiv:1912.03330"),
        "converted_vissl_rn50_rotnet_16kclusters_in1k_ep105.torch",
    ),
    *_epochs(
        "DeepClusterV2",
        "clustering",
        "arXiv:2006.09882",
        {
            "400ep_2x224": (
                "400 epochs, 2x224",
                70.01,
                "deepclusterv2_400ep_2x224_pretrain.pth.tar",
            ),
            "400ep": ("400 epochs, 2x160+4x96", 74.32, "deepclusterv2_400ep_pretrain.pth.tar"),
            "800ep": ("800 epochs, 2x224+6x96", 75.18, "deepclusterv2_800ep_pretrain.pth.tar"),
        },
    ),
    *_epochs(
        "SwAV",
        "clustering",
        "arXiv:2006.09882",
        {
            suffix: (recipe, score, f"{folder}/" + _CHECKPOINT.format(phase))
            for suffix, recipe, score, folder, phase in (
                (
                    *("100ep", "100 epochs, 2x224+6x96, batches of 4096", 71.99),
                    *("swav_in1k_rn50_100ep_swav_8node_resnet_27_07_20.7e6fc6bf", 99),
                ),
                (
                    *("200ep", "200 epochs, 2x224+6x96, batches of 4096", 73.85),
                    *("swav_in1k_rn50_200ep_swav_8node_resnet_27_07_20.bd595bb0", 199),
                ),
                (
                    *("400ep", "400 epochs, 2x224+6x96, batches of 4096", 74.81),
                    *("swav_in1k_rn50_400ep_swav_8node_resnet_27_07_20.a5990fc9", 399),
                ),
                (
                    *("800ep", "800 epochs, 2x224+6x96, batches of 4096", 74.92),
                    *("swav_in1k_rn50_800ep_swav_8node_resnet_27_07_20.a0a6b676", 799),
                ),
                (
                    *("200ep_256", "200 epochs, 2x224+6x96, batches of 256", 73.07),
                    "swav_4gpu_bs64_200ep_2x224_6x96_queue_swav_8node_resnet_28_07_20.a8f2c735",
                    199,
                ),
                (
                    *("400ep_256", "400 epochs, 2x224+6x96, batches of 256", 74.3),
                    "swav_4gpu_bs64_400ep_2x224_6x96_queue_swav_8node_resnet_28_07_20.5e967ca0",
                    399,
                ),
                (
                    *("400ep_2x224", "400 epochs, 2x224, batches of 4096", 69.53),
                    *("swav_8node_2x224_rn50_in1k_swav_8node_resnet_30_07_20.c8fd7169", 399),
                ),
            )
        },
    ),
    # Telling images apart.
    _vissl(
        *("resnet50.npid_authors", "ResNet-50", "instance discrimination", _IN1K, "NPID", 54.99),
        *("arXiv:1805.01978", "converted_vissl_rn50_npid_lemniscate_neg4k_stepLR_8gpu.torch"),
        "the paper's authors",
    ),
    *_epochs(
        "NPID",
        "instance discrimination",
        "arXiv:1805.01978",
        {
            "200ep": (
                *("4000 negatives, 200 epochs", 52.73),
                "npid_1node_200ep_4kneg_npid_8gpu_resnet_23_07_20.9eb36512/"
                + _CHECKPOINT.format(199),
            )
        },
    ),
    *_epochs(
        "NPID++",
        "instance discrimination",
        "arXiv:1912.01991",
        {
            "800ep": (
                *("32000 negatives, 800 epochs", 56.68),
                "npid_pp/4node_800ep_32kneg_cosine_resnet_23_07_20.75432662/"
                + _CHECKPOINT.format(799),
            )
        },
    ),
    *_epochs(
        "PIRL",
        "contrastive",
        "arXiv:1912.01991",
        {
            "200ep": (
                *("200 epochs", 62.55),
                "pirl_jigsaw_4node_200ep_pirl_jigsaw_4node_resnet_22_07_20.ffd17b75/"
                + _CHECKPOINT.format(199),
            ),
            "800ep": (
                *("800 epochs", 64.29),
                "pirl_jigsaw_4node_pirl_jigsaw_4node_resnet_22_07_20.34377f59/"
                + _CHECKPOINT.format(799),
            ),
        },
    ),
    *_epochs(
        "SimCLR",
        "contrastive",
        "arXiv:2002.05709",
        {
            f"{epochs}ep": (
                *(f"{epochs} epochs", score),
                f"simclr_rn50_{epochs}ep_simclr_8node_resnet_16_07_20.{run}/"
                + _CHECKPOINT.format(epochs - 1),
            )
            for epochs, score, run in (
                *((100, 64.4, "8edb093e"), (200, 66.61, "a816c0ef"), (400, 67.71, "36b338ef")),
                *((800, 69.68, "7e8feed1"), (1000, 68.8, "afe428c7")),
            )
        },
    ),
    *(
        _vissl(
            *(f"resnet101.simclr_{epochs}ep", "ResNet-101", "contrastive", _IN1K),
            *(f"SimCLR, {epochs} epochs", score, "arXiv:2002.05709"),
            f"simclr_rn101_{epochs}ep_simclr_8node_resnet_16_07_20.{run}/"
            + _CHECKPOINT.format(epochs - 1),
        )
        for epochs, score, run in ((100, 62.76, "1ff6cb4b"), (1000, 71.56, "35063cea"))
    ),
    *_epochs(
        "MoCo-v2",
        "contrastive",
        "arXiv:2003.04297",
        {
            "200ep": (
                *("200 epochs, batches of 256", 66.4),
                "moco_v2_1node_lr.03_step_b32_zero_init/" + _CHECKPOINT.format(199),
            )
        },
    ),
    _vissl(
        *("vit_b_16.mocov3_300ep", "ViT-B/16", "contrastive", _IN1K, "MoCo-v3, 300 epochs", 75.79),
        *("arXiv:2104.02057", "swav_rn50w5/mocov3-vit-b-300ep.pth.tar", "the paper's authors"),
    ),
    *_epochs(
        "Barlow Twins",
        "redundancy reduction",
        "arXiv:2103.03230",
        {
            f"{epochs}ep": (
                *(f"{epochs} epochs, batches of 2048", score),
                f"barlow_twins/barlow_twins_32gpus_4node_imagenet1k_{epochs}ep_resnet50.torch",
            )
            for epochs, score in ((300, 70.75), (1000, 71.80))
        },
    ),
    _vissl(
        *("vit_s_16.dino_300ep", "ViT-S/16", "self-distillation", _IN1K, "DINO, 300 epochs", 73.4),
        *("arXiv:2104.14294", "dino_300ep_deitsmall16/" + _CHECKPOINT.format(299)),
    ),
    *(
        _Training(
            *(f"{name}.places365", architecture, "", "Places365", "", "Places365", None),
            *("doi 10.1109/TPAMI.2017.2723009", f"{_PLACES}{name}_places365.pth.tar"),
        )
        for name, architecture in (
            ("alexnet", "AlexNet"),
            ("resnet18", "ResNet-18"),
            ("resnet50", "ResNet-50"),
            ("densenet161", "DenseNet-161"),
        )
    ),
)
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
    for row in _TRAININGS:
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


def _file(row: _Training) -> WeightsFile:
    if row.environment == "torchvision":
        filename = row.url.rsplit("/", 1)[1]
        digits = filename.removesuffix(".pth").rsplit("-", 1)[1]
        return WeightsFile(filename, digits, "BSD-3-Clause", "torchvision", row.url)
    of_places = row.url.startswith(_PLACES)
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


def _network(row: _Training) -> _Network:
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
            *(build, any_size, blocks, _of_transformer, IMAGENET, "ViT", row.network[4:]),
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
