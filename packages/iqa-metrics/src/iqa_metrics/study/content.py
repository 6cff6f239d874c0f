"""What decides a distance: the network's values and structure, and the code that computes it."""

import hashlib
import inspect
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import Tensor, nn

_LEFT_OUT = (
    *("channel_weights/", "cli/", "datasets/", "report/", "statistics/"),
    *("backbones/factors", "io/atomic", "io/resuming", "io/tables"),
    *("scoring/agreement", "scoring/scores", "weights/fetching", "weights/files"),
    *("lazy", "names", "torchmetrics"),
    *(f"study/{name}" for name in ("analysis", "claims", "comparisons", "concatenated")),
    *(f"study/{name}" for name in ("correlations", "description", "distances", "facts")),
    *(
        f"study/{name}"
        for name in ("judgements", "models", "plan", "rows", "running", "scopes", "settings")
    ),
)
"""Code of the package that decides no value of a pair."""
_RELEASES = ("torch", "torchvision", "timm", "numpy", "pillow")
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


def network_digest(network: nn.Module) -> str:
    """Return a SHA-256 of what a network computes: from any file, under any name.

    It holds the values of parameters and buffers, those that no file keeps included, and of each
    module its class, the class's source, and its own attributes: kernels, strides, constants.
    """
    digest = hashlib.sha256()
    for name, module in network.named_modules():
        kind = type(module)
        facts = [name, kind.__module__, kind.__qualname__, module.extra_repr()]
        facts += [f"{key}={text}" for key, text in sorted(_attributes(module).items())]
        digest.update("\n".join([*facts, _source(kind)]).encode(errors="surrogateescape"))
    for name, values in sorted([*network.named_parameters(), *network.named_buffers()]):
        digest.update(f"{name} {list(values.shape)} {values.dtype}".encode())
        flat = values.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _attributes(module: nn.Module) -> dict[str, str]:
    """Return a module's own attributes as text, where that says what they are."""
    found = {}
    for name, value in vars(module).items():
        if name in _OF_EVERY_MODULE or isinstance(value, Tensor | nn.Module):
            continue
        text = repr(sorted(value, key=repr) if isinstance(value, set | frozenset) else value)
        if " at 0x" not in text:
            found[name] = text
    return found


_SOURCES: dict[type, str] = {}
"""Sources by class: finding one means parsing its file."""


def _source(kind: type) -> str:
    if kind not in _SOURCES:
        try:
            _SOURCES[kind] = inspect.getsource(kind)
        except (OSError, TypeError):  # made in a shell, or by a compiler
            _SOURCES[kind] = ""
    return _SOURCES[kind]


def _release(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


@lru_cache
def code_digest(*also: str) -> str:
    """Return a SHA-256 of the code that makes a value of two images: ours, and torch's release.

    Parameters
    ----------
    also
        Beginnings of paths in the package, of what else decides a value.
    """
    digest = hashlib.sha256(repr([(name, _release(name)) for name in _RELEASES]).encode())
    root = Path(__file__).parents[1]
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if name.startswith(also) or not name.startswith(_LEFT_OUT):
            digest.update(name.encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
