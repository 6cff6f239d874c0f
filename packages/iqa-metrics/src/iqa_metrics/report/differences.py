"""Paired differences with their intervals, by question, drawn with the margin of equality."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from iqa_metrics.report import documents, figures, wording
from iqa_metrics.report.documents import Picture, Table
from iqa_metrics.report.tables import Study
from iqa_metrics.study.rows import Compared

FACTORS = ("goal", "data", "architecture", "depth", "environment", "recipe")
READOUTS = ("layer", "readout", "descriptors", "concatenation", "channel_weights")
VERDICTS = {
    "first": "the first agrees better",
    "second": "the second agrees better",
    "same": "no difference",
    "undecided": "undecided",
}
_MARKS = {"first": ">", "second": "<", "same": "s", "undecided": "o"}
_COLOURS = {
    "first": figures.COLOURS[0],
    "second": figures.COLOURS[1],
    "same": figures.COLOURS[2],
    "undecided": figures.GREY,
}
_ROW, _MOST = 0.42, 40
_NUMBER = 0.55  # inches for the numbers beside the axes
_LINE = 48  # characters at full size that fit beside a number


def draw(study: Study, database: str, questions: Sequence[str], name: str) -> list[Picture]:
    """Draw the comparisons of some questions in one figure, or in one per question if many.

    Parameters
    ----------
    study, database
        The tables, and the name of the database.
    questions
        The questions, in order.
    name
        Name of the figure's files.

    Returns
    -------
    list of Picture
        Empty if there are no comparisons for any of the questions.
    """
    rows = [
        [row for row in study.comparisons if row.database == database and row.question == question]
        for question in questions
    ]
    asked = [
        (question, of)
        for question, of in zip(questions, rows, strict=True)
        if any(math.isfinite(row.difference) for row in of)
    ]
    if sum(len(of) for _, of in asked) <= _MOST:
        return [_picture(study, database, asked, name)] if asked else []
    return [
        _picture(study, database, [(question, of)], f"{name}-{question}") for question, of in asked
    ]


def listing(rows: Sequence[Compared], caption: str) -> Table:
    """Return comparisons as a table."""
    columns = (
        "question",
        "backbone",
        "first",
        "second",
        "pairs",
        "difference",
        "interval",
        "p",
        "p by Holm",
        "verdict",
    )
    return documents.table(
        caption,
        columns,
        [
            (
                documents.text(_plain(row.question)),
                documents.text(row.backbone),
                documents.text(row.first),
                documents.text(row.second),
                documents.count(row.n),
                documents.difference(row.difference),
                documents.interval(row.low, row.high, sign=True),
                documents.Cell(wording.p_value(row.p), _known(row.p)),
                documents.Cell(wording.p_value(row.p_corrected), _known(row.p_corrected)),
                documents.text(VERDICTS[row.verdict]),
            )
            for row in rows
        ],
        ("pairs", "difference", "interval", "p", "p by Holm"),
        "comparisons.csv",
    )


def _picture(
    study: Study,
    database: str,
    asked: Sequence[tuple[str, list[Compared]]],
    name: str,
) -> Picture:
    shown = [(question, _largest(rows)) for question, rows in asked]
    everything = [row for _, rows in asked for row in rows]
    drawn = [row for _, rows in shown for row in rows]
    height = _ROW * (len(drawn) + len(shown)) + 0.1
    figure = figures.sheet(height + 1.2)
    axes = figures.placed(figure, 0.15, 0.65, figures.WIDTH - 0.3 - _NUMBER, height)
    margin = study.settings.margin
    axes.axvspan(-margin, margin, color=figures.COLOURS[2], alpha=0.13, linewidth=0)
    axes.axvline(0, color=figures.GREY, linewidth=0.9)
    # One size for all rows, so that none looks more important.
    size = 9.0 * min(1.0, _LINE / max(len(_words(row)) for row in drawn))
    place = 0.0
    for question, rows in shown:
        axes.text(
            0,
            place,
            wording.capital(_plain(question)),
            transform=axes.get_yaxis_transform(),
            weight="bold",
            va="center",
        )
        place += 1
        for row in rows:
            axes.axhline(place - 0.5, color=figures.FAINT, linewidth=0.7)
            _row(axes, place, row, size)
            place += 1
    axes.set_ylim(place - 0.45, -0.5)
    axes.grid(visible=False)  # names are written across the axes
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    ends = [v for row in drawn for v in (row.low, row.high, row.difference)]
    axes.set_xlim(*figures.extent([*ends, -margin * 1.2, margin * 1.2]))
    axes.set_xlabel("difference in agreement (first minus second)")
    _legend(axes, height, margin, [v for v in VERDICTS if any(v == r.verdict for r in drawn)])
    label = study.label(database)
    left = len(everything) - len(drawn)
    tally = [
        f"{words} in {len([row for row in everything if row.verdict == verdict])}"
        for verdict, words in VERDICTS.items()
    ]
    about = wording.listed([_plain(question) for question, _ in asked])
    widest = max(drawn, key=lambda row: abs(row.difference))
    return Picture(
        f"{name}-{study.file_name(database)}",
        f"{study.heading(database)}: {about}",
        "Each row compares two series on the same pairs. To the right of zero the first agrees "
        "better, to the left the second. Horizontal lines are intervals over reference images. The "
        f"band is ±{margin:g}: an interval within it counts as no difference."
        + (f" The {left} smallest differences are only in the table." if left else ""),
        f"Forest plot for {label}, with {wording.counted(len(everything), 'comparison')} by "
        f"{about}: {wording.listed(tally)}. The "
        f"largest difference is {wording.signed(widest.difference)}"
        f"{wording.bracketed(widest.low, widest.high, sign=True)}: {_named(widest)}.",
        figure,
        listing(everything, f"Comparisons by {about}, {label}"),
    )


def _largest(rows: Sequence[Compared]) -> list[Compared]:
    """Return the largest differences, as many as can be shown, in their original order."""
    known = [row for row in rows if math.isfinite(row.difference)]
    kept = sorted(known, key=lambda row: -abs(row.difference))[:_MOST]
    return [row for row in known if any(row is one for one in kept)]


def _named(row: Compared) -> str:
    of = f"{row.backbone}: " if row.backbone else ""
    return f"{of}{row.first} and {row.second}"


def _words(row: Compared) -> str:
    of = f"{row.backbone}: " if row.backbone else ""
    return f"{of}{row.first} vs {row.second}"


def _row(axes: Axes, place: float, row: Compared, size: float) -> None:
    colour = _COLOURS[row.verdict]
    across = axes.get_yaxis_transform()
    axes.text(0, place - 0.22, _words(row), transform=across, fontsize=size, va="center")
    axes.text(
        1 + _NUMBER / (figures.WIDTH - 0.3 - _NUMBER),
        place - 0.22,
        wording.signed(row.difference),
        transform=across,
        fontsize=9,
        va="center",
        ha="right",
        color=colour,
    )
    if math.isfinite(row.low) and math.isfinite(row.high):
        axes.hlines(place + 0.2, row.low, row.high, color=colour, linewidth=1.6)
    axes.plot(
        row.difference,
        place + 0.2,
        marker=_MARKS[row.verdict],
        color=colour,
        markerfacecolor="white" if row.verdict == "undecided" else colour,
        markersize=6.5,
    )


def _legend(axes: Axes, height: float, margin: float, verdicts: Sequence[str]) -> None:
    handles: list[object] = [
        Line2D(
            [],
            [],
            linestyle="none",
            marker=_MARKS[verdict],
            color=_COLOURS[verdict],
            label=VERDICTS[verdict],
            markerfacecolor="white" if verdict == "undecided" else _COLOURS[verdict],
        )
        for verdict in verdicts
    ]
    handles.append(
        Patch(color=figures.COLOURS[2], alpha=0.13, label=f"margin of equality, ±{margin:g}")
    )
    axes.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0 + 0.04 / height),
        ncols=2,
        borderaxespad=0.0,
        borderpad=0.0,
        handletextpad=0.4,
    )


def _plain(question: str) -> str:
    return question.replace("_", " ")


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
