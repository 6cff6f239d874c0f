"""CSV tables: the pairs to score, and their scores with one row per pair and metric."""

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from iqa_metrics.io.conventions import AS_GIVEN, CONVENTIONS

PAIR_COLUMNS = ("reference", "distorted")
SCORE_COLUMNS = (*PAIR_COLUMNS, "metric", "value", "error", "colour", "signature")


class PairsError(ValueError):
    """A table of pairs that can't be read."""

    code = "bad_pairs"


@dataclass(frozen=True)
class Pair:
    """Two images to compare, from a row of a table.

    Attributes
    ----------
    reference, distorted
        The images' paths as written in the table.
    folder
        The folder that relative paths are relative to.
    carried
        The row's other columns.
    problem
        Why the row itself is unusable; empty if it is fine.
    mask
        Path of the mask, or the mask itself; None if there is none.
    sources
        The images themselves, reference and distorted, where they are not files; ``reference`` and
        ``distorted`` are then what rows call them. None for an image that is a file.
    """

    reference: str
    distorted: str
    folder: Path = Path()
    carried: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
    sources: tuple[object | None, object | None] = (None, None)
    mask: object | None = None

    @property
    def conventions(self) -> dict[str, Any]:
        """The row's own conventions: columns of these names that are not blank."""
        return own_conventions(self.carried)


@dataclass(frozen=True)
class Score:
    """One metric's value for one pair, or the reason why there is none.

    ``value`` is None if and only if ``error`` is not empty; ``error`` begins with a stable code.
    ``colour`` says what was done about the colours of the images, such as
    ``distorted: Display P3 to sRGB``; it is empty if nothing was, or there is no value.
    ``signature`` is that of the metric (:attr:`Metric.signature`), with how colours were taken and
    with the mask; it is empty if there is no value, or if it is not known.
    """

    reference: str
    distorted: str
    metric: str
    value: float | None
    error: str = ""
    carried: Mapping[str, Any] = field(default_factory=dict)
    colour: str = ""
    signature: str = ""


@dataclass(frozen=True)
class PairTable:
    """A CSV table of pairs, whose header is checked and whose rows are read one by one."""

    path: Path
    carried: tuple[str, ...]

    @classmethod
    def open(cls, path: Path) -> "PairTable":
        """Check a table's header.

        Raises
        ------
        PairsError
            If the file can't be read, lacks a required column, has two columns of the same name,
            or has a column that the table of scores uses itself.
        """
        with _csv(path) as file:
            header = next(csv.reader(file), [])
        missing = [c for c in PAIR_COLUMNS if c not in header]
        if missing:
            raise PairsError(
                f"{path}: no column {' and no column '.join(missing)}; expected a header line with "
                f"{' and '.join(PAIR_COLUMNS)}, got {', '.join(header) or 'an empty file'}"
            )
        if len(set(header)) != len(header):
            raise PairsError(f"{path}: two columns have the same name in {', '.join(header)}")
        taken = [c for c in header if c in SCORE_COLUMNS and c not in PAIR_COLUMNS]
        if taken:
            raise PairsError(
                f"{path}: the table of scores uses the column names {', '.join(taken)} itself; "
                "rename yours"
            )
        return cls(path, tuple(c for c in header if c not in PAIR_COLUMNS))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __iter__(self) -> Iterator[Pair]:
        with _csv(self.path) as file:
            for row in csv.DictReader(file, restval=""):
                surplus = row.pop(None, None)
                problem = (
                    f"bad_row: {len(surplus)} more fields than the header has" if surplus else ""
                )
                reference, distorted = (row[c].strip() for c in PAIR_COLUMNS)
                if not problem and not (reference and distorted):
                    problem = "bad_row: the path of reference or distorted is empty"
                carried = {c: row[c] for c in self.carried}
                mask = (row.get("mask") or "").strip() or None
                problem = problem or bad_conventions(carried)
                yield Pair(reference, distorted, self.path.parent, carried, problem, mask=mask)


def is_blank(value: object) -> bool:
    """Say whether a value is an empty cell of a table: None, NaN, or blank text."""
    if value is None or type(value).__name__ == "NAType":
        return True
    if isinstance(value, str):
        return not value.strip()
    return isinstance(value, float) and math.isnan(value)


def own_conventions(carried: Mapping[str, Any]) -> dict[str, Any]:
    """Return the conventions among a row's other columns; a blank cell is none."""
    return {name: carried[name] for name in CONVENTIONS if not is_blank(carried.get(name))}


def bad_conventions(carried: Mapping[str, Any]) -> str:
    """Return why a row's own conventions are unusable; empty if they are fine."""
    try:
        AS_GIVEN.with_changes(own_conventions(carried))
    except ValueError as error:
        return f"bad_row: {error}"
    return ""


@contextmanager
def _csv(path: Path) -> Iterator[TextIO]:
    """Open a CSV file for reading; failures become a PairsError."""
    if path.exists() and not path.is_file():
        # A pipe can be read only once, but the table is read several times.
        raise PairsError(f"{path}: not a regular file; save the table first")
    try:
        # utf-8-sig: spreadsheets write a byte order mark before the first column's name.
        file = path.open(newline="", encoding="utf-8-sig")
    except OSError as error:
        raise PairsError(f"{path}: can't be opened ({error.strerror})") from error
    try:
        with file:
            yield file
    except (UnicodeDecodeError, csv.Error) as error:
        raise PairsError(f"{path}: not a CSV file in UTF-8 ({error}); save it as one") from error


def write_scores(
    scores: Iterable[Score], file: TextIO, carried: Sequence[str] = (), *, header: bool = True
) -> Iterator[Score]:
    """Write rows as CSV, each as soon as it is computed, and pass them on.

    Reading a value back gives exactly the same float.

    Parameters
    ----------
    scores
        The rows.
    file
        The file to write to, opened with ``newline=""``.
    carried
        Names of the extra columns that the rows carry.
    header
        Whether to write the header line first; False where rows are added to a file that has one.
    """
    if header:
        file.write(header_line(carried))
        file.flush()
    for row in scores:
        value = "" if row.value is None else repr(row.value)
        fields = (row.reference, row.distorted, row.metric, value, row.error, row.colour)
        copied = (row.carried[column] for column in carried)
        file.write(csv_line([*fields, row.signature, *copied]))
        file.flush()
        yield row


def header_line(carried: Sequence[str]) -> str:
    """Return the header line of a table of scores."""
    return csv_line([*SCORE_COLUMNS, *carried])


def csv_line(fields: Iterable[str]) -> str:
    """Return a row as a line of CSV, including its line feed."""
    # A writer quotes only the line breaks of its own line terminator. With a bare line feed, a
    # carriage return inside a field would be left unquoted, and the row could not be read back.
    line: str = csv.writer(_Echo(), lineterminator="\r\n").writerow(fields)
    return line.removesuffix("\r\n") + "\n"


class _Echo:
    """A file-like object that lets a csv writer return its line to the caller."""

    def write(self, line: str) -> str:
        return line
