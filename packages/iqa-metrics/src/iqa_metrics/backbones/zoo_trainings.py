"""The trainings that VISSL's zoo and Places publish, as a table: facts of the zoos' own pages."""

from typing import NamedTuple

_VISSL = "https://dl.fbaipublicfiles.com/vissl/model_zoo/"
PLACES = "http://places2.csail.mit.edu/models_places365/"


class Training(NamedTuple):
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
) -> Training:
    return Training(
        name, network, method, data, recipe, environment, score, paper, f"{_VISSL}{file}"
    )


def _goyal(
    network: str, method: str, data: str, short: str, score: float, paper: str, file: str
) -> Training:
    of = "resnet50" if network.startswith("ResNet-50") else "alexnet"
    name = f"{of}.{method}_{short}_goyal19"
    return _vissl(name, network, method, data, _GOYAL, score, paper, file, _GOYAL)


def _epochs(
    algorithm: str, method: str, paper: str, rows: dict[str, tuple[str, float, str]]
) -> list[Training]:
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

TRAININGS: tuple[Training, ...] = (
    # Supervised.
    *(
        Training(
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
        Training(
            *(f"{name}.places365", architecture, "", "Places365", "", "Places365", None),
            *("doi 10.1109/TPAMI.2017.2723009", f"{PLACES}{name}_places365.pth.tar"),
        )
        for name, architecture in (
            ("alexnet", "AlexNet"),
            ("resnet18", "ResNet-18"),
            ("resnet50", "ResNet-50"),
            ("densenet161", "DenseNet-161"),
        )
    ),
)
