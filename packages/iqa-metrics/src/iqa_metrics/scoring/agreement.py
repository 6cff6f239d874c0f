"""Measure how well each metric of a table of scores agrees with human opinions.

The table is the one that ``iqa score --pairs`` writes for pairs with a column of opinions, with one
row per pair and metric. A row that failed is counted as failed and has no value.
"""

import csv
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from iqa_metrics import statistics
from iqa_metrics.io.tables import SCORE_COLUMNS, PairsError


@dataclass(frozen=True)
class ScoredPair:
    """A row of the table.

    Attributes
    ----------
    reference, distorted, metric
        The images' paths and the metric's name, as written in the table.
    value
        The metric's value; None if the row failed, or if the value is not finite (such as the PSNR
        of identical images).
    opinion
        The human opinion of the distorted image.
    distortion
        The kind of distortion, or empty.
    """

    reference: str
    distorted: str
    metric: str
    value: float | None
    opinion: float
    distortion: str = ""


@dataclass(frozen=True)
class Agreement:
    """How well a metric agrees with opinions.

    Attributes
    ----------
    metric
        The metric's name.
    distortion
        The kind of distortion; empty for all pairs together.
    n, references
        The numbers of pairs and of reference images.
    failed
        The number of pairs that have no value and are left out.
    srocc, srocc_low, srocc_high
        Spearman's correlation with its sign, and its interval over references, which is NaN if
        there is only one reference.
    plcc, krocc
        Pearson's and Kendall's correlations, with their signs.
    plcc_logistic, rmse
        Pearson's correlation and the root mean squared error, in the opinions' units, after the
        monotone logistic.
    """

    metric: str
    distortion: str
    n: int
    references: int
    failed: int
    srocc: float
    srocc_low: float
    srocc_high: float
    plcc: float
    krocc: float
    plcc_logistic: float
    rmse: float


@dataclass(frozen=True)
class Difference:
    """How much better one metric agrees with opinions than another, on the pairs that both have.

    Attributes
    ----------
    first, second
        The metrics.
    n
        The number of pairs for which both have a value.
    difference, low, high
        The absolute SROCC of the first minus that of the second, and its interval over references.
    p, p_corrected
        The p-value of no difference, and the same corrected by Holm's method for all comparisons.
    """

    first: str
    second: str
    n: int
    difference: float
    low: float
    high: float
    p: float
    p_corrected: float = math.nan


def read_scored(
    path: str | Path, opinion: str = "opinion", distortion: str = "distortion"
) -> list[ScoredPair]:
    """Read a table of scores that carries opinions.

    Parameters
    ----------
    path
        The table that ``iqa score --pairs`` wrote.
    opinion, distortion
        Names of the columns; the latter may be absent.

    Raises
    ------
    PairsError
        If the file can't be read or lacks a column, or an opinion is not a number; the message says
        in which row.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            header = list(reader.fieldnames or ())
            # These columns say nothing about agreement, and older tables lack them.
            needed = [name for name in SCORE_COLUMNS if name not in ("colour", "signature")]
            missing = [name for name in (*needed, opinion) if name not in header]
            if missing:
                raise PairsError(
                    f"{path}: no column {' and no column '.join(missing)}; expected a table that "
                    "'iqa score --pairs' wrote for pairs with a column of opinions, got "
                    f"{', '.join(header) or 'an empty file'}"
                )
            return [_row(path, reader.line_num, row, opinion, distortion) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PairsError(f"{path}: can't be read as CSV: {error}") from error


def agreements(
    rows: Sequence[ScoredPair], *, draws: int = 1000, seed: int = 0, confidence: float = 0.95
) -> list[Agreement]:
    """Return how well each metric agrees with opinions, on all pairs and by kind of distortion.

    Parameters
    ----------
    rows
        The rows of the table.
    draws, seed, confidence
        As for :func:`iqa_metrics.statistics.srocc_interval`.

    Raises
    ------
    ValueError
        If a metric has two rows for the same pair.
    """
    found = []
    kinds = [kind for kind in dict.fromkeys(row.distortion for row in rows) if kind]
    for metric, of_metric in _by_metric(rows).items():
        for kind in ["", *(kinds if len(kinds) > 1 else [])]:
            chosen = [row for row in of_metric if kind in ("", row.distortion)]
            found.append(_agreement(metric, kind, chosen, draws, seed, confidence))
    return found


def differences(
    rows: Sequence[ScoredPair], *, draws: int = 1000, seed: int = 0, confidence: float = 0.95
) -> list[Difference]:
    """Compare every pair of metrics on the image pairs that both have, with corrected p-values.

    Parameters and errors are those of :func:`agreements`. Two metrics that share fewer than four
    image pairs, or pairs of only one reference, get NaN.
    """
    of_metric = {
        metric: {(row.reference, row.distorted): row for row in of if row.value is not None}
        for metric, of in _by_metric(rows).items()
    }
    found: list[Difference] = []
    for (first, a), (second, b) in itertools.combinations(of_metric.items(), 2):
        both = [pair for pair in a if pair in b]
        x, y = ([rows_of[pair].value for pair in both] for rows_of in (a, b))
        opinion = [a[pair].opinion for pair in both]
        references = [pair[0] for pair in both]
        numbers = [math.nan] * 4
        if len(both) >= statistics.FEWEST and len(set(references)) > 1:
            got = statistics.srocc_difference(
                np.array(x), np.array(y), opinion, references,
                draws=draws, seed=seed, confidence=confidence,
            )  # fmt: skip
            numbers = [float(value) for value in (got.value, got.low, got.high, got.p)]
        found.append(Difference(first, second, len(both), *numbers))
    corrected = statistics.holm(row.p for row in found)
    return [replace(row, p_corrected=float(p)) for row, p in zip(found, corrected, strict=True)]


def _row(
    path: str | Path, line: int, row: dict[str, str], opinion: str, distortion: str
) -> ScoredPair:
    judged = _number(row[opinion])
    if judged is None or not math.isfinite(judged):
        raise PairsError(f"{path}, line {line}: {opinion}: expected a number, got {row[opinion]!r}")
    value = None if row["error"] else _number(row["value"])
    if value is None and not row["error"]:
        raise PairsError(f"{path}, line {line}: value: expected a number, got {row['value']!r}")
    usable = value if value is not None and math.isfinite(value) else None
    return ScoredPair(
        reference=row["reference"],
        distorted=row["distorted"],
        metric=row["metric"],
        value=usable,
        opinion=judged,
        distortion=row.get(distortion) or "",
    )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _by_metric(rows: Iterable[ScoredPair]) -> dict[str, list[ScoredPair]]:
    found: dict[str, dict[tuple[str, str], ScoredPair]] = {}
    for row in rows:
        of_metric = found.setdefault(row.metric, {})
        pair = (row.reference, row.distorted)
        if pair in of_metric:
            raise ValueError(
                f"{row.metric} has two scores for {row.reference} and {row.distorted}; expected "
                "one row per pair and metric"
            )
        of_metric[pair] = row
    return {metric: list(of.values()) for metric, of in found.items()}


def _agreement(
    metric: str,
    kind: str,
    rows: Sequence[ScoredPair],
    draws: int,
    seed: int,
    confidence: float,
) -> Agreement:
    there = [row for row in rows if row.value is not None]
    references = [row.reference for row in there]
    x = np.array([row.value for row in there], dtype=np.float64)
    y = np.array([row.opinion for row in there])
    drawn = None
    if len(there) >= statistics.FEWEST and len(set(references)) > 1:
        drawn = statistics.srocc_bootstrap(x[None], y, references, draws=draws, seed=seed)
    found = statistics.measures(x[None], y, drawn, confidence)
    return Agreement(
        metric=metric,
        distortion=kind,
        n=len(there),
        references=len(set(references)),
        failed=len(rows) - len(there),
        srocc=float(found.srocc[0]),
        srocc_low=float(found.srocc_low[0]),
        srocc_high=float(found.srocc_high[0]),
        plcc=float(found.plcc[0]),
        krocc=float(found.krocc[0]),
        plcc_logistic=float(found.plcc_logistic[0]),
        rmse=float(found.rmse[0]),
    )
