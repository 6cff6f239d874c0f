"""A model of early vision that nothing was trained for: Gabor filters, normalised."""

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iqa_metrics import Backbone


class GaborEnergy(nn.Module):
    """Energy of pairs of Gabor filters on the luminance, as in complex cells.

    Parameters
    ----------
    wavelengths
        In pixels.
    orientations
        How many, spread over half a turn.
    """

    def __init__(self, wavelengths: Sequence[float] = (4, 8), orientations: int = 6) -> None:
        super().__init__()
        side = 2 * round(max(wavelengths)) + 1
        places = torch.arange(side, dtype=torch.float64) - side // 2
        rows, columns = torch.meshgrid(places, places, indexing="ij")
        filters = []
        for wavelength in wavelengths:
            bell = torch.exp(-(rows**2 + columns**2) / (2 * (wavelength / 2) ** 2))
            for number in range(orientations):
                angle = math.pi * number / orientations
                along = columns * math.cos(angle) + rows * math.sin(angle)
                wave = 2 * math.pi / wavelength * along
                even = bell * (wave.cos() - (bell * wave.cos()).sum() / bell.sum())
                filters += [even / bell.sum(), bell * wave.sin() / bell.sum()]
        self.padding = side // 2
        self.register_buffer("filters", torch.stack(filters)[:, None].float())
        self.register_buffer("luma", torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Return ``[N, wavelengths x orientations, H, W]``."""
        grey = F.conv2d(images, self.luma)
        phases = F.conv2d(grey, self.filters, padding=self.padding).unflatten(1, (-1, 2))
        return (phases.square().sum(dim=2) + 1e-6).sqrt()


class DivisiveNormalisation(nn.Module):
    """Divide each response by the local mean of all responses."""

    def forward(self, responses: Tensor) -> Tensor:
        """Return responses of the same shape."""
        pool = F.avg_pool2d(responses.mean(dim=1, keepdim=True), 5, stride=1, padding=2)
        return responses / (0.05 + pool)


RECORD = Backbone.from_module(
    nn.Sequential(OrderedDict(energy=GaborEnergy(), normalised=DivisiveNormalisation())),
    {"energy": "energy", "normalised": "normalised"},
    name="gabor",
    goal="designed",
    family="model of V1",
)
