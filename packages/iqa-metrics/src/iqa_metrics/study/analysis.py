"""From the table of distances to every other table of a study."""

import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from iqa_metrics.study.claims import Claim, claims
from iqa_metrics.study.comparisons import Compared, Comparer, compared
from iqa_metrics.study.concatenated import concatenated
from iqa_metrics.study.correlations import Correlation, Judged, correlations
from iqa_metrics.study.description import DESCRIPTION, Description, DescriptionError
from iqa_metrics.study.distances import DISTANCES, read_distances
from iqa_metrics.study.models import Model, models
from iqa_metrics.study.scopes import scopes
from iqa_metrics.weights import written_at_once

CORRELATIONS, MODELS, COMPARISONS, CLAIMS_TABLE = (
    f"{name}.csv" for name in ("correlations", "models", "comparisons", "claims")
)


@dataclass(frozen=True)
class Analysis:
    """What a study found.

    Attributes
    ----------
    correlations, models, comparisons, claims
        The rows of the tables of these names.
    """

    correlations: Sequence[Correlation]
    models: Sequence[Model]
    comparisons: Sequence[Compared]
    claims: Sequence[Claim]


def analyse(folder: str | Path, progress: Callable[[int, int], None] | None = None) -> Analysis:
    """Compute a study's statistics from its distances, and write them beside these.

    Parameters
    ----------
    folder
        Where ``distances.parquet`` and ``study.json`` are; ``correlations.csv``, ``models.csv``,
        ``comparisons.csv`` and ``claims.csv`` are written.
    progress
        Is told how many groups of series were correlated, and of how many.

    Raises
    ------
    DescriptionError, DistancesError
        If one of the two can't be used, or they do not belong together.
    """
    root = Path(folder)
    description = Description.read(root / DESCRIPTION)
    measured = read_distances(root / DISTANCES)
    known = {one.name: one.higher_is for one in description.databases}
    strange = [name for name in measured if name not in known]
    if strange:
        raise DescriptionError(
            f"{root / DESCRIPTION} describes {', '.join(known)}, and {DISTANCES} holds "
            f"{', '.join(strange)}"
        )
    settings = description.statistics
    judged = {
        name: Judged(concatenated(one, description.concatenations), settings, settings.seed + at)
        for at, (name, one) in enumerate(measured.items())
    }
    found = correlations(judged, known, progress)
    comparers = [Comparer(scope) for scope in scopes(judged, description)]
    analysis = Analysis(
        found,
        [row for one in comparers for row in models(one.scope)],
        [row for one in comparers for row in compared(one)],
        [row for one in comparers for row in claims(one)],
    )
    for name, rows, kind in (
        (CORRELATIONS, analysis.correlations, Correlation),
        (MODELS, analysis.models, Model),
        (COMPARISONS, analysis.comparisons, Compared),
        (CLAIMS_TABLE, analysis.claims, Claim),
    ):
        write_rows(root / name, rows, kind)
    return analysis


def write_rows(path: Path, rows: Iterable[Any], kind: type) -> None:
    """Write dataclasses as CSV, in one step; what is not a number stays empty."""
    names = [one.name for one in fields(kind)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_cell(getattr(row, name)) for name in names] for row in rows)
    with written_at_once(path) as file:
        file.write(text.getvalue().encode())


def _cell(value: object) -> object:
    return "" if isinstance(value, float) and math.isnan(value) else value
