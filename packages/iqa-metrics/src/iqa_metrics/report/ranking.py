"""Backbones and baselines in order: best layer, held out, and last layer."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.lines import Line2D

from iqa_metrics.backbones.factors import UNTRAINED
from iqa_metrics.report import ceilings, documents, figures, rows, wording
from iqa_metrics.report.documents import Cell, Picture, Table
from iqa_metrics.report.tables import Study
from iqa_metrics.study.rows import Model

NETWORK, CONTROL, BASELINE = figures.COLOURS[0], figures.COLOURS[1], figures.INK
SAME_IMAGES = "chosen and judged on the same images"
_LAST, _BEST, _HELD = 3.4, 4.4, 4.2  # sizes of marks in points


def shown(row: Model) -> float:
    """Return a row's held-out agreement or, if there are too few references, that of the best."""
    return row.best if math.isnan(row.held_out) else row.held_out


def ordered(models: Sequence[Model]) -> list[Model]:
    """Return rows in order of agreement, the best first; rows without a value are left out."""
    known = [row for row in models if math.isfinite(shown(row))]
    return sorted(known, key=lambda row: (-shown(row), row.backbone, row.readout))


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


def held_out(models: Sequence[Model]) -> bool:
    """Return whether the values of layers were chosen on other images than they are judged on."""
    return not any(row.layers and math.isnan(row.held_out) for row in models)


def is_control(study: Study, name: str) -> bool:
    """Return whether a backbone is an untrained control."""
    record = study.backbone(name)
    return record is not None and not record.trained


def draw(study: Study, database: str) -> Picture | None:
    """Draw the backbones and baselines in order; None if none of them has a value."""
    models = plain_models(study, database)
    if not models:
        return None
    # A control stands in the row of its network, if that was measured.
    names = {row.backbone for row in models}
    controls = {
        row.backbone.removesuffix(f".{UNTRAINED}"): row
        for row in models
        if is_control(study, row.backbone) and row.backbone.removesuffix(f".{UNTRAINED}") in names
    }
    own = [row for row in models if not any(row is one for one in controls.values())]
    ceiling, held = study.ceiling(database), held_out(models)
    numbers = [
        value
        for row in models
        for value in (row.best, row.last, row.held_out, row.held_out_low, row.held_out_high)
    ]
    sheet = rows.sheet(
        [rows.Row(row.backbone) for row in own],
        limits=figures.extent([*numbers, *ceilings.values(ceiling)]),
        label="agreement (SROCC)",
        legend=[*_legend(study, models, held), *ceilings.key(ceiling)],
    )
    for axes in sheet.columns:
        ceilings.up(axes, ceiling)
    for place, row in enumerate(own):
        _row(study, sheet.spots[place], row, controls.get(row.backbone))
    label = study.label(database)
    best, worst = models[0], models[-1]
    networks = [row for row in models if not study.is_baseline(row.backbone)]
    drop = [row for row in networks if row.last < shown(row)]
    return Picture(
        f"models-{study.file_name(database)}",
        study.heading(database),
        _caption(study, database, held) + ceilings.caption(ceiling),
        f"Dot plot for {label} with {wording.counted(len(models), 'series', 'series')}. The first "
        f"is {best.backbone} with {wording.number(shown(best))}"
        f"{wording.bracketed(best.held_out_low, best.held_out_high)}, the last is "
        f"{worst.backbone} with {wording.number(shown(worst))}. In {len(drop)} of "
        f"{wording.counted(len(networks), 'backbone')} the last layer agrees less than the best "
        f"one, {'held out' if held else SAME_IMAGES}.",
        sheet.figure,
        listing(study, models, f"Backbones and baselines, {label}"),
    )


def _caption(study: Study, database: str, held: bool) -> str:
    others = (
        "Hollow squares are the last layer. Diamonds are baselines, which have no layers. "
        "Triangles are untrained controls."
    )
    if not held:
        return (
            "Rows are sorted by the filled marks: the layer that agrees best, "
            f"{SAME_IMAGES}, which flatters it. There are no held-out values and no intervals: "
            f"{study.uncertain(database)}. {others}"
        )
    return (
        "Rows are sorted by the filled marks: the agreement where each reference is judged by the "
        "layer that is best on the others, with its interval as a line. Hollow circles are the "
        f"layer that is best on all references, which flatters it. {others}"
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


def _row(study: Study, spot: rows.Spot, row: Model, control: Model | None) -> None:
    axes, at = spot.axes, spot.at
    if control is not None:
        _interval(spot, control, CONTROL, 0.025)
        axes.plot(shown(control), at, marker="^", color=CONTROL, markersize=_HELD, zorder=3.5)
    if study.is_baseline(row.backbone):
        _interval(spot, row, BASELINE, 0.0)
        axes.plot(shown(row), at, marker="D", color=BASELINE, markersize=_LAST, zorder=4)
        return
    alone = is_control(study, row.backbone)
    colour = CONTROL if alone else NETWORK
    hollow: dict[str, Any] = {"markerfacecolor": "white", "color": colour, "markeredgewidth": 0.8}
    _interval(spot, row, colour, 0.0)
    axes.plot(row.last, at, marker="s", markersize=_LAST, linestyle="none", zorder=3, **hollow)
    if math.isfinite(row.held_out):
        axes.plot(
            row.best, at, marker="o", markersize=_BEST, linestyle="none", zorder=2.5, **hollow
        )
    axes.plot(
        shown(row), at, marker="^" if alone else "o", color=colour, markersize=_HELD, zorder=4
    )


def _interval(spot: rows.Spot, row: Model, colour: str, below: float) -> None:
    if math.isfinite(row.held_out_low) and math.isfinite(row.held_out_high):
        # Lower than the other, so that both can be seen.
        spot.axes.hlines(
            spot.at + below, row.held_out_low, row.held_out_high, color=colour, linewidth=1.0
        )


def _legend(study: Study, models: Sequence[Model], held: bool) -> list[Line2D]:
    def mark(marker: str, colour: str, face: str, size: float, name: str) -> Line2D:
        return Line2D(
            *([], []),
            linestyle="none",
            marker=marker,
            markersize=size,
            color=colour,
            markerfacecolor=face,
            label=name,
        )

    networks = [row for row in models if not study.is_baseline(row.backbone)]
    found = []
    if any(not is_control(study, row.backbone) for row in networks):
        name = "held out, with interval" if held else "best layer, not held out"
        found.append(mark("o", NETWORK, NETWORK, _HELD, name))
        if held:
            found.append(mark("o", NETWORK, "white", _BEST, "best on all references"))
        found.append(mark("s", NETWORK, "white", _LAST, "last layer"))
    if any(is_control(study, row.backbone) for row in networks):
        found.append(mark("^", CONTROL, CONTROL, _HELD, "untrained"))
    if len(networks) < len(models):
        found.append(mark("D", BASELINE, BASELINE, _LAST, "baseline"))
    return found
