"""One series of the table of distances, read without the rest of the table."""

from dataclasses import dataclass

import numpy as np

from iqa_metrics.report.ranking import ordered
from iqa_metrics.report.tables import ReportError, Study
from iqa_metrics.statistics.correlations import Floats
from iqa_metrics.study.distances import DISTANCES, Series
from iqa_metrics.study.rows import Correlation

_COLUMNS = ("database", "opinion", "backbone", "layer", "readout", "value")


@dataclass(frozen=True)
class Points:
    """The pairs of a series that have a value.

    Attributes
    ----------
    distance, opinion
        ``[n]`` each.
    distortion
        The kind of distortion of each pair; empty where it is unknown.
    pair
        The reference and the distorted image of each pair.
    """

    distance: Floats
    opinion: Floats
    distortion: tuple[str, ...]
    pair: tuple[tuple[str, str], ...]


def chosen(study: Study, database: str, metric: str | None) -> Series | None:
    """Return the series to show for a database.

    Parameters
    ----------
    study
        The tables.
    database
        Name of the database.
    metric
        ``"BACKBONE:LAYER:READOUT"`` or a baseline's name. None for the winner among the backbones
        or, in a study without winners, for the best layer of the backbone that agrees best.

    Returns
    -------
    Series or None
        None if nothing was measured on that database.

    Raises
    ------
    ReportError
        If the study has no such series on any database.
    """
    if metric is not None:
        series = [_series(row) for row in study.correlations if row.database == database]
        found = next((one for one in series if one.name == metric), None)
        if found is None and not any(_series(row).name == metric for row in study.correlations):
            known = ", ".join(one.name for one in study.baselines) or "there are none"
            raise ReportError(
                f"metric: expected BACKBONE:LAYER:READOUT or a baseline ({known}) with a row in "
                f"{study.folder / 'correlations.csv'}, got {metric!r}"
            )
        return found
    won = next(
        (one for one in study.winners if (one.database, one.among) == (database, "backbones")), None
    )
    if won is not None:
        at = (database, won.backbone, won.layer, won.readout)
        for row in study.correlations:
            if (row.database, row.backbone, row.layer, row.readout) == at:
                return _series(row)
    rows = ordered([row for row in study.models if row.database == database])
    best = next((row for row in rows if not study.is_baseline(row.backbone)), None)
    best = best or next(iter(rows), None)
    if best is None:
        return None
    return Series(best.backbone, best.best_layer, best.readout, best.best_depth)


def read_points(study: Study, database: str, series: Series) -> Points:
    """Read the pairs of one series.

    Raises
    ------
    ReportError
        If there is no table of distances, or if it lacks a column.
    """
    # Only the report needs these.
    import pyarrow
    import pyarrow.parquet

    path = study.folder / DISTANCES
    try:
        header = pyarrow.parquet.read_schema(path).names
        missing = [name for name in _COLUMNS if name not in header]
        if missing:
            raise ReportError(
                f"{path}: expected the columns {', '.join(_COLUMNS)}; there is no "
                f"{', no '.join(missing)} in {', '.join(header)}"
            )
        filters = [("database", "=", database), ("backbone", "=", series.backbone)]
        # A baseline's layer and readout are empty, which some writers store as null.
        if series.layer:
            filters += [("layer", "=", series.layer), ("readout", "=", series.readout)]
        extra = [name for name in ("distortion", "reference", "distorted") if name in header]
        wanted = ["opinion", "value", *extra]
        table = pyarrow.parquet.read_table(path, columns=wanted, filters=filters)
    except FileNotFoundError as error:
        raise ReportError(f"{path}: no such file; expected the table of distances") from error
    except (OSError, pyarrow.ArrowException) as error:
        raise ReportError(f"{path}: can't be read as Parquet: {error}") from error
    columns = table.to_pydict()
    distance, opinion = (
        np.array([np.nan if v is None else v for v in columns[name]], dtype=np.float64)
        for name in ("value", "opinion")
    )
    fine = np.isfinite(distance) & np.isfinite(opinion)
    kinds, references, distorted = (
        [text or "" for text in columns.get(name, [""] * len(distance))]
        for name in ("distortion", "reference", "distorted")
    )
    there = np.flatnonzero(fine).tolist()
    return Points(
        distance[fine],
        opinion[fine],
        tuple(kinds[at] for at in there),
        tuple((references[at], distorted[at]) for at in there),
    )


def _series(row: Correlation) -> Series:
    return Series(row.backbone, row.layer, row.readout, row.depth)
