"""Backbones' scores at their pretraining task against their agreement with human ratings."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from iqa_metrics import statistics
from iqa_metrics.report import documents, figures, wording
from iqa_metrics.report.documents import Picture
from iqa_metrics.report.ranking import plain_models
from iqa_metrics.report.tables import Study
from iqa_metrics.study.description import DescribedNetwork
from iqa_metrics.study.rows import Model

_FEWEST = 3
_SIZE = 8.0
_WIDE, _TALL = figures.WIDTH - 0.7, 4.3  # inches of the axes


def draw(study: Study, database: str) -> Picture | None:
    """Draw agreement against scores at the pretraining task.

    Only scores of the same kind can be compared, so the most frequent kind is shown. None if fewer
    than three backbones have such a score.
    """
    found: dict[str, list[tuple[DescribedNetwork, Model]]] = {}
    for row in plain_models(study, database):
        record = study.backbone(row.backbone)
        if record is not None and record.score is not None and row.held_out == row.held_out:
            found.setdefault(record.score_of, []).append((record, row))
    task, points = max(found.items(), key=lambda item: len(item[1]), default=("", []))
    if len(points) < _FEWEST:
        return None
    scores = [float(record.score or 0.0) for record, _ in points]
    agreement = [row.held_out for _, row in points]
    figure = figures.sheet(_TALL + 0.8)
    axes = figures.placed(figure, 0.6, 0.15, _WIDE, _TALL)
    axes.set_xlim(*_roomy(scores))
    axes.set_ylim(*figures.extent(agreement, 0.05))
    axes.set_xlabel(task or "score at the pretraining task")
    axes.set_ylabel("agreement at the best layer, held out")
    families = list(dict.fromkeys(record.family for record, _ in points))
    for (record, row), score in zip(points, scores, strict=True):
        look = figures.look(families.index(record.family))
        axes.plot(score, row.held_out, marker=look.marker, color=look.colour, markersize=6)
    colours = [figures.look(families.index(record.family)).colour for record, _ in points]
    _label(axes, [record.name for record, _ in points], scores, agreement, colours)
    label = study.label(database)
    rho = float(statistics.srocc(np.array(scores), np.array(agreement)))
    best = max(points, key=lambda point: float(point[0].score or 0.0))
    closest = max(points, key=lambda point: point[1].held_out)
    return Picture(
        f"own-task-{study.file_name(database)}",
        study.heading(database),
        "Each point is a backbone. Points further to the right are better at the pretraining task "
        f"({task or 'score'}), points further up agree better with people. Markers distinguish "
        f"families. The rank correlation over these backbones is {wording.number(rho, 2)}. "
        "Backbones of one family are similar, so this is a description and not a test.",
        f"Scatter plot for {label}, {wording.counted(len(points), 'backbone')}. The best at the "
        f"pretraining task is {best[0].name} ({best[0].score:g}), with an agreement of "
        f"{wording.number(best[1].held_out)}. The best in agreement is {closest[0].name} with "
        f"{wording.number(closest[1].held_out)}; its score is {closest[0].score:g}. The rank "
        f"correlation is {wording.number(rho, 2)}.",
        figure,
        documents.table(
            f"Pretraining score and agreement, {label}",
            ("backbone", "family", task or "score", "agreement, held out", "interval"),
            [
                (
                    documents.text(record.name),
                    documents.text(record.family),
                    documents.value(record.score, 1),
                    documents.value(row.held_out),
                    documents.interval(row.held_out_low, row.held_out_high),
                )
                for record, row in points
            ],
            (task or "score", "agreement, held out", "interval"),
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
    across = [(value - left) / (right - left) * _WIDE for value in x]
    up = [(value - bottom) / (top - bottom) * _TALL for value in y]
    taken = [(a - 0.05, u - 0.05, a + 0.05, u + 0.05) for a, u in zip(across, up, strict=True)]
    high = _SIZE / 72 * 1.15
    for name, a, u, colour in zip(names, across, up, colours, strict=True):
        wide = 0.6 * _SIZE / 72 * len(name)
        best, least = (a + 0.08, u - high / 2), float("inf")
        for away in (0.08, 0.2, 0.34, 0.5):
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
                cost = 10 * _outside(place) + sum(_overlap(place, other) for other in taken)
                if cost < least - 1e-9:
                    best, least = box, cost
            if least == 0:
                break
        taken.append((best[0], best[1], best[0] + wide, best[1] + high))
        far = abs(best[0] + wide / 2 - a) > wide / 2 + 0.12 or abs(best[1] + high / 2 - u) > 0.25
        arrow = {"arrowstyle": "-", "color": colour, "linewidth": 0.5} if far else None
        axes.annotate(
            name,
            xy=(a / _WIDE, u / _TALL),
            xytext=((best[0] + wide / 2) / _WIDE, (best[1] + high / 2) / _TALL),
            xycoords="axes fraction",
            textcoords="axes fraction",
            ha="center",
            va="center",
            fontsize=_SIZE,
            color=colour,
            arrowprops=arrow,
        )


_Box = tuple[float, float, float, float]


def _overlap(one: _Box, other: _Box) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return max(wide, 0.0) * max(high, 0.0)


def _outside(box: _Box) -> float:
    return (
        max(0.0, -box[0]) + max(0.0, -box[1]) + max(0.0, box[2] - _WIDE) + max(0.0, box[3] - _TALL)
    )
