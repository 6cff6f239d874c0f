"""Load weights files into networks: completely, or not at all.

A checkpoint is read as data, never as code: torch's checkpoints are read with
``weights_only=True``, and those that need more than that are refused.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from iqa_metrics.weights.files import WeightsError, refuse_other_kinds

State = Mapping[str, Any]
"""The content of a checkpoint: a state dict, or a dict that contains one."""

_SHOWN = 8
"""Most keys that a message lists."""


class Unfilled(TorchFunctionMode):
    """A context in which networks are built without memory for their parameters.

    New tensors are made on torch's meta device, but what a network computes while it is built, such
    as a table of positions, is computed as usual. Other threads are not affected.
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
    """Read a ``.safetensors`` file, or a torch checkpoint as plain data only.

    Raises
    ------
    MissingWeightsError
        If there is no such file.
    WeightsError
        If the file can't be read as a dict.
    """
    refuse_other_kinds(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except ImportError as error:
        raise WeightsError(f"{path} needs safetensors: pip install safetensors") from error
    except (OSError, MemoryError) as error:
        raise WeightsError(f"{path} can't be read: {error}") from error
    except Exception as error:  # unpickling damaged data raises almost anything
        if _is_refusal(error):
            raise WeightsError(
                f"{path} can't be read as weights only: {_refused(error)}. A file that contains "
                "more than plain data may run code when it is read; if you trust it, convert it "
                "to .safetensors"
            ) from error
        raise WeightsError(
            f"{path} is damaged, or no checkpoint: {type(error).__name__}: {error}; expected a "
            "complete file of torch.save or safetensors"
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
    """Load a weights file into a network that was built without memory, completely or not at all.

    Values become float32. Keys of older releases are converted by the network's own code. The
    counters of batch normalisation, which do not affect any feature map, may be missing.

    Parameters
    ----------
    network
        The network, which has the file's keys. It can't be used after an error.
    path
        A ``.safetensors`` file or a torch checkpoint.
    part
        A module that shares modules with the network. A file with only this part's parameters,
        under the network's keys, is loaded too; the rest of the network then has no values.
    unpack
        A function that returns the checkpoint's state dict with the network's keys.

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
    # The versions of the keys. A file that does not state them is taken to be current.
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
    """Return the SHA-256 of a network's parameters and buffers, whichever file they came from."""
    return digest_of_tensors(sorted(network.state_dict().items()))


def digest_of_tensors(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Return the SHA-256 of tensors and their names, in the given order."""
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _is_refusal(error: Exception) -> bool:
    """Return whether torch could read a file, but would have to run code of it."""
    return "weights only" in str(error).lower() or "weightsunpickler" in str(error).lower()


def _refused(error: Exception) -> str:
    """Return what torch refused, without its advice to read the file anyway."""
    lines = [line.strip() for line in str(error).splitlines()]
    named = [line for line in lines if line.startswith("WeightsUnpickler error")]
    return named[0].split(" Please use")[0].rstrip(".") if named else "torch refuses its content"


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
