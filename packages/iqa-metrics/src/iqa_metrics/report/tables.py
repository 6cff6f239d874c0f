"""A study's tables, read and checked: what every figure and every sentence is made from."""

from pathlib import Path

from iqa_metrics.report.records import Study
from iqa_metrics.study.description import DESCRIPTION, Description
from iqa_metrics.study.rows import (
    FILES,
    Claim,
    Compared,
    Correlation,
    Judgement,
    Model,
    TableError,
    read_rows,
)


class ReportError(TableError):
    """A study whose tables can't be read, or a report that can't be made from them."""


def read_study(folder: Path) -> Study:
    """Read and check the tables of a study.

    Parameters
    ----------
    folder
        Where study.json and the CSV files lie.

    Raises
    ------
    ReportError
        If a table is missing or is not what it should be; the message says which file and column.
    """
    try:
        return Study(
            folder,
            Description.read(folder / DESCRIPTION),
            *(read_rows(folder, Correlation), read_rows(folder, Model)),
            *(read_rows(folder, Compared), read_rows(folder, Claim)),
            read_rows(folder, Judgement) if (folder / FILES[Judgement]).exists() else (),
        )
    except TableError as error:
        raise ReportError(str(error)) from error
