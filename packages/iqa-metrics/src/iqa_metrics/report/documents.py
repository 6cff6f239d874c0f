"""What the page is made of: tables of cells, and figures with their texts."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from iqa_metrics.report import wording


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its text and, for a number, the value to sort by.

    Attributes
    ----------
    text
        The text as written.
    key
        The value that a numeric column sorts by; None sorts last.
    title
        More text, shown when the pointer is over the cell.
    ends
        Both ends of an interval, which are two columns in a file.
    """

    text: str
    key: float | None = None
    title: str = ""
    ends: tuple[float, float] | None = None


@dataclass(frozen=True)
class Table:
    """A table: its caption, its columns, which of these are numeric, and its rows.

    The first column names the row; ``file`` is the study's table that also has these numbers.
    """

    caption: str
    columns: tuple[str, ...]
    numeric: frozenset[str]
    rows: tuple[tuple[Cell, ...], ...]
    file: str = "correlations.csv"


@dataclass(frozen=True)
class Picture:
    """A drawing and its texts.

    Attributes
    ----------
    name
        Name of the files, without an ending.
    heading, caption, alt
        Texts that say what the drawing is, how to read it, and what it shows.
    drawing
        A ``matplotlib.figure.Figure``.
    table
        The numbers in the drawing.
    points
        The numbers of single points, for a drawing of so many that the table sums them up.
    """

    name: str
    heading: str
    caption: str
    alt: str
    drawing: Any
    table: Table
    points: Table | None = None

    @property
    def csv(self) -> str:
        """The numbers as a CSV table."""
        return as_csv(self.points or self.table)


@dataclass(frozen=True)
class Section:
    """A section of figures on the page; ``absent`` says why if there are none."""

    id: str
    heading: str
    pictures: tuple[Picture, ...] = ()
    absent: str = ""


def table(
    caption: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    numeric: Sequence[str],
    file: str = "correlations.csv",
) -> Table:
    """Return a table; ``numeric`` are the columns that are sorted by number."""
    held = tuple(tuple(row) for row in rows)
    return Table(caption, tuple(columns), frozenset(numeric), held, file)


def text(value: str, title: str = "") -> Cell:
    """Return a cell of text, with a dash for an empty text."""
    return Cell(value or wording.NONE, title=title)


def value(number: float | None, digits: int = 3) -> Cell:
    """Return a cell of a number, whose digits are all shown when the pointer is over it."""
    known = number is not None and number == number
    return Cell(
        wording.number(number, digits), number if known else None, repr(number) if known else ""
    )


def p_value(number: float) -> Cell:
    """Return a cell of a p-value, which is never written as 0."""
    return Cell(wording.p_value(number), number if number == number else None)


def count(number: int | None) -> Cell:
    """Return a cell of a whole number."""
    return Cell(wording.NONE) if number is None else Cell(f"{number:,}", float(number))


def difference(number: float) -> Cell:
    """Return a cell of a number that is always written with its sign."""
    known = number == number
    return Cell(wording.signed(number), number if known else None, repr(number) if known else "")


def interval(low: float, high: float, *, sign: bool = False) -> Cell:
    """Return a cell of an interval, which is sorted by its lower end."""
    words = wording.interval(low, high, sign=sign)
    return Cell(words, low if low == low else None, ends=(low, high))


def as_csv(one: Table) -> str:
    """Return a table as CSV, with all digits; an interval becomes two columns."""
    double = [any(row[at].ends is not None for row in one.rows) for at, _ in enumerate(one.columns)]
    head = [
        name
        for column, both in zip(one.columns, double, strict=True)
        for name in ((f"{column}, low", f"{column}, high") if both else (column,))
    ]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(head)
    for row in one.rows:
        cells: list[str] = []
        for cell, column, both in zip(row, one.columns, double, strict=True):
            if both:
                cells += [_digits(end) for end in cell.ends or (math.nan, math.nan)]
            elif column in one.numeric:
                cells.append(_digits(math.nan if cell.key is None else cell.key))
            else:
                cells.append("" if cell.text == wording.NONE else cell.text)
        writer.writerow(cells)
    return file.getvalue()


def _digits(number: float) -> str:
    if not math.isfinite(number):
        return ""
    return str(int(number)) if number == int(number) else repr(number)
