"""Records in files: a catalogued network with weights of the user's own, described in TOML.

.. code-block:: toml

    name = "vgg16.hed"
    network = "vgg16"            # a catalogued backbone, whose layers and input it has
    goal = "edge detection"      # and method, data, start, environment, recipe, paper, note
    data = "BSDS500"
    until = "relu5_3"            # where the file has no layers after that

    [weights]
    file = "vgg16-hed.safetensors"   # beside this record, or where weights are looked for
    sha256 = "..."                   # or none: recorded at first sight
    licence = "MIT"
    source = "who made it"
    url = "https://..."              # or none
    prefix = "module."               # taken off the file's keys

    [scaling]                        # or none: the catalogued network's
    order = "BGR"
    peak = 255
    mean = [104.00699, 116.66877, 122.67892]
    std = [1, 1, 1]
"""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from iqa_metrics.backbones.finding import Names
from iqa_metrics.backbones.record import Backbone, check_name
from iqa_metrics.backbones.scaling import InputScaling
from iqa_metrics.weights.checkpoints import State
from iqa_metrics.weights.files import WeightsFile

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILES_VARIABLE = "IQA_BACKBONES"

_TEXTS = ("method", "data", "start", "environment", "recipe", "paper", "note")
_KNOWN: Mapping[str, tuple[type, bool]] = {
    "name": (str, True),
    "network": (str, True),
    "goal": (str, True),
    "until": (str, False),
    "weights": (dict, True),
    "scaling": (dict, False),
    **dict.fromkeys(_TEXTS, (str, False)),
}
_OF_WEIGHTS = {
    "file": True,
    **dict.fromkeys(("sha256", "licence", "source", "url", "prefix"), False),
}
_OF_SCALING = {"peak": True, "mean": True, "std": True, "order": False}


def user_backbones(base: Callable[[str], Backbone]) -> tuple[Backbone, ...]:
    """Return the records in the files and folders that ``IQA_BACKBONES`` lists."""
    records: dict[str, Backbone] = {}
    for place in filter(None, os.environ.get(FILES_VARIABLE, "").split(os.pathsep)):
        path = Path(place)
        files = sorted(path.glob("*.toml")) if path.is_dir() else [path]
        for file in files:
            record = _cached(file, base)
            if record.name in records:
                raise ValueError(f"{file}: another record is called {record.name!r} already")
            records[record.name] = record
    return tuple(records.values())


_CACHE: dict[Path, tuple[int, Backbone]] = {}


def _cached(file: Path, base: Callable[[str], Backbone]) -> Backbone:
    """Read a file once for as long as it stays as it is."""
    try:
        changed = file.stat().st_mtime_ns
    except OSError as error:
        raise ValueError(f"{FILES_VARIABLE} names {file}: {error.strerror}") from error
    if file not in _CACHE or _CACHE[file][0] != changed:
        _CACHE[file] = changed, record_in(file, base)
    return _CACHE[file][1]


def record_in(file: str | Path, base: Callable[[str], Backbone]) -> Backbone:
    """Read a record from a TOML file; ``base`` finds the backbone that it builds on.

    Raises
    ------
    ValueError
        If the file can't be read or is no record; the message says what was expected.
    """
    path = Path(file)
    try:
        facts = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: can't be read as TOML: {error}") from error
    try:
        return _record(facts, path.parent, base)
    except (TypeError, ValueError) as error:  # of a name that is unknown, too
        raise ValueError(f"{path}: {error}") from error


def _record(facts: Mapping[str, Any], folder: Path, base: Callable[[str], Backbone]) -> Backbone:
    _check(facts, {key: needed for key, (_, needed) in _KNOWN.items()}, "the record")
    for key, value in facts.items():
        if not isinstance(value, _KNOWN[key][0]):
            kind = "text" if _KNOWN[key][0] is str else "a table"
            raise ValueError(f"{key}: expected {kind}, got {value!r}")
    name = facts["name"]
    check_name(name)
    network = base(facts["network"])
    of_weights = facts["weights"]
    _check(of_weights, _OF_WEIGHTS, "[weights]")
    for key, value in of_weights.items():
        if not isinstance(value, str) or (key == "file" and Path(value).name in ("", "..")):
            raise ValueError(f"[weights] {key}: expected text, got {value!r}")
    # Whatever the base was trained for is not what this one was.
    others = {key: facts.get(key, "") for key in _TEXTS}
    record = replace(
        network,
        name=name,
        goal=facts["goal"],
        **others,
        parameters=None,
        score=None,
        score_of="",
        seed=None,
        weights=WeightsFile(
            filename=Path(of_weights["file"]).name,
            sha256=of_weights.get("sha256", ""),
            licence=of_weights.get("licence", "none stated"),
            source=of_weights.get("source", "the record's author"),
            url=of_weights.get("url"),
            folder=(folder / of_weights["file"]).parent,
        ),
        unpack=partial(_without_prefix, of_weights.get("prefix", "")),
    )
    if "scaling" in facts:
        record = replace(record, scaling=_scaling(facts["scaling"]))
    return _until(record, facts["until"]) if "until" in facts else record


def _check(facts: Mapping[str, Any], known: Mapping[str, bool], where: str) -> None:
    missing = [key for key, needed in known.items() if needed and key not in facts]
    unknown = [key for key in facts if key not in known]
    if missing or unknown:
        said = [
            *([f"lacks {', '.join(missing)}"] if missing else []),
            *([f"has {', '.join(unknown)}"] if unknown else []),
        ]
        raise ValueError(f"{where} {' and '.join(said)}; expected {', '.join(known)}")


def _scaling(facts: Mapping[str, Any]) -> InputScaling:
    _check(facts, _OF_SCALING, "[scaling]")
    for key in ("mean", "std"):
        if not isinstance(facts[key], list):
            raise ValueError(f"[scaling] {key}: expected a list of numbers, got {facts[key]!r}")
    mean, std = (tuple(float(value) for value in facts[key]) for key in ("mean", "std"))
    return InputScaling(float(facts["peak"]), mean, std, facts.get("order", "RGB"))


def _without_prefix(prefix: str, state: State) -> State:
    return {key.removeprefix(prefix): value for key, value in state.items()}


def _until(record: Backbone, last: str) -> Backbone:
    """Return a record whose trunk ends with a layer, since its file ends there."""
    path = record.layer(last).module
    if "." in path and any(
        layer.module.startswith(f"{path.rpartition('.')[0]}.")
        for layer in record.layers[[x.name for x in record.layers].index(last) + 1 :]
    ):
        raise ValueError(f"until: {last} lies inside a stage, which can't end early")
    trunk = partial(_cut_trunk, record.trunk, path.split(".")[0], record.architecture)
    return replace(record, trunk=trunk, names=partial(_kept, record.names))


def _cut_trunk(
    whole: Callable[[nn.Module], nn.Module], last: str, architecture: str, network: nn.Module
) -> nn.Module:
    parts = whole(network)
    if not isinstance(parts, nn.Sequential):
        raise ValueError(f"until: {architecture} is no sequence that could end early")
    return parts[: list(parts._modules).index(last) + 1]


def _kept(names: Names, network: nn.Module) -> dict[str, str]:
    """Return the names of those modules that the network still has."""
    there = {path for path, _ in network.named_modules()}
    return {name: path for name, path in names(network).items() if path in there}
