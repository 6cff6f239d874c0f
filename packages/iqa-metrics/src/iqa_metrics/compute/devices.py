"""Choose the device to compute on, and compute elsewhere what it can't."""

import warnings
from functools import cache

import torch
from torch import Tensor


def pick_device(name: str = "auto") -> torch.device:
    """Return a device by name; ``"auto"`` is the first CUDA or Apple GPU, or else the CPU.

    Raises
    ------
    ValueError
        If the name is not ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``, or if there is no
        such GPU.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if _has_mps() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (
        name != kind and not (kind == "cuda" and index.isdecimal())
    ):
        raise ValueError(f"device: expected auto, cpu, cuda, cuda:N or mps, got {name!r}")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"there is no device {name!r}: torch sees {torch.cuda.device_count()} GPUs; use auto "
            "or cpu"
        )
    if kind == "mps" and not _has_mps():
        raise ValueError(
            "there is no device 'mps': it needs a Mac with an Apple GPU and torch 2.5 or later; "
            "use auto or cpu"
        )
    return torch.device(name)


def _has_mps() -> bool:
    # Old versions of torch can't switch off an enclosing autocast there.
    return torch.backends.mps.is_available() and torch.amp.is_autocast_available("mps")


def lacks_float64(device: torch.device) -> bool:
    """Return whether a device can't compute in float64."""
    return device.type == "mps"


def with_float64(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return tensors where float64 exists: on their device or, if it has none, on the CPU."""
    return tuple(_on_cpu(one) if lacks_float64(one.device) else one for one in tensors)


def returned(values: Tensor, device: torch.device) -> Tensor:
    """Return values on the device that they were asked for on, at most as wide as it allows."""
    return (values.float() if lacks_float64(device) else values).to(device)


def _on_cpu(tensor: Tensor) -> Tensor:
    _warn_once(tensor.device.type)
    return tensor.cpu()


@cache
def _warn_once(kind: str) -> None:
    warnings.warn(
        f"device {kind} has no float64: networks run on it, but readouts and metrics without a "
        "network are computed on the CPU",
        stacklevel=2,
    )
