"""DISTS, deep image structure and texture similarity."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iqa_metrics import backbones
from iqa_metrics.compute.devices import with_float64
from iqa_metrics.compute.features import Reference, Remembered
from iqa_metrics.compute.pair_module import Check
from iqa_metrics.compute.steady import Constant
from iqa_metrics.metrics.columns import Column
from iqa_metrics.metrics.contract import Metric
from iqa_metrics.metrics.deep import of_backbone
from iqa_metrics.metrics.layer_table import LayerTable
from iqa_metrics.metrics.table_module import TableModule
from iqa_metrics.readouts import Readout
from iqa_metrics.readouts.blocks import single
from iqa_metrics.readouts.statistics import texture_and_structure
from iqa_metrics.weights.checkpoints import read_state_dict
from iqa_metrics.weights.files import WeightsError, WeightsFile, missing_together

BACKBONE = "vgg16"
LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")
_IMAGE_CHANNELS = 3
_SHORT_SIDE = 256

CALIBRATION = WeightsFile(
    filename="dists-weights.pt",
    sha256="f5e65c96230b7f6ca995691647d482237e4cab8a50c5c4a5784f219ef0748218",
    licence="MIT",
    source="github.com/dingkeyan93/DISTS",
    url="https://github.com/dingkeyan93/DISTS/raw/master/DISTS_pytorch/weights.pt",
    package="DISTS_pytorch",
    inside="weights.pt",
    distribution="DISTS-pytorch==0.1",
)


class DISTS(TableModule, Metric):
    """Deep image structure and texture similarity, as a distance.

    It compares two properties of each channel, in the image itself and in five layers of VGG-16
    whose max pooling is replaced by a smooth L2 pooling: the channel's mean (texture) and its
    spatial pattern (structure). The distance is
    ``1 - sum(alpha texture + beta structure) / sum(alpha + beta)``, where alpha and beta are
    calibrated on human judgements. Range ``[0, 2)``; identical images give 0; symmetric. It
    tolerates a texture that is replaced by another patch of the same texture.

    Parameters
    ----------
    resize
        First shrink the images so that their shorter side has 256 pixels (bilinear, antialiased),
        if it is longer, as the authors do in their experiments. By default images are not resized,
        as in the authors' own class.
    trunk
        Your own VGG-16, the whole network or its ``features``. It is copied.
    weights, calibration
        Files with the network's state dict, and with alpha and beta, whose content the caller has
        checked; by default the published ones.
    check
        As for :class:`Metric`.

    Raises
    ------
    ValueError
        If ``trunk`` has another architecture.
    WeightsError
        If the network's weights or the calibration are missing or damaged.

    References
    ----------
    K. Ding, K. Ma, S. Wang and E. P. Simoncelli, "Image Quality Assessment: Unifying Structure and
    Texture Similarity", IEEE TPAMI 44(5), 2022, arXiv:2004.07728.
    """

    higher_is_better: ClassVar[bool] = False
    range: ClassVar[tuple[float, float]] = (0.0, 2.0)
    source: ClassVar[str] = "Ding et al., TPAMI 2022, arXiv:2004.07728"
    smallest_input = 16

    def __init__(
        self,
        *,
        resize: bool = False,
        trunk: nn.Module | None = None,
        weights: str | Path | None = None,
        calibration: str | Path | None = None,
        check: Check = "error",
    ) -> None:
        super().__init__(check=check)
        self.name = "dists_resized" if resize else "dists"
        needed = [CALIBRATION] if calibration is None else []
        needed += of_backbone(BACKBONE, weights, trunk)
        self.resize = resize
        record = backbones.backbone(BACKBONE)
        channels = [_IMAGE_CHANNELS, *(record.layer(name).channels for name in LAYERS)]
        with missing_together(needed, self.name):
            of_image, *of_layers = _calibration(calibration, channels)
            columns = [
                Column(name, _TERM, of_layer)
                for name, of_layer in zip(LAYERS, of_layers, strict=True)
            ]
            self.table = LayerTable(record, columns, weights=weights, trunk=trunk)
        _smooth_pooling(self.extractor.network)
        self.image_weights = Constant(of_image)

    def remember(self, reference: Tensor) -> Reference:
        """Return the reference, resized if asked for, with the network's feature maps of it."""
        return super().remember(self._prepared(reference))

    def compare(self, reference: Reference, distorted: Tensor) -> Tensor:
        seen = reference if isinstance(reference, Remembered) else self._prepared(reference)
        y = self._prepared(distorted)
        image = seen.image if isinstance(seen, Remembered) else seen
        weights = with_float64(*(one.values for one in (self.image_weights, *self.table.constants)))
        a, b = with_float64(image, y)
        of_image = _term(a, b, weights[0])
        terms = [of_image, *self.table.readings(seen, y).values]
        total = torch.stack([one.double().sum() for one in weights]).sum()
        return torch.stack(terms).sum(dim=0) / total

    def _prepared(self, images: Tensor) -> Tensor:
        parameter = next(self.extractor.network.parameters())
        wide = images.double() if parameter.dtype == torch.float64 else images.float()
        return _shrunk(wide) if self.resize else wide


class L2Pooling(nn.Module):
    """The square root of locally averaged squares, at every second position.

    The averages are taken with a 3x3 Hann window, after O. J. Hénaff and E. P. Simoncelli,
    "Geodesics of learned representations", ICLR 2016, arXiv:1511.06394.
    """

    def forward(self, response: Tensor) -> Tensor:
        """Pool ``[N, C, H, W]`` to half its height and width, rounded up."""
        # Squares of half-precision numbers would lose half of their digits.
        (wide,) = single(response)
        hann = torch.tensor([0.25, 0.5, 0.25], dtype=wide.dtype, device=wide.device)
        channels = wide.shape[1]
        window = torch.outer(hann, hann).expand(channels, 1, 3, 3)
        energy = F.conv2d(wide.square(), window, stride=2, padding=1, groups=channels)
        return (energy + 1e-12).sqrt().to(response.dtype)


def _smooth_pooling(trunk: nn.Module) -> None:
    for name, module in list(trunk.named_children()):
        if isinstance(module, nn.MaxPool2d):
            setattr(trunk, name, L2Pooling())


def _shrunk(images: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    short = min(height, width)
    if short <= _SHORT_SIDE:
        return images
    # The longer side is rounded down to whole pixels, as in torchvision's resize.
    size = [_SHORT_SIDE * side // short for side in (height, width)]
    return F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)


def _term(reference: Tensor, distorted: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted term of one layer, ``[N]``.

    ``weights``, ``[2, C]``, are alpha, for texture, and beta, for structure.
    """
    texture, structure = texture_and_structure(reference, distorted)
    return (torch.stack([texture, structure]) * weights[:, None]).sum(dim=(0, 2))


_TERM = Readout(
    name="dists_term",
    function=_term,
    summary="a layer's weighted texture and structure",
    source="Ding et al., TPAMI 2022, arXiv:2004.07728",
    weighted=True,
    weight_sets=(2,),
)


def _calibration(path: str | Path | None, channels: Sequence[int]) -> list[Tensor]:
    """Return alpha and beta, ``[2, C]``, for the image and then for each layer."""
    file = CALIBRATION.verified() if path is None else Path(path)
    state = read_state_dict(file)
    count = sum(channels)
    fits = set(state) == {"alpha", "beta"} and all(w.numel() == count for w in state.values())
    if not fits or not all(float(w.min()) >= 0 and float(w.sum()) > 0 for w in state.values()):
        raise WeightsError(
            f"{file} is not a calibration of DISTS: expected alpha and beta, each with {count} "
            "values of at least 0 that are not all 0"
        )
    both = torch.stack([state["alpha"].flatten(), state["beta"].flatten()]).float()
    return list(torch.split(both, list(channels), dim=1))
