"""Choose the device to compute on."""

import torch


def pick_device(name: str = "auto") -> torch.device:
    """Return a device by name; ``"auto"`` is the first GPU if there is one, else the CPU.

    Raises
    ------
    ValueError
        If the name is not ``auto``, ``cpu``, ``cuda`` or ``cuda:N``, or if there is no such GPU.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not (kind == "cuda" and index.isdecimal())):
        raise ValueError(f"device: expected auto, cpu, cuda or cuda:N, got {name!r}")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"there is no device {name!r}: torch sees {torch.cuda.device_count()} GPUs; use auto "
            "or cpu"
        )
    return torch.device(name)
