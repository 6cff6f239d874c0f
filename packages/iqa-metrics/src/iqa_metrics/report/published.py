"""Published values beside this study's, where both measured the same thing."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.lines import Line2D

from iqa_metrics.report import ceilings, documents, figures, rows, wording
from iqa_metrics.report.documents import Picture
from iqa_metrics.report.tables import ReportError, Study
from iqa_metrics.study.rows import Correlation, TableError, read_csv

COLUMNS = ("model", "layer", "readout", "database", "abs_plcc", "abs_srocc", "source")
_NETWORKS = {"VGG-16 ImageNet": "vgg16", "PerceptNet": "perceptnet"}
# The last word of a published name, and our baselines of that kind, the likeliest first.
_BASELINES = {
    "SSIMLoss": ("ssim",),
    "MultiScaleSSIMLoss": ("ms_ssim",),
    "LPIPS": ("lpips", "lpips_vgg"),
    "DISTS": ("dists",),
}
_READOUTS = {"euclidean": "euclidean", "euclidean, joint concatenation": "euclidean:joint"}
_OURS: dict[str, Any] = {"marker": "o", "color": figures.COLOURS[0], "markersize": 4}
_THEIRS: dict[str, Any] = {
    "marker": "D",
    "color": figures.COLOURS[1],
    "markersize": 4.5,
    "markerfacecolor": "none",
    "markeredgewidth": 0.9,
}


@dataclass(frozen=True)
class Beside:
    """A published value and this study's.

    Attributes
    ----------
    database, name
        What was measured.
    srocc, plcc
        The published absolute values.
    ours
        This study's row, with its signs.
    source
        Who published them.
    """

    database: str
    name: str
    srocc: float
    plcc: float
    ours: Correlation
    source: str


def check_published(path: Path) -> None:
    """Raise ReportError unless a file has the columns of published values."""
    try:
        read_csv(path, COLUMNS)
    except TableError as error:
        raise ReportError(str(error)) from error


def read_published(path: Path, study: Study) -> list[Beside]:
    """Read published values, and keep those that the study measured as well.

    Parameters
    ----------
    path
        CSV with the columns model, layer, readout, database, abs_plcc, abs_srocc and source.
    study
        The tables.

    Raises
    ------
    ReportError
        If the file can't be read, lacks a column, or has something else where a number is expected.
    """
    ours = {
        (row.database, row.backbone, row.layer, row.readout): row
        for row in study.correlations
        if not row.distortion
    }
    databases = {_plain(one.name): one.name for one in study.databases}
    found = []
    try:
        lines = read_csv(path, COLUMNS)
    except TableError as error:
        raise ReportError(str(error)) from error
    for line, row in lines:
        database = databases.get(_plain(row["database"]), "")
        series = next((s for s in _series(row) if (database, *s) in ours), None)
        if series is None:
            continue
        srocc, plcc = (_number(path, line, row, name) for name in ("abs_srocc", "abs_plcc"))
        mine = ours[(database, *series)]
        if math.isfinite(srocc) and math.isfinite(mine.srocc):
            name = ":".join(part for part in series if part)
            found.append(Beside(database, name, srocc, plcc, mine, row["source"]))
    return found


def draw(study: Study, database: str, beside: Sequence[Beside]) -> Picture | None:
    """Draw published values beside ours for a database; None if there are none."""
    found = [row for row in beside if row.database == database]
    if not found:
        return None
    ceiling = study.ceiling(database)
    values = [v for row in found for v in (row.srocc, *(abs(end) for end in _ends(row.ours)))]
    sheet = rows.sheet(
        [rows.Row(row.name, wording.signed(abs(row.ours.srocc) - row.srocc)) for row in found],
        limits=figures.extent([*values, *ceilings.values(ceiling)]),
        label="absolute value of SROCC",
        legend=[
            Line2D([], [], linestyle="none", label="ours", **_OURS),
            Line2D([], [], linestyle="none", label="published", **_THEIRS),
            *ceilings.key(ceiling),
        ],
    )
    for axes in sheet.columns:
        ceilings.up(axes, ceiling)
    for place, row in enumerate(found):
        axes, at = sheet.spots[place].axes, sheet.spots[place].at
        low, high = sorted((abs(row.ours.srocc_low), abs(row.ours.srocc_high)))
        if math.isfinite(low):
            axes.hlines(at, low, high, color=figures.COLOURS[0], linewidth=1.0)
        axes.plot(abs(row.ours.srocc), at, **_OURS)
        axes.plot(row.srocc, at, **_THEIRS)
    label = study.label(database)
    gaps = [abs(row.ours.srocc) - row.srocc for row in found]
    widest = max(range(len(found)), key=lambda index: abs(gaps[index]))
    return Picture(
        f"published-{study.file_name(database)}",
        study.heading(database),
        "Each row is a series that both have measured. The diamond is the published value, the "
        "filled circle is ours with its interval, and the number is ours minus the published one. "
        "Other weights, other padding and resized images change the values; so does rounding."
        + ceilings.caption(ceiling),
        f"Dot plot for {label}, {wording.counted(len(found), 'row')}. Ours minus published ranges "
        f"from {wording.signed(min(gaps))} to {wording.signed(max(gaps))}. The largest difference "
        f"is that of {found[widest].name}: ours is "
        f"{wording.number(abs(found[widest].ours.srocc))}, the published value is "
        f"{wording.number(found[widest].srocc)}.",
        sheet.figure,
        documents.table(
            f"Published values and ours, {label}",
            (
                "series",
                "SROCC, published",
                "SROCC, ours",
                "ours minus published",
                "PLCC, published",
                "PLCC, ours",
                "source",
            ),
            [
                (
                    documents.text(row.name),
                    documents.value(row.srocc),
                    documents.value(abs(row.ours.srocc)),
                    documents.difference(gap),
                    documents.value(row.plcc),
                    documents.value(abs(row.ours.plcc)),
                    documents.text(row.source),
                )
                for row, gap in zip(found, gaps, strict=True)
            ],
            (
                "SROCC, published",
                "SROCC, ours",
                "ours minus published",
                "PLCC, published",
                "PLCC, ours",
            ),
        ),
    )


def _number(path: Path, line: int, row: dict[str, str], name: str) -> float:
    try:
        return float(row[name]) if row[name] else math.nan
    except ValueError:
        raise ReportError(
            f"{path}, line {line}: {name}: expected a number, got {row[name]!r}"
        ) from None


def _ends(row: Correlation) -> tuple[float, float, float]:
    return row.srocc, row.srocc_low, row.srocc_high


def _plain(database: str) -> str:
    return re.sub(r"[^a-z0-9]", "", database.lower())


def _series(row: dict[str, str]) -> list[tuple[str, str, str]]:
    """Return the names that backbone, layer and readout may have in this study."""
    model = row["model"].strip()
    if model in _NETWORKS:
        readout = _READOUTS.get(row["readout"].strip())
        layer = "+".join(_layer(part) for part in row["layer"].strip().split("+"))
        return [(_NETWORKS[model], layer, readout)] if readout and layer else []
    if row["layer"] or not model:
        return []
    return [(name, "", "") for name in _BASELINES.get(model.split()[-1], ())]


def _layer(name: str) -> str:
    """Return our name of a Keras layer; Keras's convolutions include their ReLU."""
    for pattern, ours in (
        (r"block(\d)_conv(\d)", r"relu\1_\2"),
        (r"b(\d)c(\d)", r"relu\1_\2"),
        (r"block(\d)_pool", r"pool\1"),
        (r"max_pool(\d)", r"pool\1"),
    ):
        if re.fullmatch(pattern, name):
            return re.sub(pattern, ours, name)
    return name
