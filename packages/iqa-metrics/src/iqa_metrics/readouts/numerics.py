"""Arithmetic that the readouts share."""

import torch
from torch import Tensor


def single(reference: Tensor, distorted: Tensor) -> tuple[Tensor, Tensor]:
    """Return both as float32, or as float64 where one is that.

    Before a difference is taken, not after: float16 overflows at 65504.
    """
    dtype = torch.promote_types(reference.dtype, distorted.dtype)
    dtype = torch.promote_types(dtype, torch.float32)
    return reference.to(dtype), distorted.to(dtype)


def result(values: Tensor, *responses: Tensor) -> Tensor:
    """Return values in the precision that a readout answers in: float64 only for float64."""
    return values if any(r.dtype == torch.float64 for r in responses) else values.float()


def root(squares: Tensor) -> Tensor:
    """Return the square root, whose gradient at 0 is 0.

    The root never sees the 0, else its infinite slope times 0 would make NaN gradients. Norms are
    built on this and not on torch's ``vector_norm``: torch sums in a cascade, exact to 1e-7, where
    ``vector_norm`` adds one by one and loses up to 1e-3.
    """
    none = squares == 0
    return torch.where(none, 0.0, torch.where(none, 1.0, squares).sqrt())


def squared(difference: Tensor) -> Tensor:
    """Square a difference, in its own memory where no gradient needs it."""
    return difference.square() if difference.requires_grad else difference.square_()


def length(response: Tensor) -> Tensor:
    """Return the Euclidean length along dimension 1, kept as 1."""
    return root(response.square().sum(dim=1, keepdim=True))


def one_minus_cosine(x: Tensor, y: Tensor) -> Tensor:
    """Return ``1 - cos`` along dimension 1, kept as 1, by way of ``|u - v|² / 2``.

    Small angles keep their digits that way, where one minus a cosine near one would lose them.
    Vectors of zeros are at distance 0 from each other and 1 from any other vector.
    """
    lengths = length(x), length(y)
    u, v = (r / torch.where(n == 0, 1.0, n) for r, n in zip((x, y), lengths, strict=True))
    one_is_zero = (lengths[0] == 0) ^ (lengths[1] == 0)
    return squared(u - v).sum(dim=1, keepdim=True) / 2 + one_is_zero.to(x.dtype) / 2


def over_all(response: Tensor) -> tuple[int, ...]:
    """Return all dimensions of a response but the first."""
    return tuple(range(1, response.ndim))


def elements(response: Tensor) -> int:
    """Return how many values a response ``[N, ...]`` has for one image."""
    return response[0].numel()


def positions(response: Tensor) -> Tensor:
    """Return a response ``[N, C, ...]`` as ``[N, C, P]``, P being its positions."""
    return response.flatten(2) if response.ndim > 2 else response.unsqueeze(-1)


def of_channels(weights: Tensor, response: Tensor) -> Tensor:
    """Return weights ``[C]`` in a shape that multiplies a response ``[N, C, ...]``."""
    return weights.view(1, -1, *[1] * (response.ndim - 2))
