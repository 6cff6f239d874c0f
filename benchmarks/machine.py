"""Facts about the machine of a result."""

import datetime
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from benchmarks import REPOSITORY

PACKAGES = (
    "torch",
    "torchvision",
    "lpips",
    "DISTS-pytorch",
    "torchmetrics",
    "piq",
    "pyiqa",
    "pytorch-msssim",
    "scikit-image",
    "numpy",
)
FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16")
LOW_PRECISION = ("avx512_bf16", "amx_bf16")
"""A CPU needs one of these features to multiply in bfloat16."""


def facts(threads: int) -> dict[str, Any]:
    """Return the facts that may change a figure."""
    model, flags = _processor()
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": _commit(),
        "processor": model,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "threads": threads,
        "features": [name for name in FEATURES if name in flags],
        "memory_gib": _memory_gib(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def has_low_precision(found: dict[str, Any]) -> bool:
    """Return whether the CPU multiplies in bfloat16."""
    return any(name in found["features"] for name in LOW_PRECISION)


def _processor() -> tuple[str, set[str]]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor(), set()
    lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in lines.items()}
    named = f"{fields.get('model name', '?')}, family {fields.get('cpu family', '?')}"
    return f"{named} model {fields.get('model', '?')}", set(fields.get("flags", "").split())


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, OSError, ValueError):
        return None


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
