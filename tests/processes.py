"""What a process of its own runs: in a module that it can import."""

import torch

from iqa_metrics.torchmetrics import ImageQuality


def batch(rank):
    """The images of a process, one more in each: to judge, and undistorted."""
    generator = torch.Generator().manual_seed(rank)
    return torch.rand(2, 1 + rank, 3, 24, 24, generator=generator)


def accumulate(rank, port, found):
    """Take a batch in one of two processes, and put down what both together come to."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
    )
    mean, each = ImageQuality("ssim"), ImageQuality("ssim", reduction="none")
    for metric in (mean, each):
        metric.update(*batch(rank))
    found[rank] = (float(mean.compute()), each.compute().tolist())
    torch.distributed.destroy_process_group()
