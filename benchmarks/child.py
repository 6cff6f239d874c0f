"""Measure one case in this process: python -m benchmarks.child JOB.json RESULT.json."""

import importlib
import json
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CONTESTS = (
    *("lpips", "dists", "dists_resized", "ssim", "ms_ssim", "psnr"),
    *("layers", "winograd", "default"),
)
MODULES = {
    "memory": "benchmarks.memory",
    "table": "benchmarks.tables",
    "imports": "benchmarks.imports",
    "opinions": "benchmarks.opinions",
    "study": "benchmarks.statistics_of_studies",
    "training": "benchmarks.training",
}
KINDS = (*CONTESTS, *MODULES)


def measure(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of a job."""
    warnings.filterwarnings("ignore")  # torchvision warns about options that peers still pass
    kind = job["kind"]
    if kind == "imports":  # without torch in this process
        return importlib.import_module(MODULES[kind]).measure(job)
    import torch

    torch.set_num_threads(job["threads"])
    if kind in MODULES:
        found = importlib.import_module(MODULES[kind]).measure(job)
    else:
        contests = importlib.import_module("benchmarks.contests")
        found = contests.measure(getattr(contests, kind)(job), job)
    kernels = torch.backends.cpu.get_cpu_capability()
    device = torch.cuda.get_device_name() if job["device"] == "cuda" else "cpu"
    return {
        **found,
        "torch": {"threads": torch.get_num_threads(), "kernels": kernels},
        "on": device,
    }


def main() -> None:
    """Read a job and write its result."""
    job, result = (Path(argument) for argument in sys.argv[1:])
    result.write_text(json.dumps(measure(json.loads(job.read_text()))))


if __name__ == "__main__":
    main()
