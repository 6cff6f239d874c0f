"""What separate processes run, in a module that they can import."""

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
