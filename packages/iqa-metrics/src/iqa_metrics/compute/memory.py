"""How much memory a pass may take, and how a batch is split into chunks to stay within it.

On a CPU, small passes are also faster. Whenever glibc allocates a block above 32 MiB, it maps new
memory, and returns it to the kernel when the block is freed. A pass with smaller feature maps
avoids these page faults.
"""

import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

CPU_BYTES = 2**26
"""The default budget of a pass on a CPU: 64 MiB, or one pair if that takes more."""
GPU_SHARE = 0.5
"""The default budget of a pass on a GPU, as a share of its free memory."""

_UNITS = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "kB": 10**3, "MB": 10**6, "GB": 10**9}
_TEXT = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)", re.ASCII)

Memory = int | float | str | None
"""Bytes, as an int; a share of the device's free memory, as a float; either of them as text, such
as ``"2GiB"`` or ``"0.5"``; or None for the default."""


@dataclass(frozen=True)
class MemoryBudget:
    """The most memory that a pass may take in addition to weights and images.

    Attributes
    ----------
    bytes
        A fixed number of bytes, or None.
    share
        A share of the free memory of the device, or None.
    """

    bytes: int | None = None
    share: float | None = None

    @classmethod
    def parse(cls, memory: Memory) -> "MemoryBudget":
        """Make a budget from what a user gives.

        Parameters
        ----------
        memory
            None; bytes, as an int of at least 1; a share of the device's free memory, as a float
            above 0 and at most 1; or either as text, such as ``"2GiB"``, ``"500 MB"`` or ``"0.5"``.

        Raises
        ------
        ValueError
            If it is none of these.
        """
        if memory is None:
            return cls()
        if isinstance(memory, str):
            match = _TEXT.fullmatch(memory.strip())
            if match and match[2] in _UNITS:
                number = float(match[1])
                plain = not match[2]
                if plain and "." in match[1]:
                    return cls.parse(number)
                return cls.parse(int(number * _UNITS[match[2]]))
        elif isinstance(memory, int) and not isinstance(memory, bool):
            if memory >= 1:
                return cls(bytes=memory)
        elif isinstance(memory, float) and 0 < memory <= 1:
            return cls(share=memory)
        raise ValueError(
            "memory: expected bytes, such as 2147483648 or '2GiB', or a share of the device's free "
            f"memory, above 0 and at most 1, such as 0.5; got {memory!r}"
        )

    def available(self, device: torch.device) -> int:
        """Return how many bytes a pass may take on a device at the moment."""
        if self.bytes is not None:
            return self.bytes
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
            return int((free + cached) * (self.share or GPU_SHARE))
        return CPU_BYTES if self.share is None else int(_free_on_host() * self.share)


def _free_on_host() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not every system has these values
        return CPU_BYTES


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception means that memory ran out, on a CPU or a GPU."""
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    # The CPU allocators of torch and oneDNN have no exception of their own.
    return isinstance(error, RuntimeError) and any(
        words in str(error)
        for words in ("can't allocate memory", "not enough memory", "out of memory")
    )


def in_chunks(
    count: int, most: int, run: Callable[[int, int], Tensor], device: torch.device
) -> Tensor:
    """Compute the values of a batch chunk by chunk.

    If memory runs out, the chunk is halved and tried again, and later chunks stay small. This
    changes values by no more than rounding.

    Parameters
    ----------
    count
        Number of pairs.
    most
        Most pairs in a chunk.
    run
        ``run(first, last)`` returns the values of the pairs from ``first`` up to, but not
        including, ``last``: ``[last - first, ...]``.
    device
        The device that computes.

    Returns
    -------
    Tensor
        ``[count, ...]``.
    """
    # Chunks are as equal as possible, because each further size would have to be compiled.
    size = math.ceil(count / math.ceil(count / max(1, most))) if count else 1
    # One table for all chunks, because thousands of small results would fragment the heap.
    table: Tensor | None = None
    first = 0
    while first < count:
        last = min(first + size, count)
        try:
            values = run(first, last)
        except Exception as error:
            if size == 1 or not is_out_of_memory(error):
                raise
            out_of_memory = True
        else:
            out_of_memory = False
        if out_of_memory:  # outside the handler, whose traceback holds on to the pass's memory
            size = math.ceil(min(size, last - first) / 2)
            if device.type == "cuda":
                torch.cuda.empty_cache()
            continue
        if table is None:
            if last == count:
                return values
            table = values.new_empty((count, *values.shape[1:]))
        table[first:last] = values
        del values
        first = last
    if table is None:
        raise ValueError("expected at least one pair, got none")
    return table
