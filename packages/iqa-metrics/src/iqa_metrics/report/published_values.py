"""Published values of the same things that a study measured.

``published.csv`` has values that others published, as they published them, and
``published_names.csv`` says what this package calls the same networks, layers, readouts and
metrics.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path

from iqa_metrics.report.tables import ReportError, Study
from iqa_metrics.study.rows import Correlation, TableError, read_csv

COLUMNS = ("model", "layer", "readout", "database", "abs_plcc", "abs_srocc", "source")
_VALUES = "published.csv"
_NAMES = ("kind", "model", "published", "ours")
_SAME = ("model", "layer", "readout", "database")
"""The columns that say what was measured."""

_Series = tuple[str, str, str]
_Row = dict[str, str]


@dataclass(frozen=True)
class Beside:
    """A published value and this study's.

    Attributes
    ----------
    database, name
        What was measured.
    srocc, plcc
        The published absolute values.
    ours
        This study's row, with its signs.
    source
        Who published them.
    """

    database: str
    name: str
    srocc: float
    plcc: float
    ours: Correlation
    source: str


def check_published(path: Path) -> None:
    """Raise ReportError unless a file has the columns of published values."""
    try:
        read_csv(path, COLUMNS)
    except TableError as error:
        raise ReportError(str(error)) from error


def read_published(path: Path | None, study: Study, *, built_in: bool = True) -> list[Beside]:
    """Return published values that the study measured as well.

    Parameters
    ----------
    path
        CSV with the columns model, layer, readout, database, abs_plcc, abs_srocc and source; or
        None. Its rows replace those of the package's own table that are about the same model,
        layer, readout and database. Models may have the names that they were published under, or
        those of this package.
    study
        The tables.
    built_in
        Whether to take the package's own table.

    Raises
    ------
    ReportError
        If the file can't be read, lacks a column, or has something else where a number is expected.
    """
    ours = {
        (row.database, row.backbone, row.layer, row.readout): row
        for row in study.correlations
        if not row.distortion
    }
    databases = {_plain(one.name): one.name for one in study.databases}
    found: dict[tuple[object, ...], Beside] = {}
    for where, line, row in _rows(path, built_in):
        database = databases.get(_plain(row["database"]), "")
        for series in _series(row):
            mine = ours.get((database, *series))
            if mine is None:
                continue
            srocc, plcc = (_number(where, line, row, name) for name in ("abs_srocc", "abs_plcc"))
            if math.isfinite(srocc) and math.isfinite(mine.srocc):
                name = ":".join(part for part in series if part)
                beside = Beside(database, name, srocc, plcc, mine, row["source"])
                # Some tables list the same value under two names.
                found.setdefault((database, name, srocc, plcc, row["source"]), beside)
            if not row["layer"]:  # the first of our metrics that it may be
                break
    return list(found.values())


def _rows(path: Path | None, built_in: bool) -> list[tuple[Path, int, _Row]]:
    """Return the file, line and content of each row: the package's own, then the given ones."""
    given = [] if path is None else [(path, line, row) for line, row in _read(path)]
    if not built_in:
        return given
    replaced = {_about(row) for _, _, row in given}
    own = [(Path(_VALUES), line, row) for line, row in _own(_VALUES, COLUMNS)]
    return [*(one for one in own if _about(one[2]) not in replaced), *given]


def _read(path: Path) -> list[tuple[int, _Row]]:
    try:
        return read_csv(path, COLUMNS)
    except TableError as error:
        raise ReportError(str(error)) from error


def _own(name: str, columns: tuple[str, ...]) -> list[tuple[int, _Row]]:
    with resources.as_file(resources.files("iqa_metrics.report") / name) as file:
        return read_csv(file, columns)


def _about(row: _Row) -> tuple[str, ...]:
    """Return what a row is about, for comparison with other rows."""
    return tuple(_plain(row[column]) for column in _SAME)


@lru_cache
def _names() -> Mapping[tuple[str, str, str], tuple[str, ...]]:
    """Return our names by the kind of a name, the model that it belongs to, and the name."""
    found: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for _, row in _own("published_names.csv", _NAMES):
        found[row["kind"], row["model"], row["published"]].append(row["ours"])
    return {key: tuple(names) for key, names in found.items()}


def _ours(kind: str, model: str, published: str) -> tuple[str, ...]:
    """Return what a name may be called here; by default the same."""
    return _names().get((kind, model, published), (published,))


def _series(row: _Row) -> Iterator[_Series]:
    """Yield the backbone, layer and readout that a row may be about in this study."""
    model, layer, readout = (row[column].strip() for column in ("model", "layer", "readout"))
    if not layer:
        # The package that computed it is no part of a metric's name.
        word = model.split()[-1] if model else ""
        yield from ((name, "", "") for name in (*_ours("metric", "", word), model))
        return
    parts = layer.split("+")
    named = "+".join(_ours("layer", model, part)[0] for part in parts)
    for backbone in _ours("backbone", "", model):
        for how in _ours("readout", "", readout):
            # One layer needs no concatenation.
            yield backbone, named, how if len(parts) > 1 else how.removesuffix(":joint")


def _number(path: Path, line: int, row: _Row, name: str) -> float:
    try:
        return float(row[name]) if row[name] else math.nan
    except ValueError:
        raise ReportError(
            f"{path}, line {line}: {name}: expected a number, got {row[name]!r}"
        ) from None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9+]", "", name.lower())
