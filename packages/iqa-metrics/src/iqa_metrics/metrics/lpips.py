"""LPIPS, the learned perceptual image patch similarity."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, get_args

from torch import Tensor, nn

from iqa_metrics.compute.pair_module import Check
from iqa_metrics.metrics.deep import DeepDistance, of_backbone
from iqa_metrics.weights.checkpoints import read_state_dict
from iqa_metrics.weights.files import WeightsError, WeightsFile, missing_together

Net = Literal["alex", "vgg", "squeeze"]
NETS: tuple[Net, ...] = get_args(Net)

BACKBONES: Mapping[Net, str] = {"alex": "alexnet", "vgg": "vgg16", "squeeze": "squeezenet1_1"}
LAYERS: Mapping[Net, tuple[str, ...]] = {
    "alex": ("relu1", "relu2", "relu3", "relu4", "relu5"),
    "vgg": ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"),
    "squeeze": ("relu1", "fire3", "fire5", "fire6", "fire7", "fire8", "fire9"),
}

_SHA256: Mapping[Net, str] = {
    "alex": "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
    "vgg": "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
    "squeeze": "4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76",
}
# The authors' own files, from the authors' own package. torchmetrics ships the same bytes, but may
# move them at any time.
CALIBRATIONS: Mapping[Net, WeightsFile] = {
    net: WeightsFile(
        filename=f"lpips-v0.1-{net}.pth",
        sha256=_SHA256[net],
        licence="BSD-2-Clause",
        source="github.com/richzhang/PerceptualSimilarity",
        url=(
            "https://github.com/richzhang/PerceptualSimilarity/raw/master/"
            f"lpips/weights/v0.1/{net}.pth"
        ),
        package="lpips",
        inside=f"weights/v0.1/{net}.pth",
        distribution="lpips==0.1.4",
    )
    for net in NETS
}


class LPIPS(DeepDistance):
    """Learned perceptual image patch similarity, version 0.1.

    In five layers of a pretrained network (seven for SqueezeNet), the channel vector at each
    position is scaled to unit length. The squared differences of these vectors are weighted, summed
    over channels and averaged over positions, and the values of the layers are added up. See
    :func:`iqa_metrics.readouts.differences.lpips`. Range ``[0, inf)``; identical images give 0;
    symmetric.

    Images are RGB in [0, 1], as everywhere in this package. The authors' own code takes [-1, 1].

    Parameters
    ----------
    net
        ``"alex"``, ``"vgg"`` or ``"squeeze"``. The authors recommend ``"alex"`` for assessing
        images and ``"vgg"`` as a training loss.
    calibrated
        Use the channel weights that were calibrated on human judgements. If False, all channels
        count equally, as in the paper's baseline.
    trunk
        Your own AlexNet, VGG-16 or SqueezeNet 1.1, the whole network or its ``features``. It is
        copied.
    weights, calibration
        Files with the network's state dict, and with the calibration, whose content the caller has
        checked; by default the published ones.
    check
        As for :class:`Metric`.

    Raises
    ------
    ValueError
        If ``net`` is unknown, ``trunk`` has another architecture, or a calibration is given with
        ``calibrated=False``.
    WeightsError
        If the network's weights or the calibration are missing or damaged.

    References
    ----------
    R. Zhang, P. Isola, A. A. Efros, E. Shechtman and O. Wang, "The Unreasonable Effectiveness of
    Deep Features as a Perceptual Metric", CVPR 2018, arXiv:1801.03924.
    """

    source: ClassVar[str] = "Zhang et al., CVPR 2018, arXiv:1801.03924"

    def __init__(
        self,
        net: Net = "alex",
        *,
        calibrated: bool = True,
        trunk: nn.Module | None = None,
        weights: str | Path | None = None,
        calibration: str | Path | None = None,
        check: Check = "error",
    ) -> None:
        if net not in NETS:
            raise ValueError(f"net: expected one of {', '.join(NETS)}, got {net!r}")
        if calibration is not None and not calibrated:
            raise ValueError(
                "calibration: expected none with calibrated=False; leave one of them out"
            )
        name = f"lpips_{net}" if calibrated else f"lpips_{net}_baseline"
        needed = [CALIBRATIONS[net]] if calibrated and calibration is None else []
        needed += of_backbone(BACKBONES[net], weights, trunk)
        with missing_together(needed, name):
            super().__init__(
                BACKBONES[net],
                LAYERS[net],
                "weighted_lpips" if calibrated else "lpips",
                concatenation="sum",
                channel_weights=_calibration(net, calibration) if calibrated else None,
                weights=weights,
                trunk=trunk,
                check=check,
            )
        self.name = name


def _calibration(net: Net, path: str | Path | None) -> dict[str, Tensor]:
    file = CALIBRATIONS[net].verified() if path is None else Path(path)
    state = read_state_dict(file)
    keys = [f"lin{index}.model.1.weight" for index in range(len(LAYERS[net]))]
    if set(state) != set(keys):
        raise WeightsError(
            f"{file} is not a calibration of LPIPS {net}: expected {', '.join(keys)}"
        )
    return {layer: state[key].flatten() for layer, key in zip(LAYERS[net], keys, strict=True)}
