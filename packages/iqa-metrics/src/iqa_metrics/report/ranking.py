"""Backbones and baselines in order: best layer, held out, and last layer."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from iqa_metrics.report import documents, figures, wording
from iqa_metrics.report.documents import Cell, Picture, Table
from iqa_metrics.report.tables import Study
from iqa_metrics.study.rows import Model

NETWORK, CONTROL, BASELINE = figures.COLOURS[0], figures.COLOURS[1], figures.INK
_ROW = 0.25


def ordered(rows: Sequence[Model]) -> list[Model]:
    """Return rows in order of held-out agreement, the best first, and rows without one last."""
    known = [row for row in rows if row.held_out == row.held_out]
    return [
        *sorted(known, key=lambda row: (-row.held_out, row.backbone, row.readout)),
        *(row for row in rows if row.held_out != row.held_out),
    ]


def plain_models(study: Study, database: str) -> list[Model]:
    """Return the backbones with the plain readout and the baselines, the best first."""
    return ordered(
        [
            row
            for row in study.models
            if row.database == database
            and (study.is_baseline(row.backbone) or row.readout == study.plain)
        ]
    )


def colour_of(study: Study, name: str) -> str:
    """Return the colour of a baseline, an untrained control or a trained backbone."""
    if study.is_baseline(name):
        return BASELINE
    record = study.backbone(name)
    return CONTROL if record is not None and not record.trained else NETWORK


def draw(study: Study, database: str) -> Picture | None:
    """Draw the backbones and baselines in order; None if none of them has a value."""
    rows = [row for row in plain_models(study, database) if row.held_out == row.held_out]
    if not rows:
        return None
    height = _ROW * len(rows) + 0.15
    figure = figures.sheet(height + 1.3)
    left = min(figures.room([row.backbone for row in rows]), 2.1)
    axes = figures.placed(figure, left, 0.62, figures.WIDTH - left - 0.1, height)
    for place, row in enumerate(rows):
        _row(axes, study, place, row)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(range(len(rows)), [row.backbone for row in rows])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    numbers = [v for r in rows for v in (r.best, r.last, r.held_out, r.held_out_low, r.last_low)]
    axes.set_xlim(*figures.extent([*numbers, *(r.held_out_high for r in rows)]))
    axes.set_xlabel("agreement (SROCC; higher is better)")
    _legend(axes, height)
    label = study.label(database)
    best, worst = rows[0], rows[-1]
    networks = [row for row in rows if not study.is_baseline(row.backbone)]
    drop = [row for row in networks if row.last < row.held_out]
    return Picture(
        f"models-{study.file_name(database)}",
        study.heading(database),
        "Rows are sorted by the filled marks: the agreement where each reference is judged by the "
        "layer that is best on the others, with its interval as a line. Hollow circles are the "
        "layer that is best on all references, which flatters it. Hollow squares are the "
        "last layer. Diamonds are baselines, which have no layers. Triangles are untrained controls.",
        f"Dot plot for {label} with {wording.counted(len(rows), 'row')}. The first is "
        f"{best.backbone} with {wording.number(best.held_out)}"
        f"{wording.bracketed(best.held_out_low, best.held_out_high)}, the last is "
        f"{worst.backbone} with {wording.number(worst.held_out)}. In {len(drop)} of "
        f"{wording.counted(len(networks), 'backbone')} the last layer agrees less than the best "
        "one, held out.",
        figure,
        listing(study, rows, f"Backbones and baselines, {label}"),
    )


def listing(study: Study, rows: Sequence[Model], caption: str) -> Table:
    """Return everything known about backbones and baselines as a table, in the given order."""
    several = len({row.database for row in rows}) > 1
    columns = (
        "backbone",
        *(("database",) if several else ()),
        "readout",
        "held out",
        "interval",
        "best layer",
        "depth",
        "best",
        "last layer",
        "last",
        "interval of the last",
        "layers",
        "goal",
        "data",
        "architecture",
    )
    cells: list[Sequence[Cell]] = []
    for row in rows:
        record = study.backbone(row.backbone)
        kind = "baseline" if study.is_baseline(row.backbone) else ""
        cells.append(
            (
                documents.text(row.backbone),
                *((documents.text(row.database),) if several else ()),
                documents.text(row.readout or kind),
                documents.value(row.held_out),
                documents.interval(row.held_out_low, row.held_out_high),
                documents.text(row.best_layer),
                documents.value(row.best_depth, 2),
                documents.value(row.best),
                documents.text(row.last_layer),
                documents.value(row.last),
                documents.interval(row.last_low, row.last_high),
                documents.count(row.layers or None),
                documents.text(record.goal if record else ""),
                documents.text(record.data if record else ""),
                documents.text(record.architecture if record else ""),
            )
        )
    words = {"backbone", "database", "readout", "best layer", "last layer", *columns[-3:]}
    numeric = [name for name in columns if name not in words]
    return documents.table(caption, columns, cells, numeric, "models.csv")


def _row(axes: Axes, study: Study, place: int, row: Model) -> None:
    colour = colour_of(study, row.backbone)
    if row.held_out_low == row.held_out_low and row.held_out_high == row.held_out_high:
        axes.hlines(place, row.held_out_low, row.held_out_high, color=colour, linewidth=1.4)
    if study.is_baseline(row.backbone):
        axes.plot(row.held_out, place, marker="D", color=colour, markersize=5.5)
        return
    hollow: dict[str, Any] = {"markerfacecolor": "white", "color": colour, "markeredgewidth": 1.1}
    axes.plot(row.last, place, marker="s", markersize=5, linestyle="none", zorder=3, **hollow)
    axes.plot(row.best, place, marker="o", markersize=6, linestyle="none", zorder=2.5, **hollow)
    marker = "^" if colour == CONTROL else "o"
    axes.plot(row.held_out, place, marker=marker, color=colour, markersize=6, zorder=4)


def _legend(axes: Axes, height: float) -> None:
    def mark(marker: str, colour: str, face: str, name: str) -> Line2D:
        return Line2D(
            [], [], linestyle="none", marker=marker, color=colour, markerfacecolor=face, label=name
        )

    axes.legend(
        handles=[
            mark("o", NETWORK, NETWORK, "held out, with interval"),
            mark("^", CONTROL, CONTROL, "untrained, held out"),
            mark("D", BASELINE, BASELINE, "baseline"),
            mark("o", NETWORK, "white", "best layer, uncorrected"),
            mark("s", NETWORK, "white", "last layer"),
        ],
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0 + 0.04 / height),
        ncols=2,
        borderaxespad=0.0,
        columnspacing=1.2,
        handletextpad=0.3,
    )
