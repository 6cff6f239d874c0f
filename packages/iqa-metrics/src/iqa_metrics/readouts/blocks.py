"""Work through two responses a cache-sized block at a time, and share what readouts have in common.

A response ``[N, C, ...]`` is taken as N matrices ``[P, C]``: a row for each of its P positions, a
column a channel. That is how it lies in memory channels last, and a view of it otherwise. On a CPU
a readout goes over blocks of rows that stay in the cache, so that nothing of a response's size is
made; on a GPU, or where a gradient is recorded, the one block is everything.
"""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

BLOCK = 2**17
"""Elements of a block: 512 KiB as float32. Smaller ones pay more for calls than they save, larger
ones leave the cache."""

P = ParamSpec("P")
T = TypeVar("T")

_SHARED: ContextVar[dict[Hashable, object] | None] = ContextVar("_SHARED", default=None)


@contextmanager
def sharing() -> Iterator[None]:
    """Let the readouts called inside compute what they have in common once.

    Inside, responses must neither change nor be freed.
    """
    token = _SHARED.set({})
    try:
        yield
    finally:
        _SHARED.reset(token)


def shared(function: Callable[P, T]) -> Callable[P, T]:
    """Make a function of responses remember its results for the length of :func:`sharing`."""

    @wraps(function)
    def remembering(*args: P.args, **kwargs: P.kwargs) -> T:
        memory = _SHARED.get()
        if memory is None:
            return function(*args, **kwargs)
        # By identity: the responses stay alive as long as the memory does.
        given = (*args, *sorted(kwargs.items()))
        key = (function, *(id(a) if isinstance(a, Tensor) else a for a in given))
        if key not in memory:
            memory[key] = function(*args, **kwargs)
        return memory[key]  # type: ignore[return-value]

    return remembering


def matrices(response: Tensor) -> Tensor:
    """Return a response ``[N, C, ...]`` as ``[N, P, C]``, without a copy where it can be done."""
    return response.flatten(2).mT if response.ndim > 2 else response.unsqueeze(1)


def single(*responses: Tensor) -> tuple[Tensor, ...]:
    """Return all as float32, or as float64 where one is that.

    Before a difference is taken, not after: float16 overflows at 65504.
    """
    dtype = torch.float32
    for response in responses:
        dtype = torch.promote_types(dtype, response.dtype)
    return tuple(response.to(dtype) for response in responses)


def blocks(*responses: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield blocks ``[n, p, C]`` of responses, together: image by image, rows from first to last.

    Where a response has one image, or one position, that goes with all. Blocks are at least
    float32. A block is either of one image, or the only one, of all images.
    """
    tables = [matrices(response) for response in responses]
    count, rows = (max(table.shape[dim] for table in tables) for dim in (0, 1))
    recorded = torch.is_grad_enabled() and any(r.requires_grad for r in responses)
    if recorded or tables[0].device.type != "cpu" or torch.compiler.is_compiling():
        yield single(*tables)
        return
    step = max(1, BLOCK // tables[0].shape[2])
    for image in range(count):
        of_image = [table[min(image, len(table) - 1)][None] for table in tables]
        for first in range(0, rows, step):
            part = slice(first, first + step)
            yield single(*(t if t.shape[1] == 1 else t[:, part] for t in of_image))


def summed(kernel: Callable[..., Tensor], *responses: Tensor) -> Tensor:
    """Sum what a kernel makes of each block, ``[n, ...]``, image by image: float64 ``[N, ...]``."""
    return _together(
        kernel, responses, lambda parts: torch.stack(parts).double().sum(dim=0)
    ).double()


def joined(kernel: Callable[..., Tensor], *responses: Tensor) -> Tensor:
    """Lay what a kernel makes of each block, ``[n, p]``, end to end: ``[N, P]``."""
    return _together(kernel, responses, lambda parts: torch.cat(parts, dim=1))


def _together(
    kernel: Callable[..., Tensor],
    responses: tuple[Tensor, ...],
    join: Callable[[list[Tensor]], Tensor],
) -> Tensor:
    parts = [kernel(*block) for block in blocks(*responses)]
    if len(parts) == 1:
        return parts[0]
    count = max(len(response) for response in responses)
    each = len(parts) // count
    return torch.cat([join(parts[i : i + each]) for i in range(0, len(parts), each)])
