"""Which series the page offers for exploring, and their values on the pairs of a database."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iqa_metrics.report import depth, distances, ranking
from iqa_metrics.report.tables import Study
from iqa_metrics.statistics import ranks
from iqa_metrics.statistics.correlations import Floats
from iqa_metrics.study.description import DescribedDatabase
from iqa_metrics.study.distances import Series
from iqa_metrics.study.rows import Correlation

BASELINE, BEST, LAST, CHOSEN, OTHER = "baseline", "best", "last", "chosen", "other"
MOST_OTHERS = 60
"""With up to how many layers all of them are offered, and not only the best and the last."""


@dataclass(frozen=True)
class Offer:
    """A series that can be explored, and why it is offered.

    Attributes
    ----------
    series
        The series.
    role
        ``baseline``, the ``best`` or the ``last`` layer of a network, ``chosen`` (the series of the
        scatter plot among the figures), or another layer (``other``).
    """

    series: Series
    role: str


@dataclass(frozen=True)
class Rated:
    """The pairs of a database, and the values of the offered series.

    Attributes
    ----------
    references, distorted, kinds
        The names of each pair's images, and its kind of distortion, ``[n]``.
    opinion
        The opinion score of each pair, ``[n]``.
    values
        ``[series, n]``; NaN where there is none.
    """

    references: tuple[str, ...]
    distorted: tuple[str, ...]
    kinds: tuple[str, ...]
    opinion: Floats
    values: Floats

    def at(self, chosen: NDArray[np.intp]) -> "Rated":
        """Return the chosen pairs."""
        references, distorted, kinds = (
            tuple(texts[i] for i in chosen)
            for texts in (self.references, self.distorted, self.kinds)
        )
        return Rated(references, distorted, kinds, self.opinion[chosen], self.values[:, chosen])


def offers(study: Study, database: str, metric: str | None, most: int) -> list[Offer]:
    """Return the series to offer, the most useful first.

    These are the baselines, the series of the scatter plot, the best layer of each network by
    held-out agreement with the plain readout, and then their last layers; and in studies with few
    layers all others with the plain readout.

    Parameters
    ----------
    study
        The tables.
    database
        Name of the database.
    metric
        As for :func:`iqa_metrics.report.write_report`.
    most
        How many there may be.
    """
    rows = whole_rows(study, database)
    networks = [
        row for row in ranking.plain_models(study, database) if not study.is_baseline(row.backbone)
    ]
    shown = distances.chosen(study, database, metric)
    wanted = [
        *((Series(one.name, "", "", np.nan), BASELINE) for one in study.baselines),
        *([(shown, CHOSEN)] if shown is not None else []),
        *((Series(m.backbone, m.best_layer, m.readout, m.best_depth), BEST) for m in networks),
        *((Series(m.backbone, m.last_layer, m.readout, np.nan), LAST) for m in networks),
    ]
    others = [series_of(row) for row in depth.plain_rows(study, database)]
    if len(others) <= MOST_OTHERS:
        wanted += [(one, OTHER) for one in others]
    found: dict[Series, str] = {}
    for series, role in wanted:
        if series in rows and (series not in found or found[series] == CHOSEN):
            found[series] = role
    return [Offer(series_of(rows[one]), role) for one, role in found.items()][:most]


def whole_rows(study: Study, database: str) -> dict[Series, Correlation]:
    """Return a database's rows over all pairs, by series."""
    return {
        series_of(row): row
        for row in study.correlations
        if row.database == database and not row.distortion
    }


def read_rated(study: Study, database: str, series: Sequence[Series]) -> Rated:
    """Read the values of some series.

    Raises
    ------
    ReportError
        If there is no table of distances, or if it lacks a column.
    """
    at: dict[tuple[str, str], int] = {}
    kinds: list[str] = []
    opinion: list[float] = []
    columns = []
    for one in series:
        points = distances.read_points(study, database, one)
        places = []
        for pair, kind, rating in zip(
            points.pair, points.distortion, points.opinion.tolist(), strict=True
        ):
            if pair not in at:
                at[pair] = len(at)
                kinds.append(kind)
                opinion.append(rating)
            places.append(at[pair])
        columns.append((places, points.distance))
    values = np.full((len(series), len(at)), np.nan)
    for number, (places, value) in enumerate(columns):
        values[number, places] = value
    references, distorted = zip(*at, strict=True) if at else ((), ())
    return Rated(references, distorted, tuple(kinds), np.array(opinion), values)


def gaps(rated: Rated, database: DescribedDatabase, higher: Sequence[bool]) -> Floats:
    """Return how much better people rank each pair than each series does, ``[series, n]``.

    The unit is the share of the pairs that have a value, from -1 to 1: positive where people like
    a pair better than the metric says. NaN where a pair has no value.

    Parameters
    ----------
    rated
        The pairs and the values.
    database
        Says what a higher opinion means.
    higher
        For each series, whether a higher value means a better image.
    """
    found = np.full(rated.values.shape, np.nan)
    liked = rated.opinion if database.higher_is == "better" else -rated.opinion
    for number, (values, is_better) in enumerate(zip(rated.values, higher, strict=True)):
        fine = np.isfinite(values) & np.isfinite(liked)
        if fine.any():
            judged = values[fine] if is_better else -values[fine]
            found[number, fine] = (ranks(liked[fine]) - ranks(judged)) / fine.sum()
    return found


def most_disputed(differences: Floats, most: int) -> list[int]:
    """Return pairs by how much series and people disagree on them, each series in turn.

    Parameters
    ----------
    differences
        What :func:`gaps` returns.
    most
        How many pairs to return.
    """
    found: dict[int, None] = {}
    orders = []
    for line in differences:
        known = np.flatnonzero(np.isfinite(line))
        order = known[np.argsort(line[known], kind="stable")]
        orders += [order[line[order] < 0], order[::-1][line[order[::-1]] > 0]]
    for turn in range(max((len(order) for order in orders), default=0)):
        for order in orders:
            if turn < len(order):
                found[int(order[turn])] = None
            if len(found) == most:
                return list(found)
    return list(found)


def series_of(row: Correlation) -> Series:
    """Return the series of a row."""
    return Series(row.backbone, row.layer, row.readout, row.depth)
