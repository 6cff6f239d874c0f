"""The file formats of opinions: text, CSV, spreadsheets and MATLAB files."""

import csv
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from iqa_metrics.datasets.opinions import DatasetError


def lines_of(path: Path) -> Iterator[str]:
    """Yield the non-empty lines of a text file."""
    text = path.read_bytes().decode("utf-8-sig", errors="replace")
    return (line.strip() for line in text.splitlines() if line.strip())


def number_in(value: Any) -> float | None:
    """Return a finite number, or None."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None


def text_in(value: Any) -> str:
    """Return a cell's text; spreadsheets store names such as 1600 as numbers."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value).strip()


def rows_of(path: Path, columns: Iterable[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows of a CSV file with their line numbers.

    Raises
    ------
    DatasetError
        If the file lacks one of the columns.
    """
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        reader = csv.DictReader(file, restval="")
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            raise DatasetError(f"{path}: no column {', '.join(missing)}")
        for row in reader:
            yield reader.line_num, row


def sheet_of(
    path: Path, sheet: str, columns: tuple[str, ...], optional: tuple[str, ...] = ()
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the rows of a spreadsheet below the header row, with their row numbers.

    Columns that are ``optional`` are left out of the rows if the sheet lacks them.

    Raises
    ------
    DatasetError
        If the file can't be read, or lacks the sheet or a row with all of the columns' titles.
    """
    try:
        from openpyxl import load_workbook
    except ImportError as error:
        raise DatasetError(f"{path} needs openpyxl: pip install 'iqa-metrics[study]'") from error
    try:
        book = load_workbook(path, read_only=True, data_only=True)
        sheets = book.sheetnames
        cells = list(book[sheet].iter_rows(values_only=True)) if sheet in sheets else []
        book.close()
    except Exception as error:  # a damaged archive raises almost anything
        raise DatasetError(f"{path} can't be read as a spreadsheet: {error}") from error
    if sheet not in sheets:
        raise DatasetError(f"{path}: no sheet {sheet!r}; it has {', '.join(sheets)}")
    places: dict[str, int] = {}
    for number, row in enumerate(cells, start=1):
        if places:
            yield (
                number,
                {name: row[at] if at < len(row) else None for name, at in places.items()},
            )
            continue
        titles = [text_in(cell).lower() for cell in row]
        if set(columns) <= set(titles):
            there = (name for name in (*columns, *optional) if name in titles)
            places = {name: titles.index(name) for name in there}
    if not places:
        raise DatasetError(f"{path}: no header row with the columns {', '.join(columns)}")


def matrices_of(
    path: Path, names: tuple[str, ...], optional: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return the named matrices of a MATLAB file, and those of the optional ones that it has.

    Raises
    ------
    DatasetError
        If the file can't be read, or lacks one of the matrices.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise DatasetError(f"{path} needs scipy: pip install 'iqa-metrics[study]'") from error
    try:
        found = loadmat(path)
    except Exception as error:  # a damaged file raises almost anything
        raise DatasetError(f"{path} can't be read as a MATLAB file: {error}") from error
    missing = [name for name in names if name not in found]
    if missing:
        raise DatasetError(f"{path}: no matrix {', '.join(missing)}")
    return {name: found[name] for name in (*names, *optional) if name in found}
