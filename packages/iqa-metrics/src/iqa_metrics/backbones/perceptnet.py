"""PerceptNet, built from its paper, and its record: no package has it."""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iqa_metrics.backbones.finding import blocks
from iqa_metrics.backbones.record import Backbone, itself
from iqa_metrics.backbones.scaling import AS_IT_IS
from iqa_metrics.weights.files import WeightsFile


class GDN(nn.Module):
    """Generalised divisive normalisation: ``y = x / sqrt(beta + gamma x²)``.

    gamma mixes the channels at a position. Both parameters are kept from becoming so small that the
    root would vanish.

    Parameters
    ----------
    channels
        Number of channels.
    per_channel
        Normalise each channel by itself alone.

    References
    ----------
    J. Ballé, V. Laparra and E. P. Simoncelli, "Density Modeling of Images Using a Generalized
    Normalization Transformation", ICLR 2016, arXiv:1511.06281.
    """

    _LEAST_GAMMA = 2.0**-18
    _LEAST_BETA = (1e-6 + _LEAST_GAMMA**2) ** 0.5

    def __init__(self, channels: int, *, per_channel: bool = False) -> None:
        super().__init__()
        self.groups = channels if per_channel else 1
        self.gamma = nn.Parameter(torch.zeros(channels, channels // self.groups, 1, 1))
        self.beta = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``[N, C, H, W]``."""
        gamma = self.gamma.clamp(min=self._LEAST_GAMMA)
        beta = self.beta.clamp(min=self._LEAST_BETA)
        # Each image by itself: in one thread torch rounds a convolution of few channels by where
        # a position lies in the batch, and an image would lie at a distance from itself.
        alone = torch.split(x, 1) if x.device.type == "cpu" else (x,)
        energy = [F.conv2d(one.square(), gamma, beta, groups=self.groups) for one in alone]
        return x / torch.cat(energy).sqrt()


def perceptnet() -> nn.Module:
    """Build PerceptNet, uninitialised.

    References
    ----------
    A. Hepburn, V. Laparra, J. Malo, R. McConville and R. Santos-Rodriguez, "PerceptNet: A Human
    Visual System Inspired Neural Network for Estimating Perceptual Distance", ICIP 2020,
    arXiv:1910.12548.
    """
    return nn.Sequential(
        OrderedDict(
            gdn1=GDN(3, per_channel=True),
            conv1=nn.Conv2d(3, 3, 1, padding=1),
            pool1=nn.MaxPool2d(2),
            gdn2=GDN(3),
            conv2=nn.Conv2d(3, 6, 5, padding=1),
            pool2=nn.MaxPool2d(2),
            gdn3=GDN(6),
            conv3=nn.Conv2d(6, 128, 5, padding=1),
            gdn4=GDN(128),
        )
    )


PERCEPTNET = Backbone(
    name="perceptnet",
    architecture="PerceptNet",
    family="PerceptNet",
    depth=4,
    goal="image quality",
    data="TID2008",
    environment="the paper's authors",
    paper="arXiv:1910.12548",
    scaling=AS_IT_IS,
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
    trunk=itself,
    names=blocks,
    note="partly trained: its normalisations are still at their first values",
)
