"""Tables in CSV: the pairs to score, and their scores, one row a pair and metric."""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

PAIR_COLUMNS = ("reference", "distorted")
SCORE_COLUMNS = (*PAIR_COLUMNS, "metric", "value", "error")


class PairsError(ValueError):
    """A table of pairs that can't be read."""

    code = "bad_pairs"


@dataclass(frozen=True)
class Pair:
    """Two images to compare, as a row of a table names them.

    Attributes
    ----------
    reference, distorted
        As the table names them.
    folder
        What relative paths are relative to.
    carried
        The row's other columns.
    problem
        Why the row itself is unusable; empty where it is fine.
    """

    reference: str
    distorted: str
    folder: Path = Path()
    carried: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True)
class Score:
    """One metric's value for one pair, or the reason why there is none.

    ``value`` is None exactly where ``error`` is not empty; ``error`` begins with a stable code.
    """

    reference: str
    distorted: str
    metric: str
    value: float | None
    error: str = ""
    carried: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PairTable:
    """A CSV table of pairs, checked at its head and read row by row."""

    path: Path
    carried: tuple[str, ...]

    @classmethod
    def open(cls, path: Path) -> "PairTable":
        """Check a table's header.

        Raises
        ------
        PairsError
            If the file can't be read, lacks a column, names one twice, or has one that the table
            of scores needs for itself.
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
            raise PairsError(f"{path}: a column name stands twice in {', '.join(header)}")
        taken = [c for c in header if c in SCORE_COLUMNS and c not in PAIR_COLUMNS]
        if taken:
            raise PairsError(
                f"{path}: the scores have columns {', '.join(taken)} of their own; rename yours"
            )
        return cls(path, tuple(c for c in header if c not in PAIR_COLUMNS))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __iter__(self) -> Iterator[Pair]:
        with _csv(self.path) as file:
            for row in csv.DictReader(file, restval=""):
                surplus = row.pop(None, None)
                problem = f"bad_row: {len(surplus)} more fields than the header" if surplus else ""
                reference, distorted = (row[c].strip() for c in PAIR_COLUMNS)
                if not problem and not (reference and distorted):
                    problem = "bad_row: no path for reference or distorted"
                carried = {c: row[c] for c in self.carried}
                yield Pair(reference, distorted, self.path.parent, carried, problem)


@contextmanager
def _csv(path: Path) -> Iterator[TextIO]:
    """Open a CSV file for reading; what goes wrong is a PairsError."""
    if path.exists() and not path.is_file():
        # A pipe could be read only once, and the table is read anew for each purpose.
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
    """Write rows as CSV, each as soon as it is there, and pass them on.

    Values are written so that reading them back gives the same float.

    Parameters
    ----------
    scores
        The rows.
    file
        Where to, opened with ``newline=""``.
    carried
        Names of the columns that the rows carry.
    header
        Whether the columns' names come first; not where rows are added to a file that has them.
    """
    if header:
        file.write(header_line(carried))
        file.flush()
    for row in scores:
        value = "" if row.value is None else repr(row.value)
        fields = (row.reference, row.distorted, row.metric, value, row.error)
        file.write(csv_line([*fields, *(row.carried[column] for column in carried)]))
        file.flush()
        yield row


def header_line(carried: Sequence[str]) -> str:
    """Return the first line of a table of scores."""
    return csv_line([*SCORE_COLUMNS, *carried])


def csv_line(fields: Iterable[str]) -> str:
    """Return a row as a line of CSV, its line feed included."""
    # A writer quotes the line breaks that are in its own terminator. With a bare line feed there a
    # carriage return inside a field would go out unquoted, and the row could not be read back.
    line: str = csv.writer(_Echo(), lineterminator="\r\n").writerow(fields)
    return line.removesuffix("\r\n") + "\n"


class _Echo:
    """What a csv writer writes into to hand its line to the caller."""

    def write(self, line: str) -> str:
        return line
