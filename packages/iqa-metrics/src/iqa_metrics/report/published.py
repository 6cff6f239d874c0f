"""Published values beside this study's, where both measured the same thing."""

import math
from collections.abc import Sequence

from matplotlib.lines import Line2D

from iqa_metrics.report import documents, figures, wording
from iqa_metrics.report.documents import Picture
from iqa_metrics.report.published_values import Beside
from iqa_metrics.report.tables import Study
from iqa_metrics.study.rows import Correlation

_ROW = 0.27


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


def _ends(row: Correlation) -> tuple[float, float, float]:
    return row.srocc, row.srocc_low, row.srocc_high
