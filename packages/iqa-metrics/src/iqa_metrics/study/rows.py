"""The rows of a study's tables, and the CSV files that they stand in."""

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from iqa_metrics.io.atomic import written_at_once

POOLED = "pooled"
"""What stands for the database where several are taken together."""
SAME, FIRST, SECOND, UNDECIDED = "same", "first", "second", "undecided"
SUPPORTED, CONTRADICTED = "supported", "contradicted"

Row = TypeVar("Row")


class TableError(ValueError):
    """A study's table that can't be read; the message says where, and what was expected."""

    code = "bad_study"


@dataclass(frozen=True)
class Correlation:
    """A row of the table.

    Attributes
    ----------
    database, distortion
        What it was computed on; no distortion means all pairs.
    backbone, layer, depth, readout
        The series; see :class:`iqa_metrics.study.distances.Series`.
    n
        How many pairs have a value.
    srocc, srocc_low, srocc_high
        Spearman's correlation and its interval over references; no interval of a single reference.
    plcc, plcc_logistic, krocc, rmse
        Pearson's, the same after the monotone logistic, Kendall's, and the error after the logistic
        in opinion's units; the error of several databases is none.
    """

    database: str
    distortion: str
    backbone: str
    layer: str
    depth: float
    readout: str
    n: int
    srocc: float
    srocc_low: float
    srocc_high: float
    plcc: float
    plcc_logistic: float
    krocc: float
    rmse: float


@dataclass(frozen=True)
class Model:
    """A row of the table: a network by a readout, or a metric to compare with.

    Attributes
    ----------
    database, backbone, readout
        Which; a metric to compare with has no readout.
    layers
        How many layers were measured; none of a metric to compare with.
    last_layer, last, last_low, last_high
        The last layer and its agreement, with its interval.
    best_layer, best_depth, best
        The layer that agrees best on this data, and how well there.
    optimism
        What of that comes from choosing.
    corrected, corrected_low, corrected_high
        The best layer's agreement without it.
    """

    database: str
    backbone: str
    readout: str
    layers: int
    last_layer: str
    last: float
    last_low: float
    last_high: float
    best_layer: str
    best_depth: float
    best: float
    optimism: float
    corrected: float
    corrected_low: float
    corrected_high: float


@dataclass(frozen=True)
class Compared:
    """A row of the table.

    Attributes
    ----------
    question
        ``baseline`` (a network and a metric to compare with), one of the factors in which networks
        differ, or of the readout: ``layer`` (the best and the last), ``descriptors``, ``readout``
        (other readouts), ``concatenation``, ``channel_weights``.
    database
        Or ``pooled``.
    backbone
        The network, or what the compared networks agree in.
    first, second
        What is compared.
    n
        How many pairs.
    difference, low, high
        Agreement of the first less that of the second, and its interval.
    p, p_corrected
        Of no difference; the latter by Holm.
    verdict
        ``same`` (the interval lies within the margin), ``first`` or ``second`` (that one agrees
        better with people, after correction), or ``undecided``.
    """

    question: str
    database: str
    backbone: str
    first: str
    second: str
    n: int
    difference: float
    low: float
    high: float
    p: float
    p_corrected: float = float("nan")
    verdict: str = UNDECIDED


@dataclass(frozen=True)
class Claim:
    """A row of the table.

    Attributes
    ----------
    claim
        A stable name.
    statement
        The paper's conclusion.
    test
        What was tested for it.
    database
        Or ``pooled``.
    effect, low, high
        What was found, and its interval; NaN where nothing could be tested.
    evidence
        What the effect is of.
    verdict
        ``supported``, ``contradicted`` or ``undecided``.
    why
        Why it is undecided.
    """

    claim: str
    statement: str
    test: str
    database: str
    effect: float
    low: float
    high: float
    evidence: str
    verdict: str
    why: str = ""


@dataclass(frozen=True)
class Judgement:
    """A row of the table of databases with 2AFC or JND judgements.

    Attributes
    ----------
    database, distortion, backbone, layer, depth, readout
        As of :class:`Correlation`; the distortion is a part of the database.
    measure
        ``2afc`` or ``jnd``.
    n
        How many judgements.
    agreement, low, high
        The share of people agreed with, or the average precision, and its interval.
    """

    database: str
    distortion: str
    backbone: str
    layer: str
    depth: float
    readout: str
    measure: str
    n: int
    agreement: float
    low: float
    high: float


FILES: Mapping[type, str] = {
    Correlation: "correlations.csv",
    Model: "models.csv",
    Compared: "comparisons.csv",
    Claim: "claims.csv",
    Judgement: "judgements.csv",
}
"""Rows to the files that they stand in."""

_WORDS: Mapping[tuple[type, str], tuple[str, ...]] = {
    (Compared, "verdict"): (FIRST, SECOND, SAME, UNDECIDED),
    (Claim, "verdict"): (SUPPORTED, CONTRADICTED, UNDECIDED),
}
"""Columns that hold one of a few words."""

# An empty number is none. A correlation of no pairs may have an empty count.
_FROM_TEXT: Mapping[Any, Callable[[str], Any]] = {
    str: str,
    int: lambda text: int(text) if text else 0,
    float: lambda text: float(text) if text else math.nan,
}


def write_rows(folder: Path, kind: type[Row], rows: Iterable[Row]) -> None:
    """Write rows as CSV into their file, in one step; what is not a number stays empty."""
    names = [one.name for one in fields(kind)]  # type: ignore[arg-type]  # all are dataclasses
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_cell(getattr(row, name)) for name in names] for row in rows)
    with written_at_once(folder / FILES[kind]) as file:
        file.write(text.getvalue().encode())


def read_rows(folder: Path, kind: type[Row]) -> tuple[Row, ...]:
    """Read the rows that a study's folder has of a kind.

    Raises
    ------
    TableError
        If the file can't be read, lacks a column, or a cell is not what it should be.
    """
    path, hints = folder / FILES[kind], get_type_hints(kind)
    found = []
    for line, row in read_csv(path, list(hints)):
        values: dict[str, Any] = {}
        for name, hint in hints.items():
            try:
                values[name] = _FROM_TEXT[hint](row[name])
            except ValueError:
                raise TableError(
                    f"{path}, line {line}: {name}: expected a number, got {row[name]!r}"
                ) from None
            known = _WORDS.get((kind, name))
            if known and values[name] not in known:
                raise TableError(
                    f"{path}, line {line}: {name}: expected {' or '.join(known)}, got "
                    f"{values[name]!r}"
                )
        found.append(kind(**values))
    return tuple(found)


def read_csv(path: Path, columns: Iterable[str]) -> list[tuple[int, dict[str, str]]]:
    """Read a CSV file's rows with the lines they end at, having checked that it has the columns.

    Raises
    ------
    TableError
        If the file can't be read or lacks a column.
    """
    wanted = list(columns)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            header = list(reader.fieldnames or ())
            missing = [name for name in wanted if name not in header]
            if missing:
                raise TableError(
                    f"{path}: expected columns {', '.join(wanted)}; "
                    f"no {', no '.join(missing)} in {', '.join(header) or 'an empty file'}"
                )
            return [(reader.line_num, row) for row in reader]
    except FileNotFoundError as error:
        raise TableError(f"{path}: no such file; expected a table of {len(wanted)} columns") from (
            error
        )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"{path}: can't be read as CSV: {error}") from error


def _cell(value: object) -> object:
    return "" if isinstance(value, float) and math.isnan(value) else value
