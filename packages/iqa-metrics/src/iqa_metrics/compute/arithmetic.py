"""The types and the precision in which pairs of images are compared."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor

from iqa_metrics.compute.features import Reference


def widened(reference: Reference, distorted: Tensor) -> tuple[Reference, Tensor]:
    """Return both in the type in which they are compared."""
    wider = common_type(reference, distorted)
    return reference.to(wider) if isinstance(reference, Tensor) else reference, distorted.to(wider)


def common_type(reference: Reference, distorted: Tensor) -> torch.dtype:
    """Return the wider type of the two, at least float32.

    Half-precision images would otherwise be rounded once more when they are scaled.
    """
    image = reference if isinstance(reference, Tensor) else reference.image
    return torch.promote_types(torch.promote_types(image.dtype, distorted.dtype), torch.float32)


@contextmanager
def exact_arithmetic(device: torch.device) -> Iterator[None]:
    """Keep the caller's settings from silently lowering a metric's precision.

    It switches off an enclosing autocast and, on a GPU, TF32 for convolutions, which is torch's
    default. The latter is a flag of the whole process; it is restored at the end.
    """
    with torch.autocast(device.type, enabled=False), _exact_convolutions(device):
        yield


def _exact_convolutions(device: torch.device) -> AbstractContextManager[None]:
    # A compiler can't trace the flag, and leaves it as it is.
    if device.type != "cuda" or torch.compiler.is_compiling():
        return nullcontext()
    cudnn = torch.backends.cudnn
    flags: AbstractContextManager[None] = cudnn.flags(
        enabled=cudnn.enabled,
        benchmark=cudnn.benchmark,
        deterministic=cudnn.deterministic,
        allow_tf32=False,
    )
    return flags
