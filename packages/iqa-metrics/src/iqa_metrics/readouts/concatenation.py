"""Combine the distances of several layers into one.

``joint``
    One readout of the concatenated feature maps of all layers, as in the study. It is computed from
    the layers' own values, so that no layer has to be kept for another.
``sum``
    The weighted sum of the layers' distances, ``sum over layers(w d)``, as in LPIPS.
``sum_per_element``
    The same, with each distance divided by its layer's number of elements n:
    ``sum over layers(w d / n)``.

None of them depends on the order of the layers.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from iqa_metrics.readouts.numerics import root

Concatenation = Literal["joint", "sum", "sum_per_element"]
CONCATENATIONS: tuple[Concatenation, ...] = get_args(Concatenation)

Joint = Callable[[Sequence[Tensor], Sequence[int]], Tensor]
"""``(values of L layers, their elements per image) -> value of the concatenated layers``.

Values are ``[N]`` or, for maps, ``[N, 1, H, W]`` with the same size in all layers.
"""


def root_of_squares(values: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    """Combine distances that are Euclidean lengths."""
    return root(torch.stack(list(values)).square().sum(dim=0))


def root_of_mean_squares(values: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    """Combine distances that are roots of means over elements."""
    lengths = [v * math.sqrt(n) for v, n in zip(values, counts, strict=True)]
    return root_of_squares(lengths, counts) / math.sqrt(sum(counts))


def mean_over_elements(values: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    """Combine distances that are means over elements."""
    return weighted_sum(values, [n / sum(counts) for n in counts])


def weighted_sum(values: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return the weighted sum of the layers' values."""
    return torch.stack([v * w for v, w in zip(values, weights, strict=True)]).sum(dim=0)
