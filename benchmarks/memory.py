"""Peak memory of a pass, in a process that does nothing else.

What counts is peak resident memory (the kernel's VmHWM) above what is resident (VmRSS) once weights
and images are loaded and a tiny pair has been scored: feature maps, temporaries and workspaces of
the pass, and what the allocator keeps of them. Code, weights and the images themselves do not
count. The kernel's peak is reset before the pass by writing 5 to /proc/self/clear_refs.
"""

import gc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import peers, photographs
from benchmarks.layers import by_hooks, every_layer, sum_of_layers
from iqa_metrics import LPIPS

MIB = 2**20


def measure(job: Mapping[str, Any]) -> dict[str, Any]:
    """Measure one side of a case."""
    options, side = job["options"], job["side"]
    size = photographs.QUICK_SIZE if job["quick"] else tuple(options["size"])
    count = 2 if side.endswith("2 pairs") else options["count"]
    x, y = photographs.pairs(size, count)
    compare = _compare(options, side)
    if isinstance(compare, str):
        return {"absent": {side: compare}}
    tiny = photographs.pairs((64, 64), 1)
    with torch.inference_mode():
        found = above(lambda: compare(x, y), lambda: compare(*tiny))
    if options["of"] == "layers":
        found["sum_of_layers_mib"] = sum_of_layers(size, options["count"]) / MIB
    return found


def above(run: Callable[[], Tensor], tiny: Callable[[], Tensor]) -> dict[str, Any]:
    """Return the peak of a run above what was there before, in MiB."""
    tiny()
    gc.collect()
    base = _resident("VmRSS")
    reset = True
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # then the peak may be an earlier one
        reset = False
    run()
    peak = _resident("VmHWM")
    return {
        "base_mib": base / MIB,
        "peak_mib": peak / MIB,
        "above_mib": (peak - base) / MIB,
        "peak_was_reset": reset,
    }


def resident() -> int:
    """Return the current resident memory of this process in bytes."""
    return _resident("VmRSS")


def peak() -> int:
    """Return the peak resident memory of this process in bytes."""
    return _resident("VmHWM")


def _resident(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {key}")


def _compare(options: Mapping[str, Any], side: str) -> peers.Compare | str:
    ours = side.startswith("ours")
    if options["of"] == "layers":
        network = peers.bare("vgg")
        return every_layer(network) if ours else by_hooks(network)
    net = options["net"]
    return LPIPS(net, trunk=peers.bare(net)) if ours else peers.made(peers.lpips, net)
