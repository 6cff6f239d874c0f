"""A training step: what its forward pass keeps, its peak, and its time, in a process of its own.

The loss is the metric's mean over pairs whose distorted images require a gradient. Memory is
resident memory above what was there before the step (see :mod:`benchmarks.memory`): "kept" at the
end of the forward pass, "peak" during the whole step. Both exclude weights and images. Before it,
a step with small images has been taken or, if the step is compiled, one of the same size. Time is
measured in turns, in a process of its own.
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

Loss = Callable[[Tensor, Tensor], Tensor]

_ROUNDS = 7


def measure(job: Mapping[str, Any]) -> dict[str, Any]:
    """Measure one side's memory, or the time of both sides in turns."""
    side, options = job["side"], job["options"]
    size = photographs.QUICK_SIZE if job["quick"] else tuple(options["size"])
    x, y = photographs.pairs(size, options["count"])
    compiled = side.endswith(" compiled")
    wanted = ("ours", "lpips") if side.startswith("time") else (side.split()[0],)
    losses: dict[str, Loss] = {}
    for name in wanted:
        loss = _loss(name, options["net"])
        if isinstance(loss, str):
            return {"absent": {name: loss}}
        losses[name] = torch.compile(loss) if compiled else loss
    before = (x, y) if compiled else photographs.pairs((64, 64), 1)
    for loss in losses.values():
        _step(loss, *before)
    if side.startswith("time"):
        return {"ms": _times(losses, x, y, min(_ROUNDS, job["rounds"]))}
    (loss,) = losses.values()
    gc.collect()
    base = resident()
    Path("/proc/self/clear_refs").write_text("5")
    kept = _step(loss, x, y)
    return {"kept_mib": (kept - base) / MIB, "peak_mib": (peak() - base) / MIB}


def _loss(name: str, net: Any) -> "Loss | str":
    """Return a loss, or the reason why it is not available."""
    compare: Any
    if name == "ours":
        compare = LPIPS(net, trunk=peers.bare(net), check="off")
    else:
        compare = peers.made(peers.lpips, net)
        if isinstance(compare, str):
            return compare

    def loss(x: Tensor, y: Tensor) -> Tensor:
        mean: Tensor = compare(x, y).mean()
        return mean

    return loss


def _times(losses: Mapping[str, Loss], x: Tensor, y: Tensor, rounds: int) -> dict[str, float]:
    """Return the median of each side's steps, in milliseconds."""
    times: dict[str, list[float]] = {name: [] for name in losses}
    for _ in range(rounds + 1):
        for name, loss in losses.items():
            start = time.perf_counter()
            _step(loss, x, y)
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(of[1:]) for name, of in times.items()}


def _step(forward: Loss, x: Tensor, y: Tensor) -> int:
    """Take a step, and return resident memory at the end of its forward pass, in bytes."""
    distorted = y.clone().requires_grad_()
    loss = forward(x, distorted)
    kept = resident()
    loss.backward()  # type: ignore[no-untyped-call]
    return kept
