"""Process feature maps in cache-sized blocks, and share what several readouts compute.

Feature maps ``[N, C, ...]`` are taken as N matrices ``[P, C]``, with one row per position and one
column per channel. That is their memory layout in channels-last format, and a view otherwise. On a
CPU a readout processes blocks of rows that stay in the cache, so that no temporary is as large as
the feature maps. On a GPU, or where a gradient is recorded, there is one block with everything.
"""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

BLOCK = 2**17
"""Elements of a block: 512 KiB as float32. With smaller blocks the calls cost more than the cache
saves; larger blocks do not fit into the cache."""

P = ParamSpec("P")
T = TypeVar("T")

_SHARED: ContextVar[dict[Hashable, object] | None] = ContextVar("_SHARED", default=None)


@contextmanager
def sharing() -> Iterator[None]:
    """Let the readouts called inside this context compute shared intermediate results only once.

    Inside it, feature maps must neither change nor be freed.
    """
    token = _SHARED.set({})
    try:
        yield
    finally:
        _SHARED.reset(token)


def shared(function: Callable[P, T]) -> Callable[P, T]:
    """Make a function of feature maps remember its results inside :func:`sharing`."""

    @wraps(function)
    def remembering(*args: P.args, **kwargs: P.kwargs) -> T:
        memory = _SHARED.get()
        if memory is None:
            return function(*args, **kwargs)
        # By identity: the feature maps stay alive as long as the memory does.
        given = (*args, *sorted(kwargs.items()))
        key = (function, *(id(a) if isinstance(a, Tensor) else a for a in given))
        if key not in memory:
            memory[key] = function(*args, **kwargs)
        return memory[key]  # type: ignore[return-value]

    return remembering


def matrices(features: Tensor) -> Tensor:
    """Return feature maps ``[N, C, ...]`` as ``[N, P, C]``, as a view where possible."""
    return features.flatten(2).mT if features.ndim > 2 else features.unsqueeze(1)


def single(*features: Tensor) -> tuple[Tensor, ...]:
    """Return all feature maps as float32, or as float64 if one of them is float64.

    This comes before any difference is taken, not after: float16 overflows at 65504.
    """
    dtype = torch.float32
    for one in features:
        dtype = torch.promote_types(dtype, one.dtype)
    return tuple(one.to(dtype) for one in features)


def blocks(*features: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield corresponding blocks ``[n, p, C]`` of several feature maps, image by image, in order.

    A single image, or a single position, is broadcast to all. Blocks are at least float32. A block
    belongs to one image, or it is the only block and has all images.
    """
    tables = [matrices(one) for one in features]
    count, rows = (max(table.shape[dim] for table in tables) for dim in (0, 1))
    recorded = torch.is_grad_enabled() and any(r.requires_grad for r in features)
    if recorded or tables[0].device.type != "cpu" or torch.compiler.is_compiling():
        yield single(*tables)
        return
    step = max(1, BLOCK // tables[0].shape[2])
    for image in range(count):
        of_image = [table[min(image, len(table) - 1)][None] for table in tables]
        for first in range(0, rows, step):
            part = slice(first, first + step)
            yield single(*(t if t.shape[1] == 1 else t[:, part] for t in of_image))


def summed(kernel: Callable[..., Tensor], *features: Tensor) -> Tensor:
    """Sum a kernel's values of all blocks, ``[n, ...]``, per image: float64 ``[N, ...]``."""
    return _together(
        kernel, features, lambda parts: torch.stack(parts).double().sum(dim=0)
    ).double()


def joined(kernel: Callable[..., Tensor], *features: Tensor) -> Tensor:
    """Concatenate a kernel's values of all blocks, ``[n, p]``, per image: ``[N, P]``."""
    return _together(kernel, features, lambda parts: torch.cat(parts, dim=1))


def _together(
    kernel: Callable[..., Tensor],
    features: tuple[Tensor, ...],
    join: Callable[[list[Tensor]], Tensor],
) -> Tensor:
    parts = [kernel(*block) for block in blocks(*features)]
    if len(parts) == 1:
        return parts[0]
    count = max(len(one) for one in features)
    each = len(parts) // count
    return torch.cat([join(parts[i : i + each]) for i in range(0, len(parts), each)])
