"""``study.json``: the databases, backbones, baselines and settings behind a study's tables."""

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from iqa_metrics.backbones.factors import Factors
from iqa_metrics.io.atomic import written_at_once
from iqa_metrics.study.rows import TableError
from iqa_metrics.study.settings import WEIGHTED, Statistics

DESCRIPTION = "study.json"
JUDGING = "image quality"
"""The pretraining task of backbones that were trained on human ratings of images."""
FORMAT = "iqa-metrics study, 1"


HIGHER_IS = ("better", "worse")

T = TypeVar("T")


class DescriptionError(TableError):
    """A description of a study that can't be used."""


@dataclass(frozen=True)
class DescribedDatabase:
    """A database of a study.

    Attributes
    ----------
    name, title, higher_is, source, licence, opinion, asked
        As in :class:`iqa_metrics.datasets.DatabaseFacts`, except that the name is the plan's.
    pairs, references
        The numbers of pairs and of reference images.
    failed
        The number of pairs for which at least one distance failed.
    folder
        The folder that the names of images in the tables are relative to: relative to the study's
        folder, or absolute if it is on another drive. Empty if it is unknown.
    """

    name: str
    title: str
    higher_is: str
    pairs: int
    references: int
    failed: int
    opinion: bool
    source: str
    licence: str
    asked: str = "score"
    folder: str = ""


@dataclass(frozen=True)
class DescribedLayer:
    """A layer: its name, its relative depth in (0, 1], and its number of channels."""

    name: str
    depth: float
    channels: int


@dataclass(frozen=True, kw_only=True)
class DescribedNetwork(Factors):
    """A backbone of a study: its factors, and what else the analysis needs to know.

    Attributes
    ----------
    weighted_layers
        The number of layers that the architecture's paper gives or, if it gives none, the number of
        convolutions and linear layers. None if the backbone is unknown.
    network
        The SHA-256 of what the network computes; empty if it is unknown.
    layers
        The layers that are read, from input to output.
    """

    weighted_layers: int | None
    network: str
    layers: tuple[DescribedLayer, ...]


@dataclass(frozen=True)
class DescribedBaseline:
    """A baseline metric of a study.

    Attributes
    ----------
    name
        Its spec.
    higher_is_better
        Its direction.
    source
        The paper to cite.
    tuned
        Whether some of its parameters were fitted to human ratings.
    """

    name: str
    higher_is_better: bool
    source: str
    tuned: bool


@dataclass(frozen=True)
class Description:
    """What a study's tables describe.

    Attributes
    ----------
    title
        The title of the report.
    databases, backbones, baselines
        What was measured, and on which databases.
    readouts, concatenations
        As in the plan.
    statistics
        The settings of the statistics.
    made_with
        The versions of the packages that measured it, and the kind of device.
    """

    title: str
    databases: tuple[DescribedDatabase, ...]
    backbones: tuple[DescribedNetwork, ...]
    baselines: tuple[DescribedBaseline, ...]
    readouts: tuple[str, ...]
    concatenations: tuple[str, ...] = ()
    statistics: Statistics = field(default_factory=Statistics)
    made_with: Mapping[str, str] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write it as JSON, atomically."""
        facts = {
            "format": FORMAT,
            "title": self.title,
            "made_with": dict(self.made_with),
            "settings": {
                **asdict(self.statistics),
                "plain": self.plain,
                "readouts": list(self.readouts),
                "concatenations": list(self.concatenations),
            },
            "databases": [asdict(one) for one in self.databases],
            "backbones": [asdict(one) for one in self.backbones],
            "baselines": [asdict(one) for one in self.baselines],
        }
        text = json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False)
        with written_at_once(path) as file:
            file.write(f"{text}\n".encode())

    @property
    def plain(self) -> str:
        """The readout that the others are compared with: the first that learns nothing."""
        return next((one for one in self.readouts if one != WEIGHTED), "")

    @classmethod
    def read(cls, path: Path) -> "Description":
        """Read a description that :meth:`write` wrote.

        Raises
        ------
        DescriptionError
            If the file can't be read or is not a description of a study. The message says what was
            expected.
        """
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise DescriptionError(
                f"{path}: no such file; expected the folder of a study, with study.json"
            ) from error
        except (OSError, ValueError) as error:
            raise DescriptionError(f"{path}: can't be read as JSON: {error}") from error
        if not isinstance(facts, dict) or facts.get("format") != FORMAT:
            came = facts.get("format") if isinstance(facts, dict) else facts
            raise DescriptionError(f"{path}: format: expected {FORMAT!r}, got {came!r}")
        settings = _item(path, facts, "settings", dict)
        texts = {
            name: tuple(str(one) for one in _item(path, settings, name, list))
            for name in ("readouts", "concatenations")
        }
        databases = _records(path, facts, "databases", DescribedDatabase)
        for one in databases:
            if one.higher_is not in HIGHER_IS:
                raise DescriptionError(
                    f"{path}: higher_is of {one.name}: expected {' or '.join(HIGHER_IS)}, got "
                    f"{one.higher_is!r}"
                )
        return cls(
            title=_item(path, facts, "title", str),
            databases=databases,
            backbones=_records(path, facts, "backbones", DescribedNetwork),
            baselines=_records(path, facts, "baselines", DescribedBaseline),
            **texts,
            statistics=_record(path, "settings", settings, Statistics),
            made_with={k: str(v) for k, v in _item(path, facts, "made_with", dict).items()},
        )


def _records(path: Path, record: Mapping[str, Any], name: str, kind: type[T]) -> tuple[T, ...]:
    found = []
    for number, one in enumerate(_item(path, record, name, list)):
        where = f"{name}[{number}]"
        if not isinstance(one, dict):
            raise DescriptionError(f"{path}: {where}: expected an object, got {one!r}")
        found.append(_record(path, where, one, kind))
    return tuple(found)


def _record(path: Path, where: str, record: Mapping[str, Any], kind: type[T]) -> T:
    """Make a dataclass from a JSON object; unknown keys are ignored."""
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for one in fields(kind):  # type: ignore[arg-type]  # every kind here is a dataclass
        if one.name not in record:
            if one.default is MISSING:
                came = ", ".join(record) or "nothing"
                raise DescriptionError(
                    f"{path}: {where}: expected the key {one.name!r}, got only {came}"
                )
            continue
        value, hint = record[one.name], hints[one.name]
        if one.name == "layers":
            layers = f"{where}.layers"
            values["layers"] = _records(path, {layers: value}, layers, DescribedLayer)
            continue
        if hint in (float, float | None) and type(value) is int:
            value = float(value)
        # In Python a bool is an int, but it is not a number of layers.
        if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
            wanted = hint.__name__ if isinstance(hint, type) else str(hint)
            raise DescriptionError(f"{path}: {where}.{one.name}: expected {wanted}, got {value!r}")
        values[one.name] = value
    try:
        return kind(**values)
    except ValueError as error:
        raise DescriptionError(f"{path}: {where}: {error}") from error


def _item(path: Path, record: Mapping[str, Any], name: str, kind: type[T]) -> T:
    if name not in record:
        raise DescriptionError(
            f"{path}: expected the key {name!r}, got only {', '.join(record) or 'nothing'}"
        )
    value = record[name]
    if not isinstance(value, kind):
        raise DescriptionError(f"{path}: {name}: expected {kind.__name__}, got {value!r}")
    return value
