"""The time that importing takes, in fresh interpreters that take turns."""

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

from benchmarks.timing import timed

BASE = "import torch, torchvision"
STATEMENTS = ("import iqa_metrics", "from iqa_metrics import create_metric")


def measure(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return medians in milliseconds, and the ratios to torch's time in each round."""
    statements = (*STATEMENTS, BASE)
    for statement in statements:  # so that files are in the page cache and bytecode is on disk
        _seconds(statement)
    rounds = 2 if job["quick"] else job["options"]["rounds"]
    times: dict[str, list[float]] = {statement: [] for statement in statements}
    for _ in range(rounds):
        for statement in statements:
            times[statement].append(1e3 * _seconds(statement))
    return {
        "ms": {name: statistics.median(of) for name, of in times.items()},
        "all_ms": times,
        "ratios": {
            name: [a / b for a, b in zip(times[name], times[BASE], strict=True)]
            for name in STATEMENTS
        },
    }


def _seconds(statement: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", statement]
        return timed(lambda: subprocess.run(command, check=True, cwd=folder))[1]
