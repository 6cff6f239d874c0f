"""Readouts: how different two responses of a layer are, as one number an image pair.

Each is a pure function of the reference's and the distorted image's responses, any shape
``[N, ...]``, that returns float32 ``[N]`` (float64 for float64 responses). Half-precision responses
are summed in float32. The gradient at distance 0 is 0, not NaN.

A readout over several layers at once is their ``join``: the same readout of all the responses laid
end to end, as the study does, computed from the layers' own values so that no layer need wait for
another.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from iqa_metrics.names import lookup


@dataclass(frozen=True)
class Readout:
    """A readout and how it joins layers.

    Attributes
    ----------
    name
        What specs call it.
    function
        ``(reference, distorted) -> [N]``.
    join
        ``(values of L layers [N] each, elements per image of each layer) -> [N]``.
    summary
        One line for listings.
    source
        Where it comes from.
    """

    name: str
    function: Callable[[Tensor, Tensor], Tensor]
    join: Callable[[Sequence[Tensor], Sequence[int]], Tensor]
    summary: str
    source: str


def euclidean(reference: Tensor, distorted: Tensor) -> Tensor:
    """Euclidean distance over a layer's whole response: ``sqrt(sum((x - y)²))``.

    It grows with the size of the image. Range ``[0, inf)``; 0 for equal responses; symmetric.

    Parameters
    ----------
    reference, distorted
        Responses ``[N, ...]``; the reference's N may be 1.

    References
    ----------
    Hernández-Cámara et al., "Analysis of Deep Image Quality Models", arXiv:2302.13345.
    """
    if distorted.dtype in (torch.float16, torch.bfloat16):
        # Before the difference is taken, not after: float16 overflows at 65504.
        reference, distorted = reference.float(), distorted.float()
    difference = reference - distorted
    squares = difference.square() if difference.requires_grad else difference.square_()
    return _root(squares.sum(dim=tuple(range(1, squares.ndim))))


def rmse(reference: Tensor, distorted: Tensor) -> Tensor:
    """Root of the mean squared difference of a layer's response: ``sqrt(mean((x - y)²))``.

    The Euclidean distance over the root of the number of elements, so that images of different
    sizes have comparable values. Parameters, range and gradient as for :func:`euclidean`.
    """
    return euclidean(reference, distorted) / math.sqrt(elements(distorted))


def elements(response: Tensor) -> int:
    """Return how many values a response ``[N, ...]`` has for one image."""
    return response[0].numel()


def _root(squares: Tensor) -> Tensor:
    # torch sums in a cascade, exact to 1e-7; its vector_norm adds one by one and loses up to 1e-3.
    # The root never sees the 0, else its infinite slope times 0 would make NaN gradients.
    none = squares == 0
    return torch.where(none, 0.0, torch.where(none, 1.0, squares).sqrt())


def _join_euclidean(values: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    return _root(torch.stack(list(values)).square().sum(dim=0))


def _join_rmse(values: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    lengths = [v * math.sqrt(n) for v, n in zip(values, counts, strict=True)]
    return _join_euclidean(lengths, counts) / math.sqrt(sum(counts))


_STUDY = "Hernández-Cámara et al., arXiv:2302.13345"

READOUTS: tuple[Readout, ...] = (
    Readout(
        "euclidean",
        euclidean,
        _join_euclidean,
        "Euclidean distance over the whole response",
        _STUDY,
    ),
    Readout(
        "rmse",
        rmse,
        _join_rmse,
        "root-mean-square difference: Euclidean, free of the image's size",
        _STUDY,
    ),
)

_BY_NAME: Mapping[str, Readout] = {readout.name: readout for readout in READOUTS}


def readout(name: str) -> Readout:
    """Return the readout of that name, or raise ``UnknownNameError`` with the nearest names."""
    return lookup("readout", name, _BY_NAME)
