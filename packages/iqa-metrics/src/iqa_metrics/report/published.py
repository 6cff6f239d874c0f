"""Published values beside this study's, where both measured the same thing."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.lines import Line2D

from iqa_metrics.report import ceilings, documents, figures, rows, wording
from iqa_metrics.report.documents import Picture
from iqa_metrics.report.published_values import Beside
from iqa_metrics.report.tables import Study
from iqa_metrics.study.rows import Correlation

_OURS: dict[str, Any] = {"marker": "o", "color": figures.COLOURS[0], "markersize": 4}
_THEIRS: dict[str, Any] = {
    "marker": "D",
    "color": figures.COLOURS[1],
    "markersize": 4.5,
    "markerfacecolor": "none",
    "markeredgewidth": 0.9,
}


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


def _ends(row: Correlation) -> tuple[float, float, float]:
    return row.srocc, row.srocc_low, row.srocc_high
