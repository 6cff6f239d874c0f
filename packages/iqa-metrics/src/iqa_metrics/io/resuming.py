"""Where to resume a stopped run: how much of a table of scores exists already, and is valid.

Only the table itself is examined, so a run may be stopped at any byte.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from iqa_metrics.io.tables import (
    SCORE_COLUMNS,
    Pair,
    PairTable,
    Score,
    csv_line,
    header_line,
    is_blank,
    own_conventions,
)

_REMEDY = "leave out --resume to score everything again and overwrite it"


class ResumeError(ValueError):
    """A table of scores that can't be resumed."""

    code = "bad_resume"


@dataclass(frozen=True)
class Written:
    """The part of a table of scores that is kept.

    Attributes
    ----------
    pairs
        Number of pairs whose rows are kept, counted from the first.
    failed
        How many of these rows have no value.
    size
        Size in bytes of the header and these rows; the file is to be truncated to it. 0 if there is
        nothing to keep, not even a header.
    finished
        Whether the rows of all pairs are there.
    signatures
        Metrics to the signature of their rows, of pairs without conventions or a mask of their own.
    """

    pairs: int = 0
    failed: int = 0
    size: int = 0
    finished: bool = False
    signatures: Mapping[str, str] = field(default_factory=dict)

    def check(self, row: Score, path: Path) -> None:
        """Raise ResumeError if a further row was computed in another way than those before it."""
        before = self.signatures.get(row.metric, "")
        if before and row.signature not in ("", before) and _is_plain(row.carried):
            raise ResumeError(
                f"{path}: its rows have the signature {before}, but this run would add rows of "
                f"{row.signature}; give the same options and weights as before, or {_REMEDY}"
            )


def _is_plain(carried: Mapping[str, Any]) -> bool:
    return not own_conventions(carried) and is_blank(carried.get("mask"))


def written(path: Path, table: PairTable, metrics: Sequence[str], window: int) -> Written:
    """Find out how far an earlier run got, without changing the table.

    Parameters
    ----------
    path
        The table of scores, which need not exist.
    table
        The pairs.
    metrics
        The metrics' names in the table, in order.
    window
        How many pairs are scored together. Only complete windows are kept, so that the remaining
        pairs are batched as in a run that was never stopped.

    Raises
    ------
    ResumeError
        If the file is anything but the beginning of these pairs' scores with these metrics.
    PairsError
        If the table of pairs can't be read.
    """
    if not path.exists():
        return Written()
    if not path.is_file():
        raise ResumeError(f"{path}: not a regular file, so it has no rows to resume from")
    try:
        with path.open("rb") as file:
            return _kept(file, path, table, metrics, window)
    except OSError as error:
        raise ResumeError(f"{path}: can't be read ({error.strerror})") from error


def _kept(
    file: BinaryIO, path: Path, table: PairTable, metrics: Sequence[str], window: int
) -> Written:
    header = header_line(table.carried).encode()
    came = file.read(len(header))
    if not header.startswith(came):
        raise ResumeError(
            f"{path}: begins with {came.decode(errors='replace').splitlines()[0]!r}, but scores of "
            f"{table.path} have the columns {header.decode().rstrip()!r}; {_REMEDY}"
        )
    if came != header:
        return Written()
    rows = _complete_rows(file, path, len(header))
    kept = Written(size=len(header))
    signatures: dict[str, str] = {}
    number = failed = 0
    end = len(header)
    for number, pair in enumerate(table, 1):
        for metric in metrics:
            row = next(rows, None)
            if row is None:
                return kept
            _check(row, pair, metric, path, table)
            failed += bool(row.fields[4])
            if row.fields[6] and _is_plain(pair.carried):
                signatures.setdefault(metric, row.fields[6])
            end = row.end
        if number % window == 0:
            kept = Written(number, failed, end, signatures=dict(signatures))
    if path.stat().st_size > end:
        raise ResumeError(
            f"{path}: has more rows than the {number * len(metrics)} of {table.path} and these "
            f"metrics; {_REMEDY}"
        )
    return Written(number, failed, end, finished=True, signatures=signatures)


@dataclass(frozen=True)
class _Row:
    number: int
    fields: list[str]
    raw: bytes
    end: int


def _complete_rows(file: BinaryIO, path: Path, start: int) -> Iterator[_Row]:
    """Yield the rows that were written completely."""
    lines: list[bytes] = []
    at_end = False

    def whole_lines() -> Iterator[str]:
        nonlocal at_end
        for line in file:
            if not line.endswith(b"\n"):
                break
            lines.append(line)
            yield line.decode()
        at_end = True

    reader = csv.reader(whole_lines(), strict=True)
    number, end = 0, start
    while True:
        number += 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except (csv.Error, UnicodeDecodeError) as error:
            if at_end:  # cut off inside a quoted field, after a line feed in that field
                return
            raise ResumeError(f"{path}: row {number} is not CSV ({error}); {_REMEDY}") from error
        raw = b"".join(lines)
        lines.clear()
        end += len(raw)
        yield _Row(number, fields, raw, end)


def _check(row: _Row, pair: Pair, metric: str, path: Path, table: PairTable) -> None:
    """Raise ResumeError unless a run over this table would have written exactly this row here."""
    came = [*row.fields, *[""] * len(SCORE_COLUMNS)]
    value, error, colour, signature = came[3:7]
    columns = [*SCORE_COLUMNS, *table.carried]
    expected = [pair.reference, pair.distorted, metric, value, error, colour, signature]
    expected += [pair.carried[column] for column in table.carried]
    whole = row.raw == csv_line(expected).encode()
    if whole and (_is_value(value) if not error else not value):
        return
    place = f"{path}: row {row.number} does not belong to {table.path} and these metrics"
    for column, there, here in zip(columns, came, expected, strict=False):
        if there != here:
            raise ResumeError(
                f"{place}: column {column!r} is {there!r}, expected {here!r}; {_REMEDY}"
            )
    raise ResumeError(f"{place}: it was changed after it was written; {_REMEDY}")


def _is_value(text: str) -> bool:
    try:
        return repr(float(text)) == text
    except ValueError:
        return False
