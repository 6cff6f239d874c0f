"""Quantities of layers that no metric reports, and that others are computed from."""

import torch
from torch import Tensor

from iqa_metrics.readouts.catalogue import Readout
from iqa_metrics.readouts.differences import channel_squares
from iqa_metrics.readouts.numerics import elements as _elements


def elements(reference: Tensor, distorted: Tensor) -> Tensor:
    """Return the number of elements of one image's feature map, float64 ``[N]``."""
    return distorted.new_full((len(distorted),), _elements(distorted), dtype=torch.float64)


ELEMENTS = Readout(
    name="elements",
    function=elements,
    summary="number of elements of the feature map",
    source="joint concatenations need it",
)
CHANNEL_SQUARES = Readout(
    name="channel_squares",
    function=channel_squares,
    summary="squared differences of each channel, summed over positions",
    source="channel weights are learned from it",
    per_channel=True,
)
