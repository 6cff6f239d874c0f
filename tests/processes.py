"""What separate processes run, in a module that they can import."""

import copy
import subprocess
import sys

import pytest
import torch
from torch.distributed import device_mesh, fsdp

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
    alone = ImageQuality("ssim", sync_on_compute=False)
    for metric in (mean, each, alone):
        metric.update(*batch(rank))
    step = ImageQuality("ssim", dist_sync_on_step=True)
    of_step = float(step(*batch(rank)))
    found[rank] = {
        "mean": float(mean.compute()),
        "each": each.compute().tolist(),
        "alone": float(alone.compute()),
        "step": of_step,
        "after the step": float(step.compute()),
        "not synced any more": float(mean.metric_state[mean._state][1]),
    }
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


# Torch shards models on CPUs from 2.6 on.
WRAPPINGS = ("ddp", "fsdp", "fully_shard") if hasattr(fsdp, "fully_shard") else ("ddp",)


def sharded(kind):
    """Return what wraps a model for training in several processes, on a CPU."""

    def wrap(model):
        if kind not in WRAPPINGS:
            pytest.skip("this version of torch shards no models on CPUs")
        if kind == "ddp":
            return torch.nn.parallel.DistributedDataParallel(model)
        if kind == "fsdp":
            return fsdp.FullyShardedDataParallel(model, device_id=torch.device("cpu"))
        count = torch.distributed.get_world_size()
        return fsdp.fully_shard(model, mesh=device_mesh.init_device_mesh("cpu", (count,)))

    return wrap


def train_sharded(rank, store, threads, model, measured, images, found):
    """Train copies of a model in one of two processes; write what their losses measure then."""
    torch.set_num_threads(threads)
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.FileStore(store, 2), rank=rank, world_size=2
    )
    for kind in WRAPPINGS:
        trained = copy.deepcopy(model)
        wrapped = sharded(kind)(trained)
        step = torch.optim.Adam(wrapped.parameters(), lr=0.1)
        wrapped(torch.rand(1, 3, 8, 8)).sum().backward()
        step.step()
        state = wrapped.state_dict()
        wrapped.load_state_dict(state, strict=True)
        keys = sorted(key.removeprefix("module.") for key in state)
        found[rank, kind] = ([measured(metric, images) for metric in trained.losses], keys)
    torch.distributed.destroy_process_group()
