"""A training step: what its forward pass keeps, its peak, and its time, in a process of its own.

The loss is the metric's mean over pairs whose distorted images require a gradient. Memory is
resident memory above what was there before the step (see :mod:`benchmarks.memory`): "kept" at the
end of the forward pass, "peak" during the whole step. Both exclude weights and images. Before it,
a step with small images has been taken or, if the step is compiled, one of the same size.
"""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import peers, photographs
from benchmarks.memory import MIB, peak, resident
from iqa_metrics import LPIPS

_ROUNDS = 7


def measure(job: Mapping[str, Any]) -> dict[str, Any]:
    """Measure one side of a case."""
    options, side = job["options"], job["side"]
    size = photographs.QUICK_SIZE if job["quick"] else tuple(options["size"])
    x, y = photographs.pairs(size, options["count"])
    compiled = side.endswith(" compiled")
    compare: Any
    if side.startswith("ours"):
        compare = LPIPS(options["net"], trunk=peers.bare(options["net"]), check="off")
    else:
        compare = peers.made(peers.lpips, options["net"])
        if isinstance(compare, str):
            return {"absent": {side: compare}}

    def loss(x: Tensor, y: Tensor) -> Tensor:
        mean: Tensor = compare(x, y).mean()
        return mean

    forward: Callable[[Tensor, Tensor], Tensor] = torch.compile(loss) if compiled else loss
    _step(forward, *((x, y) if compiled else photographs.pairs((64, 64), 1)))
    gc.collect()
    base = resident()
    Path("/proc/self/clear_refs").write_text("5")
    kept = _step(forward, x, y)
    above = peak() - base
    times = []
    for _ in range(min(_ROUNDS, job["rounds"])):
        start = time.perf_counter()
        _step(forward, x, y)
        times.append(1000 * (time.perf_counter() - start))
    return {
        "kept_mib": (kept - base) / MIB,
        "peak_mib": above / MIB,
        "ms": statistics.median(times),
    }


def _step(forward: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> int:
    """Take a step, and return resident memory at the end of its forward pass, in bytes."""
    distorted = y.clone().requires_grad_()
    loss = forward(x, distorted)
    kept = resident()
    loss.backward()  # type: ignore[no-untyped-call]
    return kept
