"""Files of weights to networks: read as data, fitted to a network, and loaded whole or not at all.

A checkpoint is data and no code: torch's are read with ``weights_only=True``. One that needs more
than that is refused.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from iqa_metrics.weights.files import WeightsError

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
    """Load a file into a network built without memory, or refuse it whole.

    Values become float32. Keys of older releases are taken as the network's own code takes them.
    The counters of batch normalisation, which no response depends on, may be missing.

    Parameters
    ----------
    network
        The network, whose keys the file has. After an error it is of no use.
    path
        A ``.safetensors`` file or a torch checkpoint.
    part
        A module that shares modules with the network. A file with its parameters alone, called as
        in the network, is loaded too: then nothing else of the network has values.
    unpack
        Finds the state dict in the checkpoint, in the network's keys.

    Raises
    ------
    WeightsError
        If the file can't be read, or keys are missing, unexpected or of the wrong shape; the
        message lists them.
    """
    checkpoint: State = read_checkpoint(path)
    unpacked = checkpoint if unpack is None else unpack(checkpoint)
    state = OrderedDict(
        (key, value.float() if value.is_floating_point() else value)
        for key, value in _flat(unpacked, str(path)).items()
    )
    whole = network.state_dict(keep_vars=True)
    # Which releases' keys these are. A file that does not say has today's.
    state._metadata = getattr(unpacked, "_metadata", whole._metadata)  # type: ignore[attr-defined]
    needed = set(whole)
    if part is not None:
        shared = {id(tensor) for tensor in part.state_dict(keep_vars=True).values()}
        needed = {key for key, tensor in whole.items() if id(tensor) in shared}
    try:
        outcome = network.load_state_dict(state, strict=False, assign=True)
    except (RuntimeError, ValueError) as error:  # shapes, or keys that the network refuses
        raise WeightsError(f"{path} does not fit this network: {error}") from error
    counters = [key for key in outcome.missing_keys if key.endswith("num_batches_tracked")]
    missing = [key for key in outcome.missing_keys if key not in counters]
    others = {key for key in whole if key not in needed and key not in counters}
    if outcome.unexpected_keys or (missing and set(missing) != others):
        _refuse(path, missing, outcome.unexpected_keys)
    for key in counters:
        owner, _, name = key.rpartition(".")
        network.get_submodule(owner)._buffers[name] = torch.zeros((), dtype=torch.long)


def digest_of(network: nn.Module) -> str:
    """Return the SHA-256 of a network's values, by name: what it computes with, from any file."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _flat(state: State, origin: str) -> dict[str, Tensor]:
    others = [key for key, value in state.items() if not isinstance(value, Tensor)]
    if others or not state:
        raise WeightsError(
            f"{origin}: expected a flat dict of tensors, got {_listed(others) or 'an empty one'}"
        )
    return dict(state)


def _refuse(path: Path, missing: list[str], unexpected: list[str]) -> NoReturn:
    parts = [
        f"{kind} key(s): {_listed(keys)}"
        for kind, keys in (("Missing", missing), ("Unexpected", unexpected))
        if keys
    ]
    raise WeightsError(f"{path} does not fit this network. {'. '.join(parts)}")


def _listed(keys: list[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(keys[:_SHOWN]) + more
