"""Readouts: how different a layer's feature maps of two images are, one number per image pair.

Each readout is a pure function of the reference's and the distorted image's feature maps,
``[N, C, ...]``, and returns float32 ``[N]`` (float64 for float64 feature maps). Half-precision
feature maps are converted to float32 before they are compared. The gradient is finite, and 0 where
both are equal; NaN in a feature map gives NaN. This holds for values whose squares float32 can
hold: values up to 1e18, and lengths that are 0 or above 1e-18.
"""

from iqa_metrics.readouts.blocks import sharing
from iqa_metrics.readouts.catalogue import READOUTS, Readout, all_readouts, named_otherwise, readout
from iqa_metrics.readouts.concatenation import (
    CONCATENATIONS,
    Concatenation,
    mean_over_elements,
    root_of_mean_squares,
    root_of_squares,
    weighted_sum,
)
from iqa_metrics.readouts.numerics import elements, root
from iqa_metrics.readouts.quantities import CHANNEL_SQUARES, ELEMENTS

__all__ = [
    "CHANNEL_SQUARES",
    "CONCATENATIONS",
    "ELEMENTS",
    "READOUTS",
    "Concatenation",
    "Readout",
    "all_readouts",
    "elements",
    "mean_over_elements",
    "named_otherwise",
    "readout",
    "root",
    "root_of_mean_squares",
    "root_of_squares",
    "sharing",
    "weighted_sum",
]
