"""Arithmetic that the readouts share."""

import torch
from torch import Tensor

from iqa_metrics.compute.tracing import traced


def result(values: Tensor, *features: Tensor) -> Tensor:
    """Return a readout's values as float64 if its feature maps are float64, else as float32."""
    return values.double() if any(r.dtype == torch.float64 for r in features) else values.float()


def root(squares: Tensor) -> Tensor:
    """Return the square root, with a gradient of 0 at 0.

    The root is never taken of 0, since its infinite slope times 0 would be a NaN gradient. Norms
    use this function instead of torch's ``vector_norm``: torch's sum is pairwise and exact to 1e-7,
    while ``vector_norm`` adds values one by one and loses up to 1e-3.
    """
    if not (squares.requires_grad or traced()):
        return squares.sqrt()
    none = squares == 0
    return torch.where(none, 0.0, torch.where(none, 1.0, squares).sqrt())


def one_minus_cosine(x: Tensor, y: Tensor) -> Tensor:
    """Return ``1 - cos`` along dimension 1, which is kept with size 1, as ``|u - v|² / 2``.

    This keeps the digits of small angles, which one minus a cosine near one would lose. Vectors of
    zeros are at distance 0 from each other and at distance 1 from any other vector.
    """
    lengths = [root(r.square().sum(dim=1, keepdim=True)) for r in (x, y)]
    u, v = (r / without_zeros(n) for r, n in zip((x, y), lengths, strict=True))
    return (u - v).square().sum(dim=1, keepdim=True) / 2 + one_is_zero(*lengths) / 2


def without_zeros(lengths: Tensor) -> Tensor:
    """Return lengths to divide by, with 1 in place of 0."""
    return torch.where(lengths == 0, 1.0, lengths)


def one_is_zero(first: Tensor, second: Tensor) -> Tensor:
    """Return 1 where exactly one of two lengths is 0, else 0: such vectors have no angle."""
    return ((first == 0) ^ (second == 0)).to(first.dtype)


def elements(features: Tensor) -> int:
    """Return how many values feature maps ``[N, ...]`` have per image."""
    return features[0].numel()


def positions(features: Tensor) -> Tensor:
    """Return feature maps ``[N, C, ...]`` as ``[N, C, P]``, where P is the number of positions."""
    return features.flatten(2) if features.ndim > 2 else features.unsqueeze(-1)
