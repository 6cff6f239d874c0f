"""Files of weights to networks: read as data, fitted to a network, and loaded whole or not at all.

A checkpoint is data and no code: torch's are read with ``weights_only=True``. One that needs more
than that is refused.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from iqa_metrics.weights import WeightsError

State = Mapping[str, Any]
"""What a checkpoint holds: a state dict, or dicts around one."""

_SHOWN = 8
"""Most keys that a message names."""


class Unfilled(TorchFunctionMode):
    """Inside, networks are built without memory for their parameters: on torch's meta device.

    What a network computes while it is built, such as tables of positions, is computed as ever.
    Other threads do not notice.
    """

    _EMPTY: ClassVar = {torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn, torch.full}

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Make new tensors on the meta device."""
        options = dict(kwargs or {})
        if func in self._EMPTY and options.get("device") is None:
            options["device"] = "meta"
        return func(*args, **options)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a ``.safetensors`` file or, as plain data only, a torch checkpoint.

    Raises
    ------
    WeightsError
        If the file can't be read as a dict.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except ImportError as error:
        raise WeightsError(f"{path} needs safetensors: pip install safetensors") from error
    except Exception as error:  # unpickling damaged data raises almost anything
        raise WeightsError(
            f"{path} can't be read as weights alone: {error}. A file that holds more than plain "
            "data may run code when it is read; convert it to .safetensors where you trust it"
        ) from error
    if not isinstance(state, dict):
        raise WeightsError(f"{path}: expected a dict of tensors, got {type(state).__name__}")
    return state


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a state dict from a ``.safetensors`` file or a torch checkpoint.

    Raises
    ------
    WeightsError
        If the file can't be read as a flat dict of tensors.
    """
    return _flat(read_checkpoint(path), str(path))


def load(
    network: nn.Module,
    path: Path,
    *,
    part: nn.Module | None = None,
    unpack: Callable[[State], State] | None = None,
) -> None:
    """Load a file into a network built on the meta device, or refuse it whole.

    Values become float32. The counters of batch normalisation, which no response depends on, may be
    missing.

    Parameters
    ----------
    network
        The network, whose keys the file has.
    path
        A ``.safetensors`` file or a torch checkpoint.
    part
        A module that shares modules with the network. A file with its parameters alone, called as
        in the network, is loaded into it.
    unpack
        Finds the state dict in the checkpoint, in the network's keys.

    Raises
    ------
    WeightsError
        If the file can't be read, or keys are missing, unexpected or of the wrong shape; the
        message lists them.
    """
    checkpoint: State = read_checkpoint(path)
    state = _flat(checkpoint if unpack is None else unpack(checkpoint), str(path))
    whole = network.state_dict(keep_vars=True)
    ours = dict.fromkeys(whole)
    if part is not None and not set(whole) <= set(_with_counters(state, whole)):
        # Of a shared module's parameters, the key in the part and the key in the network.
        keys = {id(tensor): key for key, tensor in whole.items()}
        shared = {keys[id(tensor)]: key for key, tensor in part.state_dict(keep_vars=True).items()}
        complete = _with_counters(state, {key: whole[key] for key in shared})
        if set(shared) <= set(complete) <= set(ours):
            network, ours = part, dict.fromkeys(shared.values())
            state = {shared[key]: value for key, value in complete.items() if key in shared}
    else:
        state = _with_counters(state, whole)
    _compare(state, ours, str(path))
    float32 = {
        key: value.float() if value.is_floating_point() else value for key, value in state.items()
    }
    try:
        network.load_state_dict(float32, strict=True, assign=True)
    except RuntimeError as error:  # shapes
        raise WeightsError(f"{path} does not fit this network: {error}") from error
    empty = [key for key, tensor in network.named_buffers() if tensor.is_meta]
    if empty:
        raise WeightsError(f"{path}: no file has the values of {_listed(empty)}")


def _flat(state: State, origin: str) -> dict[str, Tensor]:
    others = [key for key, value in state.items() if not isinstance(value, Tensor)]
    if others or not state:
        raise WeightsError(
            f"{origin}: expected a flat dict of tensors, got {_listed(others) or 'an empty one'}"
        )
    return dict(state)


def _with_counters(state: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict with the counters of batch normalisation that it lacks."""
    missing = {
        key: torch.zeros((), dtype=torch.long)
        for key in wanted
        if key.endswith("num_batches_tracked") and key not in state
    }
    return state | missing


def _compare(state: Mapping[str, Tensor], expected: Mapping[str, object], origin: str) -> None:
    missing = [key for key in expected if key not in state]
    unexpected = [key for key in state if key not in expected]
    if missing or unexpected:
        parts = [
            f"{kind} key(s): {_listed(keys)}"
            for kind, keys in (("Missing", missing), ("Unexpected", unexpected))
            if keys
        ]
        raise WeightsError(f"{origin} does not fit this network. {'. '.join(parts)}")


def _listed(keys: list[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(keys[:_SHOWN]) + more
