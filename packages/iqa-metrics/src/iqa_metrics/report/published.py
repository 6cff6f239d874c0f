"""Published values beside this study's, where both measured the same thing."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.lines import Line2D

from iqa_metrics.report import documents, figures, wording
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
_ROW = 0.27


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
        rows = read_csv(path, COLUMNS)
    except TableError as error:
        raise ReportError(str(error)) from error
    for line, row in rows:
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


def draw(study: Study, database: str, rows: Sequence[Beside]) -> Picture | None:
    """Draw published values beside ours for a database; None if there are none."""
    rows = [row for row in rows if row.database == database]
    if not rows:
        return None
    height = _ROW * len(rows) + 0.1
    figure = figures.sheet(height + 1.0)
    left = min(figures.room([row.name for row in rows]), 1.9)
    axes = figures.placed(figure, left, 0.4, figures.WIDTH - left - 0.65, height)
    for place, row in enumerate(rows):
        mine = abs(row.ours.srocc)
        low, high = sorted((abs(row.ours.srocc_low), abs(row.ours.srocc_high)))
        if math.isfinite(low):
            axes.hlines(place, low, high, color=figures.COLOURS[0], linewidth=1.2)
        axes.plot(mine, place, marker="o", color=figures.COLOURS[0], markersize=5.5)
        axes.plot(
            row.srocc,
            place,
            marker="D",
            color=figures.COLOURS[1],
            markersize=6.5,
            markerfacecolor="none",
            markeredgewidth=1.3,
        )
        axes.text(
            1.03,
            place,
            wording.signed(mine - row.srocc),
            transform=axes.get_yaxis_transform(),
            va="center",
            fontsize=9,
        )
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.set_xlim(
        *figures.extent(
            [v for row in rows for v in (row.srocc, *(abs(e) for e in _ends(row.ours)))]
        )
    )
    axes.set_xlabel("absolute value of SROCC")
    axes.legend(
        handles=[
            Line2D([], [], linestyle="none", marker="o", color=figures.COLOURS[0], label="ours"),
            Line2D(
                [],
                [],
                linestyle="none",
                marker="D",
                color=figures.COLOURS[1],
                markerfacecolor="none",
                label="published",
            ),
        ],
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0 + 0.04 / height),
        ncols=2,
        borderaxespad=0.0,
        handletextpad=0.3,
    )
    label = study.label(database)
    gaps = [abs(row.ours.srocc) - row.srocc for row in rows]
    widest = max(range(len(rows)), key=lambda index: abs(gaps[index]))
    return Picture(
        f"published-{study.file_name(database)}",
        study.heading(database),
        "Each row is a series that both have measured. The diamond is the published value, the "
        "filled circle is ours with its interval, and the number is ours minus the published one. "
        "Other weights, other padding and resized images change the values; so does rounding.",
        f"Dot plot for {label}, {wording.counted(len(rows), 'row')}. Ours minus published ranges "
        f"from {wording.signed(min(gaps))} to {wording.signed(max(gaps))}. The largest difference "
        f"is that of {rows[widest].name}: ours is "
        f"{wording.number(abs(rows[widest].ours.srocc))}, the published value is "
        f"{wording.number(rows[widest].srocc)}.",
        figure,
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
                for row, gap in zip(rows, gaps, strict=True)
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
