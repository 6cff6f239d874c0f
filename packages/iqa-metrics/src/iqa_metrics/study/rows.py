"""The rows of a study's tables, and the CSV files that hold them."""

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from iqa_metrics.io.atomic import written_at_once
from iqa_metrics.study.agreement_rows import ByDistortion, Ceiling, Krasula, Significance

POOLED = "pooled"
"""The name of the database in rows that are about all databases together."""
SAME, FIRST, SECOND, UNDECIDED = "same", "first", "second", "undecided"
SUPPORTED, CONTRADICTED, NOT_TESTED = "supported", "contradicted", "not tested"

Row = TypeVar("Row")


class TableError(ValueError):
    """A table of a study that can't be read. The message says where, and what was expected."""

    code = "bad_study"


@dataclass(frozen=True)
class Correlation:
    """A row of ``correlations.csv``.

    Attributes
    ----------
    database, distortion
        The pairs it was computed on; an empty distortion means all pairs.
    backbone, layer, depth, readout
        The series; see :class:`iqa_metrics.study.distances.Series`.
    n
        The number of pairs that have a value.
    srocc, srocc_low, srocc_high
        Spearman's correlation with its sign, and its interval over references, which is NaN if
        there are fewer than 4 references. For scores that are no human ratings, it is the mean over
        references and kinds of distortion of the correlation within both, and the measures that
        would compare several kinds are NaN.
    plcc, krocc
        Pearson's and Kendall's correlations, with their signs.
    plcc_logistic, rmse
        Pearson's correlation and the root mean squared error, in the opinions' units, after the
        monotone logistic. The error is NaN for several databases together.
    srocc_within
        The mean over references of SROCC within the reference.
    plcc_low, plcc_high, plcc_logistic_low, plcc_logistic_high, krocc_low, krocc_high
        Their intervals over references; NaN for several databases together. The logistic is that of
        all pairs.
    rmse_low, rmse_high
        Likewise.
    outlier_ratio
        The share of pairs whose opinion the logistic misses by more than the 95 % interval of the
        opinion; NaN where the database does not tell how certain its opinions are.
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
    srocc_within: float = math.nan
    plcc_low: float = math.nan
    plcc_high: float = math.nan
    plcc_logistic_low: float = math.nan
    plcc_logistic_high: float = math.nan
    krocc_low: float = math.nan
    krocc_high: float = math.nan
    rmse_low: float = math.nan
    rmse_high: float = math.nan
    outlier_ratio: float = math.nan


@dataclass(frozen=True)
class Model:
    """A row of ``models.csv``: a backbone with a readout, or a baseline metric.

    Attributes
    ----------
    database, backbone, readout
        What the row is about; the readout of a baseline metric is empty.
    layers
        The number of layers that were measured; 0 for a baseline metric.
    last_layer, last, last_low, last_high
        The last layer, its agreement and its interval.
    best_layer, best_depth, best
        The layer that agrees best on this data, its depth and its agreement on the same data, which
        flatters it.
    held_out, held_out_low, held_out_high
        The agreement where each reference is judged by the layer that agrees best on the others,
        and its interval. NaN if there are too few references.
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
    held_out: float
    held_out_low: float
    held_out_high: float


@dataclass(frozen=True)
class Compared:
    """A row of ``comparisons.csv``.

    Attributes
    ----------
    question
        ``baseline`` (a backbone and a baseline metric), a factor in which backbones differ, or what
        differs in the readout: ``layer`` (the best and the last), ``descriptors``, ``readout``
        (other readouts), ``concatenation`` or ``channel_weights``.
    database
        The database, or ``pooled``.
    backbone
        The backbone, or the factors that the compared backbones have in common.
    first, second
        What is compared.
    n
        The number of pairs.
    difference, low, high
        The agreement of the first minus that of the second, and its interval.
    p, p_corrected
        The p-value of no difference, and the same corrected by Holm's method.
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
    """A row of ``claims.csv``.

    Attributes
    ----------
    claim
        A stable name for the claim.
    version
        Who concludes it: ``preprint``, ``journal``, both (``preprint, journal``), a rival's paper,
        such as ``arXiv:2203.04946``, or ``control`` for a check that no paper makes.
    statement
        The conclusion.
    test
        How it was tested.
    database
        The database, or ``pooled``.
    effect, low, high
        The tested quantity and its interval; NaN if nothing could be tested.
    margin
        What the interval is compared with; 0 if only its sign counts.
    evidence
        The backbones and metrics that the effect comes from.
    verdict
        ``supported``, ``contradicted``, ``undecided`` or ``not tested``.
    why
        The reason if it is undecided, or what is missing if it was not tested; else empty.
    get
        The command that gets what is missing, or empty.
    """

    claim: str
    version: str
    statement: str
    test: str
    database: str
    effect: float
    low: float
    high: float
    margin: float
    evidence: str
    verdict: str
    why: str = ""
    get: str = ""


@dataclass(frozen=True)
class Winner:
    """A row of ``winners.csv``: the best of many, judged on other images than it was chosen on.

    Attributes
    ----------
    database
        The database, or ``pooled``.
    among
        What it was chosen from: ``backbones`` (those that were not tuned on human ratings, all
        layers and readouts without learned channel weights), ``tuned`` (what was tuned or learned
        from human ratings) or ``baselines`` (baseline metrics that were not).
    candidates
        The number of series that it was chosen from.
    backbone, layer, readout
        The series that agrees best on all of the data.
    best
        Its agreement on the data that it was chosen on, which flatters it.
    held_out, low, high
        The agreement where each reference (or each database, if there are several) is judged by the
        series that agrees best on the others, and its interval. NaN if there are too few.
    stability
        The share of references or databases for which the series above was chosen. NaN if there are
        too few.
    why
        Why there is no held-out value, or no interval; else empty.
    """

    database: str
    among: str
    candidates: int
    backbone: str
    layer: str
    readout: str
    best: float
    held_out: float
    low: float
    high: float
    stability: float
    why: str = ""


@dataclass(frozen=True)
class Judgement:
    """A row of ``judgements.csv``, the table for databases with 2AFC or JND judgements.

    Attributes
    ----------
    database, distortion, backbone, layer, depth, readout
        As in :class:`Correlation`; the distortion is a part of the database.
    measure
        ``2afc`` or ``jnd``.
    n
        The number of judgements.
    agreement, low, high
        The share of observers agreed with (2AFC) or the average precision (JND), and its interval.
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
    Winner: "winners.csv",
    Judgement: "judgements.csv",
    Ceiling: "ceilings.csv",
    ByDistortion: "by_distortion.csv",
    Significance: "significance.csv",
    Krasula: "krasula.csv",
}
"""The file that holds each kind of row."""

_WORDS: Mapping[tuple[type, str], tuple[str, ...]] = {
    (Compared, "verdict"): (FIRST, SECOND, SAME, UNDECIDED),
    (ByDistortion, "verdict"): (FIRST, SECOND, SAME, UNDECIDED),
    (Significance, "verdict"): (FIRST, SECOND, SAME, UNDECIDED),
    (Claim, "verdict"): (SUPPORTED, CONTRADICTED, UNDECIDED, NOT_TESTED),
}
"""Columns that hold one of a few words."""

# An empty cell means NaN, or a count of 0.
_FROM_TEXT: Mapping[Any, Callable[[str], Any]] = {
    str: str,
    int: lambda text: int(text) if text else 0,
    float: lambda text: float(text) if text else math.nan,
}


def write_rows(folder: Path, kind: type[Row], rows: Iterable[Row]) -> None:
    """Write rows to their CSV file, atomically; NaN becomes an empty cell."""
    names = [one.name for one in fields(kind)]  # type: ignore[arg-type]  # all are dataclasses
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_cell(getattr(row, name)) for name in names] for row in rows)
    with written_at_once(folder / FILES[kind]) as file:
        file.write(text.getvalue().encode())


def read_rows(folder: Path, kind: type[Row]) -> tuple[Row, ...]:
    """Read the rows of one kind from a study's folder.

    Columns that have a default may be absent, as they are in tables of earlier versions.

    Raises
    ------
    TableError
        If the file can't be read, lacks a column, or has a cell with a wrong content.
    """
    path, hints = folder / FILES[kind], get_type_hints(kind)
    of_kind = fields(kind)  # type: ignore[arg-type]  # all are dataclasses
    found = []
    for line, row in read_csv(path, [one.name for one in of_kind if one.default is MISSING]):
        values: dict[str, Any] = {}
        for name, hint in hints.items():
            if name not in row:
                continue
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
    """Read the rows of a CSV file, each with the number of its last line.

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
                    f"{path}: missing columns {', '.join(missing)}; expected at least "
                    f"{', '.join(wanted)}, got {', '.join(header) or 'an empty file'}"
                )
            return [(reader.line_num, row) for row in reader]
    except FileNotFoundError as error:
        raise TableError(
            f"{path}: no such file; expected a CSV table with the columns {', '.join(wanted)}"
        ) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"{path}: can't be read as CSV: {error}") from error


def _cell(value: object) -> object:
    return "" if isinstance(value, float) and math.isnan(value) else value
