"""What separate processes run, in a module that they can import."""

import subprocess
import sys

import torch

from iqa_metrics.torchmetrics import ImageQuality


def batch(rank):
    """Return the distorted images and references of a process, one more in each process."""
    generator = torch.Generator().manual_seed(rank)
    return torch.rand(2, 1 + rank, 3, 24, 24, generator=generator)


def accumulate(rank, port, found):
    """Update with a batch in one of two processes, and write the combined result."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
    )
    mean, each = ImageQuality("ssim"), ImageQuality("ssim", reduction="none")
    for metric in (mean, each):
        metric.update(*batch(rank))
    found[rank] = (float(mean.compute()), each.compute().tolist())
    torch.distributed.destroy_process_group()


def told_versions(command):
    """What a command's --version prints, then its exit status and whether torch was imported."""
    code = (
        "import runpy, sys\nsys.argv = ['command', '--version']\n"
        f"try: runpy.run_module({command!r}, run_name='__main__')\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return answer.stdout.splitlines()
