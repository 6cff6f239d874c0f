"""Arithmetic that the readouts share."""

import torch
from torch import Tensor


def result(values: Tensor, *responses: Tensor) -> Tensor:
    """Return values in the precision that a readout answers in: float64 only for float64."""
    return values.double() if any(r.dtype == torch.float64 for r in responses) else values.float()


def root(squares: Tensor) -> Tensor:
    """Return the square root, whose gradient at 0 is 0.

    The root never sees the 0, else its infinite slope times 0 would make NaN gradients. Norms are
    built on this and not on torch's ``vector_norm``: torch sums in a cascade, exact to 1e-7, where
    ``vector_norm`` adds one by one and loses up to 1e-3.
    """
    if not squares.requires_grad:
        return squares.sqrt()
    none = squares == 0
    return torch.where(none, 0.0, torch.where(none, 1.0, squares).sqrt())


def one_minus_cosine(x: Tensor, y: Tensor) -> Tensor:
    """Return ``1 - cos`` along dimension 1, kept as 1, by way of ``|u - v|² / 2``.

    Small angles keep their digits that way, where one minus a cosine near one would lose them.
    Vectors of zeros are at distance 0 from each other and 1 from any other vector.
    """
    lengths = [root(r.square().sum(dim=1, keepdim=True)) for r in (x, y)]
    u, v = (r / without_zeros(n) for r, n in zip((x, y), lengths, strict=True))
    return (u - v).square().sum(dim=1, keepdim=True) / 2 + one_is_zero(*lengths) / 2


def without_zeros(lengths: Tensor) -> Tensor:
    """Return lengths to divide by: 1 in the place of 0."""
    return torch.where(lengths == 0, 1.0, lengths)


def one_is_zero(first: Tensor, second: Tensor) -> Tensor:
    """Return 1 where exactly one of two lengths is 0, else 0: such vectors have no angle."""
    return ((first == 0) ^ (second == 0)).to(first.dtype)


def elements(response: Tensor) -> int:
    """Return how many values a response ``[N, ...]`` has for one image."""
    return response[0].numel()


def positions(response: Tensor) -> Tensor:
    """Return a response ``[N, C, ...]`` as ``[N, C, P]``, P being its positions."""
    return response.flatten(2) if response.ndim > 2 else response.unsqueeze(-1)
