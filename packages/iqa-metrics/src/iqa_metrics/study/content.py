"""Hashes of what determines a distance: a network's values and structure, and our code."""

import hashlib
import inspect
import types
import uuid
from collections.abc import Mapping
from functools import lru_cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import Tensor, nn

_LEFT_OUT = (
    "backbones/factors",
    "channel_weights/",
    "cli/",
    "datasets/",
    "doctor/",
    "entry_points",
    "functional",
    "io/atomic",
    "io/resuming",
    "io/tables",
    "lazy",
    "names",
    "plugins",
    "registry",
    "report/",
    "scoring/agreement",
    "scoring/scores",
    "scoring/whole_tables",
    "statistics/",
    "study/agreement_rows",
    "study/analysis",
    "study/by_distortion",
    "study/ceilings",
    "study/claim",
    "study/comparisons",
    "study/concatenated",
    "study/contenders",
    "study/correlations",
    "study/description",
    "study/distances",
    "study/facts",
    "study/held_out",
    "study/judgements",
    "study/krasula",
    "study/models",
    "study/plan",
    "study/presence",
    "study/procedures",
    "study/rows",
    "study/running",
    "study/scopes",
    "study/settings",
    "study/significance",
    "study/training_data",
    "torchmetrics",
    "weights/fetching",
    "weights/files",
)
"""Beginnings of the paths of code that does not affect the value of a pair."""
_RELEASES = ("torch", "torchvision", "timm", "numpy", "pillow")
_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_PROCESS = uuid.uuid4().hex
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


def network_digest(network: nn.Module) -> str:
    """Return a SHA-256 of what a network computes, whatever file and name it comes from.

    It covers the values of all parameters and buffers, including buffers that are not saved. Of
    each module it covers the class, the source of the class, and its own attributes, such as kernel
    sizes, strides and constants.
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
    """Return a module's own attributes as text, except those whose text is only an address."""
    found = {}
    for name, value in vars(module).items():
        if name in _OF_EVERY_MODULE or isinstance(value, Tensor | nn.Module):
            continue
        text = repr(sorted(value, key=repr) if isinstance(value, set | frozenset) else value)
        if " at 0x" not in text:
            found[name] = text
    return found


_SOURCES: dict[type, str] = {}
"""Source code by class, kept because finding it means parsing a file."""


def _source(kind: type) -> str:
    if kind not in _SOURCES:
        try:
            _SOURCES[kind] = inspect.getsource(kind)
        except (OSError, TypeError):  # defined in a shell, or compiled
            _SOURCES[kind] = ""
    return _SOURCES[kind]


def function_digest(function: object) -> str:
    """Return a SHA-256 of a function: its code, defaults, and the values that it uses.

    Two functions from the same lines of a file may differ in what they close over. If such a value
    can't be told by its content, the digest is one that no other process has.
    """
    return hashlib.sha256(repr(_parts(function)).encode()).hexdigest()


def _is_beside(one: object, function: types.FunctionType) -> bool:
    """Say whether something is a function of the same module, which may change with it."""
    return isinstance(one, types.FunctionType) and one.__module__ == function.__module__


def _parts(value: object, seen: tuple[object, ...] = ()) -> object:
    if any(value is one for one in seen):
        return "seen"
    if isinstance(value, partial):
        return ["partial", *(_parts(one, seen) for one in (value.func, value.args, value.keywords))]
    if isinstance(value, types.FunctionType):
        code = value.__code__
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        named = {name: value.__globals__.get(name) for name in code.co_names}
        used = {
            name: one
            for name, one in named.items()
            if isinstance(one, _PLAIN) or _is_beside(one, value)
        }
        bound = [value.__defaults__, value.__kwdefaults__, cells, used]
        inside = (*seen, value)
        parts = [_parts(one, inside) for one in bound]
        return [value.__module__, value.__qualname__, _parts(code), *parts]
    if isinstance(value, types.CodeType):
        return [value.co_code.hex(), value.co_names, [_parts(one) for one in value.co_consts]]
    if isinstance(value, types.BuiltinFunctionType | type):
        return [value.__module__, value.__qualname__]
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, Mapping):
        return [[_parts(key), _parts(one, seen)] for key, one in value.items()]
    if isinstance(value, list | tuple):
        return [_parts(one, seen) for one in value]
    if isinstance(value, frozenset | set):
        return sorted(repr(_parts(one)) for one in value)
    if isinstance(value, Tensor):
        flat = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        return [str(value.dtype), list(value.shape), flat.numpy().tobytes().hex()]
    return f"only here: {_PROCESS} {id(value)}"


def _release(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


@lru_cache
def code_digest(*also: str) -> str:
    """Return a SHA-256 of our code that computes a pair's value, and of dependencies' versions.

    Parameters
    ----------
    also
        Beginnings of the paths of further code in the package that affects the value.
    """
    digest = hashlib.sha256(repr([(name, _release(name)) for name in _RELEASES]).encode())
    root = Path(__file__).parents[1]
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if name.startswith(also) or not name.startswith(_LEFT_OUT):
            digest.update(name.encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
