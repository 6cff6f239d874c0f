"""Read plans from TOML files, and from the command line's options in the same form.

.. code-block:: toml

    title = "VGG and ResNet on TID2013"
    layers = "named"                   # or "all" modules, or a list of names
    readouts = ["euclidean", "channel_mean_std", "weighted_euclidean"]
    concatenations = ["cumulative:joint", "pairs:sum"]
    baselines = ["psnr", "ssim", "lpips_alex", "dists"]
    untrained = true                   # add an untrained control for each architecture
    missing = "refuse"                 # or "skip" backbones whose weights are not on this machine

    [statistics]                       # optional; these are the defaults
    draws = 1000
    seed = 0
    confidence = 0.95
    margin = 0.02

    [[databases]]
    name = "tid2013"
    folder = "data/tid2013"

    [[databases]]                      # your own table of pairs
    name = "mine"
    pairs = "pairs.csv"
    opinion = "dmos"
    higher_is = "worse"

    [[databases]]                      # built-in images, with severities instead of ratings
    name = "ladder"

    [[backbones]]
    name = "vgg16"
    layers = ["relu3_3", "pool5"]      # by default the plan's layers

    [[backbones]]
    where = { goal = "classification", family = "ResNet" }

    [[backbones]]
    record = "vgg16-hed.toml"

Paths are relative to the plan's file.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from iqa_metrics.backbones import Backbone, backbone, read_record, select
from iqa_metrics.datasets import OpinionDatabase, make_ladder, read_database, read_opinions
from iqa_metrics.datasets.opinions import HIGHER_IS
from iqa_metrics.names import lookup
from iqa_metrics.study.plan import ALL, NAMED, Layers, Network, Plan, here, network, with_controls
from iqa_metrics.study.settings import PlanError, Statistics

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LADDER = "ladder"

_KNOWN = {
    "title": str,
    "layers": (str, list),
    "readouts": list,
    "concatenations": list,
    "baselines": list,
    "untrained": bool,
    "missing": str,
    "statistics": dict,
    "databases": list,
    "backbones": list,
}
_OF_DATABASE = dict.fromkeys(("name", "folder", "pairs", "opinion", "higher_is"), str)
_OF_BACKBONE = {"name": str, "record": str, "where": dict, "layers": (str, list)}
_MISSING = ("refuse", "skip")
_KEEP = "keep"


ADDED = ("backbones", "readouts", "concatenations", "baselines")
"""What can be added to a plan's own lists."""


def read_plan(
    path: str | Path,
    ladder: str | Path,
    *,
    missing: str | None = None,
    more: Mapping[str, Sequence[Any]] | None = None,
) -> Plan:
    """Read a plan from a TOML file, with the databases and backbones that it names.

    Parameters
    ----------
    path
        The file; the docstring of :mod:`iqa_metrics.study.plan_files` shows its form.
    ladder, missing
        As for :func:`plan_of`.
    more
        Further backbones, readouts, concatenations or baselines, in the file's form. What the plan
        has already is not added.

    Raises
    ------
    PlanError
        If the file can't be read, or something in it is wrong.
    UnknownNameError
        If a key, a database, a backbone or another name is unknown.
    DatasetError, PairsError, WeightsError
        If a database or a backbone can't be used.
    """
    file = Path(path)
    facts = {"title": file.stem, **read_facts(file)}
    defaults = {one.name: one.default for one in fields(Plan)}
    for name, others in (more or {}).items():
        lookup("list of a plan", name, dict.fromkeys(ADDED))
        own = list(facts.get(name, () if name == "backbones" else defaults[name]))
        facts[name] = own + [one for one in others if one not in own]
    return plan_of(facts, file.parent, ladder, where=str(file), missing=missing)


def read_networks(path: Path) -> tuple[list[Network], tuple[str, ...]]:
    """Return a plan's backbones, with or without weights here, and its baselines.

    Its databases are not looked at. The errors are those of :func:`read_plan`.
    """
    facts = read_facts(path)
    _check(facts, _KNOWN, str(path))
    defaults: dict[str, Any] = {one.name: one.default for one in fields(Plan)}
    baselines = _names(facts.get("baselines", list(defaults["baselines"])), f"{path}: baselines")
    return _networks(facts, path.parent, str(path), _KEEP)[0], tuple(baselines)


def read_facts(path: Path) -> dict[str, Any]:
    """Return the contents of a plan's file; PlanError if it can't be read as TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PlanError(f"{path}: can't be read as TOML: {error}") from error


def plan_of(
    facts: Mapping[str, Any],
    folder: str | Path,
    ladder: str | Path,
    *,
    where: str = "plan",
    missing: str | None = None,
) -> Plan:
    """Make a plan from the contents of a TOML file, or from options of the command line.

    Parameters
    ----------
    facts
        The contents, as tomllib reads them: tables are dicts.
    folder
        The folder that paths are relative to.
    ladder
        The folder for the images of the built-in ladder, unless the plan names another.
    where
        How error messages refer to the plan.
    missing
        ``refuse`` or ``skip`` backbones whose weights are not on this machine. It overrides what
        the plan says. ``keep`` keeps them, for an estimate of what the plan takes.

    Raises
    ------
    PlanError, DatasetError, PairsError, UnknownNameError, WeightsError
        As for :func:`read_plan`.
    """
    base = Path(folder)
    _check(facts, _KNOWN, where)
    databases: dict[str, OpinionDatabase] = {}
    for number, given in enumerate(facts.get("databases", []), start=1):
        place = f"{where}, database {number}"
        _check(given, _OF_DATABASE, place)
        name, found = _database(given, base, Path(ladder), place)
        if name in databases:
            raise PlanError(
                f"{place}: another database is named {name} already; give this one another name"
            )
        databases[name] = found
    settings = facts.get("statistics", {})
    _check(settings, {f.name: (int, float) for f in fields(Statistics)}, f"{where}, statistics")
    options = {
        name: _names(facts[name], f"{where}: {name}")
        for name in ("readouts", "concatenations", "baselines")
        if name in facts
    }
    networks, skipped = _networks(facts, base, where, missing)
    return Plan(
        databases,
        networks,
        **options,
        skipped=skipped,
        title=facts.get("title", "Study"),
        statistics=Statistics(**settings),
    )


def _networks(
    facts: Mapping[str, Any], base: Path, where: str, missing: str | None
) -> tuple[list[Network], tuple[str, ...]]:
    """Return the backbones to measure, and the names of those that are left out."""
    choice = missing or facts.get("missing", _MISSING[0])
    if choice not in _MISSING and missing != _KEEP:
        raise PlanError(f"missing: expected refuse or skip, got {choice!r}")
    layers = _layers(facts.get("layers", NAMED), where)
    found: dict[str, Network] = {}
    for number, given in enumerate(facts.get("backbones", []), start=1):
        place = f"{where}, backbone {number}"
        _check(given, _OF_BACKBONE, place)
        of_this = _layers(given["layers"], place) if "layers" in given else layers
        for record in _records(given, base, place):
            # A backbone that is found again, for example by a query, keeps its first layers.
            found.setdefault(record.name, network(record, of_this))
    every = list(found.values())
    chosen = every if missing == _KEEP else here(every, skip=choice == "skip")
    there = {one.record.name for one in chosen}
    skipped = tuple(name for name in found if name not in there)
    return (with_controls(chosen) if facts.get("untrained", False) else chosen), skipped


def _layers(given: Layers, where: str) -> Layers:
    if isinstance(given, str):
        return lookup("choice of layers", given, {choice: choice for choice in (NAMED, ALL)})
    return _names(given, f"{where}: layers")


def _names(given: Sequence[Any], where: str) -> tuple[str, ...]:
    if not all(isinstance(text, str) for text in given):
        raise PlanError(f"{where}: expected names, got {list(given)}")
    return tuple(given)


def _check(facts: object, known: Mapping[str, Any], where: str) -> None:
    if not isinstance(facts, dict):
        raise PlanError(f"{where}: expected a table, got {facts!r}")
    for key, value in facts.items():
        expected = lookup(f"key of {where}", key, known)
        if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
            kinds = expected if isinstance(expected, tuple) else (expected,)
            names = {str: "text", list: "a list", dict: "a table", bool: "true or false"}
            said = " or ".join(names.get(kind, "a number") for kind in kinds)
            raise PlanError(f"{where}: {key}: expected {said}, got {value!r}")


def _database(
    given: Mapping[str, str], folder: Path, ladder: Path, where: str
) -> tuple[str, OpinionDatabase]:
    if "pairs" in given:
        if "folder" in given:
            raise PlanError(f"{where}: expected either pairs or a folder, got both")
        direction = next((d for d in HIGHER_IS if d == given.get("higher_is")), None)
        if direction is None:
            raise PlanError(f'{where}: expected higher_is = "better" or "worse"')
        found = read_opinions(folder / given["pairs"], direction, given.get("opinion", "opinion"))
        name = given.get("name", found.facts.name)
        facts = replace(found.facts, name=name, title=given.get("name", found.facts.title))
        return name, replace(found, facts=facts)
    if "opinion" in given or "higher_is" in given:
        raise PlanError(f"{where}: opinion and higher_is only go with pairs")
    if "name" not in given:
        raise PlanError(f"{where}: expected name and folder, or pairs")
    name = given["name"]
    if name == LADDER:
        return name, make_ladder(folder / given["folder"] if "folder" in given else ladder)
    if "folder" not in given:
        raise PlanError(f"{where}: {name} needs the folder that it is in")
    return name, read_database(name, folder / given["folder"])


def _records(given: Mapping[str, Any], folder: Path, where: str) -> list[Backbone]:
    ways = [key for key in ("name", "record", "where") if key in given]
    if len(ways) != 1:
        raise PlanError(f"{where}: expected one of name, record and where, got {len(ways)}")
    if ways == ["name"]:
        return [backbone(given["name"])]
    if ways == ["record"]:
        return [read_record(folder / given["record"])]
    return list(select(None, **{key: str(value) for key, value in given["where"].items()}))
