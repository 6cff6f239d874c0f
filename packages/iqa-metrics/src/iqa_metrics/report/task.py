"""Backbones' scores at their pretraining task against their agreement with human ratings."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from iqa_metrics import statistics
from iqa_metrics.report import ceilings, documents, figures, wording
from iqa_metrics.report.documents import Picture
from iqa_metrics.report.ranking import SAME_IMAGES, held_out, plain_models, shown
from iqa_metrics.report.tables import Study
from iqa_metrics.study.description import DescribedNetwork
from iqa_metrics.study.rows import Model

_FEWEST, _IN_A_COLUMN = 3, 14
_LEFT, _BELOW = 0.58, 0.4  # inches beside and below the axes
_SHORT = 1.3  # inches of a name that fits into a column


def draw(study: Study, database: str) -> Picture | None:
    """Draw agreement against scores at the pretraining task.

    Only scores of the same kind can be compared, so the most frequent kind is shown. None if fewer
    than three backbones have such a score.
    """
    found: dict[str, list[tuple[DescribedNetwork, Model]]] = {}
    for row in plain_models(study, database):
        record = study.backbone(row.backbone)
        if record is not None and record.score is not None:
            found.setdefault(record.score_of, []).append((record, row))
    task, points = max(found.items(), key=lambda item: len(item[1]), default=("", []))
    if len(points) < _FEWEST:
        return None
    scores = [float(record.score or 0.0) for record, _ in points]
    agreement = [shown(row) for _, row in points]
    ceiling, held = study.ceiling(database), held_out([row for _, row in points])
    names = [record.name for record, _ in points]
    few = len(points) <= _IN_A_COLUMN and max(map(figures.width_of, names)) < _SHORT
    wide, tall = (figures.SINGLE, 2.6) if few else (figures.DOUBLE, 4.6)
    figure = figures.sheet(tall + _BELOW, wide)
    axes = figures.placed(figure, _LEFT, 0.08, wide - _LEFT - 0.08, tall)
    axes.set_xlim(*_roomy(scores))
    axes.set_ylim(*figures.extent([*agreement, *ceilings.values(ceiling)], 0.05))
    axes.set_xlabel(task or "score at the pretraining task")
    axes.set_ylabel("agreement, held out" if held else "agreement of the best layer")
    ceilings.across(axes, ceiling)
    if ceiling is not None:
        axes.legend(handles=ceilings.key(ceiling), loc="lower left", bbox_to_anchor=(0, 1))
    families = list(dict.fromkeys(record.family for record, _ in points))
    for (record, row), score in zip(points, scores, strict=True):
        look = figures.look(families.index(record.family))
        axes.plot(score, shown(row), marker=look.marker, color=look.colour, markersize=4)
    colours = [figures.look(families.index(record.family)).colour for record, _ in points]
    _label(axes, names, scores, agreement, colours)
    label = study.label(database)
    rho = float(statistics.srocc(np.array(scores), np.array(agreement)))
    best = max(points, key=lambda point: float(point[0].score or 0.0))
    closest = max(points, key=lambda point: shown(point[1]))
    how = "held out" if held else SAME_IMAGES
    return Picture(
        f"own-task-{study.file_name(database)}",
        study.heading(database),
        "Each point is a backbone. Points further to the right are better at the pretraining task "
        f"({task or 'score'}), points further up agree better. Markers distinguish "
        f"families. The rank correlation over these backbones is {wording.number(rho, 2)}. "
        "Backbones of one family are similar, so this is a description and not a test."
        + ("" if held else f" Agreement is that of the best layer, {SAME_IMAGES}.")
        + ceilings.caption(ceiling),
        f"Scatter plot for {label}, {wording.counted(len(points), 'backbone')}. The best at the "
        f"pretraining task is {best[0].name} ({best[0].score:g}), with an agreement of "
        f"{wording.number(shown(best[1]))}. The best in agreement is {closest[0].name} with "
        f"{wording.number(shown(closest[1]))}; its score is {closest[0].score:g}. The rank "
        f"correlation is {wording.number(rho, 2)}.",
        figure,
        documents.table(
            f"Pretraining score and agreement, {label}",
            ("backbone", "family", task or "score", f"agreement, {how}", "interval"),
            [
                (
                    documents.text(record.name),
                    documents.text(record.family),
                    documents.value(record.score, 1),
                    documents.value(shown(row)),
                    documents.interval(row.held_out_low, row.held_out_high),
                )
                for record, row in points
            ],
            (task or "score", f"agreement, {how}", "interval"),
            "models.csv",
        ),
    )


def _roomy(values: Sequence[float]) -> tuple[float, float]:
    """Return axis limits with room for names on both sides."""
    low, high = figures.extent(values, 1.0)
    return low - 0.1 * (high - low), high + 0.1 * (high - low)


def _label(
    axes: Axes,
    names: Sequence[str],
    x: Sequence[float],
    y: Sequence[float],
    colours: Sequence[str],
) -> None:
    """Write each name where it overlaps least with the points and the earlier names."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    inside = axes.get_position().bounds
    sides = axes.figure.get_size_inches()
    wide_in, tall_in = float(inside[2] * sides[0]), float(inside[3] * sides[1])
    across = [(value - left) / (right - left) * wide_in for value in x]
    up = [(value - bottom) / (top - bottom) * tall_in for value in y]
    taken = [(a - 0.04, u - 0.04, a + 0.04, u + 0.04) for a, u in zip(across, up, strict=True)]
    high = figures.SIZE / 72 * 1.1
    for name, a, u, colour in zip(names, across, up, colours, strict=True):
        wide = figures.width_of(name)
        best, least = (a + 0.06, u - high / 2), float("inf")
        for away in (0.06, 0.16, 0.28, 0.42, 0.6):
            # Beside, above or below the point; further away only if these are taken.
            for box in (
                (a + away, u - high / 2),
                (a - away - wide, u - high / 2),
                (a - wide / 2, u + away),
                (a - wide / 2, u - away - high),
                (a + away * 0.7, u + away * 0.7),
                (a + away * 0.7, u - away * 0.7 - high),
                (a - away * 0.7 - wide, u + away * 0.7),
                (a - away * 0.7 - wide, u - away * 0.7 - high),
            ):
                place = (box[0], box[1], box[0] + wide, box[1] + high)
                cost = 10 * _outside(place, wide_in, tall_in) + sum(
                    _overlap(place, other) for other in taken
                )
                if cost < least - 1e-9:
                    best, least = box, cost
            if least == 0:
                break
        taken.append((best[0], best[1], best[0] + wide, best[1] + high))
        far = abs(best[0] + wide / 2 - a) > wide / 2 + 0.12 or abs(best[1] + high / 2 - u) > 0.25
        arrow = {"arrowstyle": "-", "color": colour, "linewidth": 0.5} if far else None
        axes.annotate(
            name,
            xy=(a / wide_in, u / tall_in),
            xytext=((best[0] + wide / 2) / wide_in, (best[1] + high / 2) / tall_in),
            xycoords="axes fraction",
            textcoords="axes fraction",
            ha="center",
            va="center",
            color=colour,
            arrowprops=arrow,
        )


_Box = tuple[float, float, float, float]


def _overlap(one: _Box, other: _Box) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return max(wide, 0.0) * max(high, 0.0)


def _outside(box: _Box, wide: float, tall: float) -> float:
    return max(0.0, -box[0]) + max(0.0, -box[1]) + max(0.0, box[2] - wide) + max(0.0, box[3] - tall)
