"""Readouts: how different two responses of a layer are, as one number an image pair.

Each is a pure function of the reference's and the distorted image's responses, ``[N, C, ...]``,
that returns float32 ``[N]`` (float64 for float64 responses). Half-precision responses are raised to
float32 before they are compared. The gradient is finite, and 0 where both are equal; NaN in a
response gives NaN. That holds for responses whose squares float32 can hold: up to 1e18, and with
lengths that are 0 or above 1e-18.
"""

from iqa_metrics.readouts.blocks import sharing
from iqa_metrics.readouts.catalogue import READOUTS, Readout, all_readouts, readout
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
    "readout",
    "root",
    "root_of_mean_squares",
    "root_of_squares",
    "sharing",
    "weighted_sum",
]
