"""Quantities of layers from which other values are computed, but which are no metrics."""

import torch
from torch import Tensor

from iqa_metrics.readouts.catalogue import Readout
from iqa_metrics.readouts.differences import channel_squares
from iqa_metrics.readouts.numerics import elements as _elements


def elements(reference: Tensor, distorted: Tensor) -> Tensor:
    """Return the number of elements of one image's feature maps, float64 ``[N]``."""
    return distorted.new_full((len(distorted),), _elements(distorted), dtype=torch.float64)


ELEMENTS = Readout(
    name="elements",
    function=elements,
    summary="number of elements of the feature maps",
    source="needed for joint concatenations",
)
CHANNEL_SQUARES = Readout(
    name="channel_squares",
    function=channel_squares,
    summary="squared differences of each channel, summed over positions",
    source="needed for learning channel weights",
    per_channel=True,
)
