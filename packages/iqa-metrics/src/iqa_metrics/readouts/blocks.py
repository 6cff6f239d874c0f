"""Process feature maps in cache-sized blocks, and share what several readouts compute.

Feature maps ``[N, C, ...]`` are taken as N matrices ``[P, C]``, with one row per position and one
column per channel. That is their memory layout in channels-last format, and a view otherwise. On a
CPU a readout processes blocks of rows that stay in the cache, so that no temporary is as large as
the feature maps. On a GPU, and in a compiler, there is one block with everything.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from iqa_metrics.compute.tracing import is_hidden, recorded, traced

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


def summed(kernel: Callable[..., Tensor], *features: Tensor) -> Tensor:
    """Sum a kernel's values of all blocks, ``[n, ...]``, per image: float64 ``[N, ...]``."""
    return _in_blocks(kernel, _added, features).double()


def joined(kernel: Callable[..., Tensor], *features: Tensor) -> Tensor:
    """Concatenate a kernel's values of all blocks, ``[n, p]``, per image: ``[N, P]``."""
    return _in_blocks(kernel, _laid_end_to_end, features)


def _added(parts: list[Tensor]) -> Tensor:
    return torch.stack(parts).double().sum(dim=0)


def _laid_end_to_end(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts, dim=1)


Join = Callable[[list[Tensor]], Tensor]


@dataclass(frozen=True)
class _Block:
    """Where a block lies: its images, and the positions in them."""

    images: slice
    rows: slice

    def of(self, table: Tensor) -> Tensor:
        """Return the block of a table ``[N, P, C]``; one image or one position serves all."""
        images = slice(None) if len(table) == 1 else self.images
        rows = slice(None) if table.shape[1] == 1 else self.rows
        return table[images, rows]


def _blocks(tables: Sequence[Tensor]) -> list[list[_Block]]:
    """Return the blocks of each image, or one block of all images, in order."""
    count, rows = (max(table.shape[dim] for table in tables) for dim in (0, 1))
    if tables[0].device.type != "cpu":
        return [[_Block(slice(None), slice(None))]]
    step = max(1, BLOCK // tables[0].shape[2])
    parts = [slice(first, first + step) for first in range(0, rows, step)]
    return [[_Block(slice(n, n + 1), part) for part in parts] for n in range(count)]


def _in_blocks(kernel: Callable[..., Tensor], join: Join, features: tuple[Tensor, ...]) -> Tensor:
    tables = [matrices(one) for one in features]
    if traced():
        return kernel(*single(*tables))
    if recorded(*tables):
        values: Tensor = _Differentiated.apply(kernel, join, *tables)
        return values
    return _computed(kernel, join, tables)


def _computed(kernel: Callable[..., Tensor], join: Join, tables: Sequence[Tensor]) -> Tensor:
    by_image = [
        [kernel(*single(*(block.of(table) for table in tables))) for block in of_image]
        for of_image in _blocks(tables)
    ]
    if len(by_image) == len(by_image[0]) == 1:
        return by_image[0][0]
    return torch.cat([join(parts) for parts in by_image])


class _Differentiated(torch.autograd.Function):
    """A kernel of blocks that keeps nothing for the gradient but the feature maps.

    Each block is computed a second time for its gradient, in the cache. That is quicker than
    reading what was kept of the first time from memory.
    """

    @staticmethod
    def forward(ctx: Any, kernel: Callable[..., Tensor], join: Join, *tables: Tensor) -> Tensor:
        """Compute the kernel's values, joined."""
        ctx.kernel, ctx.join = kernel, join
        ctx.save_for_backward(*tables)
        return _computed(kernel, join, tables)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of each table."""
        tables, wanted = ctx.saved_tensors, ctx.needs_input_grad[2:]
        differentiated = torch.is_grad_enabled()
        if differentiated or is_hidden(gradient):  # or several gradients come at once
            with torch.enable_grad():
                if not differentiated:
                    tables = [
                        table.detach().requires_grad_(wants)
                        for table, wants in zip(tables, wanted, strict=True)
                    ]
                values = ctx.kernel(*single(*tables))
            found = iter(
                torch.autograd.grad(
                    values,
                    [table for table, wants in zip(tables, wanted, strict=True) if wants],
                    gradient.to(values.dtype),
                    create_graph=differentiated,
                )
            )
            return None, None, *(next(found) if wants else None for wants in wanted)
        of_tables = [
            torch.zeros_like(table) if wants else None
            for table, wants in zip(tables, wanted, strict=True)
        ]
        for of_image in _blocks(tables):
            for block in of_image:
                parts = [
                    block.of(table).detach().requires_grad_(wants)
                    for table, wants in zip(tables, wanted, strict=True)
                ]
                with torch.enable_grad():
                    values = ctx.kernel(*single(*parts))
                of_block = gradient[block.images]
                if ctx.join is _laid_end_to_end:
                    of_block = of_block[:, block.rows]
                found = iter(
                    torch.autograd.grad(
                        values,
                        [part for part in parts if part.requires_grad],
                        of_block.to(values.dtype),
                    )
                )
                for of_table in of_tables:
                    if of_table is not None:
                        block.of(of_table).add_(next(found))
        return None, None, *of_tables
