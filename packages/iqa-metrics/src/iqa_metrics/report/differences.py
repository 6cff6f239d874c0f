"""Paired differences with their intervals, by question, beside the margin of equality."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from iqa_metrics.report import documents, figures, rows, wording
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
_MOST = 50
"""Rows of a figure; more comparisons than these are shown as means, with the single ones."""


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
    of_question = {
        question: [
            row for row in study.comparisons if (row.database, row.question) == (database, question)
        ]
        for question in questions
    }
    asked = [
        (question, of)
        for question, of in of_question.items()
        if any(math.isfinite(row.difference) for row in of)
    ]
    if sum(len(_shown(question, of)) for question, of in asked) <= _MOST:
        return [_picture(study, database, asked, name)] if asked else []
    return [
        _picture(study, database, [(question, of)], f"{name}-{question}") for question, of in asked
    ]


def listing(compared: Sequence[Compared], caption: str) -> Table:
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
                documents.p_value(row.p),
                documents.p_value(row.p_corrected),
                documents.text(VERDICTS[row.verdict]),
            )
            for row in compared
        ],
        ("pairs", "difference", "interval", "p", "p by Holm"),
        "comparisons.csv",
    )


@dataclass(frozen=True)
class _Shown:
    """A row of the figure: one comparison, or the mean of several with these as its parts.

    The heading says what is compared in this row and its neighbours; it is empty if the name does.
    """

    heading: str
    name: str
    parts: tuple[Compared, ...]

    @property
    def difference(self) -> float:
        return sum(row.difference for row in self.parts) / len(self.parts)


def _picture(
    study: Study,
    database: str,
    asked: Sequence[tuple[str, list[Compared]]],
    name: str,
) -> Picture:
    shown = [(question, _shown(question, rows)) for question, rows in asked]
    everything = [row for _, of in asked for row in of]
    drawn = [one for _, of in shown for one in of]
    compared = [row for one in drawn for row in one.parts]
    margin = study.settings.margin
    ends = [
        value
        for one in drawn
        for row in one.parts
        # Intervals of the parts of a mean are only in the table.
        for value in (row.difference, *((row.low, row.high) if len(one.parts) == 1 else ()))
    ]
    listed: list[tuple[rows.Row, _Shown | None]] = []
    for question, of in shown:
        for heading in dict.fromkeys(one.heading for one in of):
            words = f"{wording.capital(_plain(question))}{f': {heading}' if heading else ''}"
            listed.append((rows.Row(words, heading=True), None))
            listed += [
                (rows.Row(one.name, wording.signed(one.difference)), one)
                for one in of
                if one.heading == heading
            ]
    sheet = rows.sheet(
        [row for row, _ in listed],
        limits=figures.extent([*ends, -margin * 1.2, margin * 1.2]),
        label="difference in agreement",
        legend=_legend(margin, drawn),
    )
    for axes in sheet.columns:
        axes.axvspan(-margin, margin, color=figures.COLOURS[2], alpha=0.13, linewidth=0)
        axes.axvline(0, color=figures.GREY, linewidth=0.7)
    for place, (_, one) in enumerate(listed):
        if one is not None:
            _row(sheet.spots[place], one)
    label = study.label(database)
    left = len([row for row in everything if math.isfinite(row.difference)]) - len(compared)
    tally = [
        f"{words} in {len([row for row in everything if row.verdict == verdict])}"
        for verdict, words in VERDICTS.items()
    ]
    about = wording.listed([_plain(question) for question, _ in asked])
    widest = max(compared, key=lambda row: abs(row.difference))
    return Picture(
        f"{name}-{study.file_name(database)}",
        f"{study.heading(database)}: {about}",
        _caption(study, database, drawn, left),
        f"Forest plot for {label}, with {wording.counted(len(everything), 'comparison')} by "
        f"{about}: {wording.listed(tally)}. The "
        f"largest difference is {wording.signed(widest.difference)}"
        f"{wording.bracketed(widest.low, widest.high, sign=True)}: {_named(widest)}.",
        sheet.figure,
        listing(everything, f"Comparisons by {about}, {label}"),
    )


def _caption(study: Study, database: str, drawn: Sequence[_Shown], left: int) -> str:
    margin, uncertain = study.settings.margin, study.uncertain(database)
    means = [one for one in drawn if len(one.parts) > 1]
    return (
        "Each row compares two series on the same pairs. To the right of zero the first agrees "
        "better, to the left the second. "
        + (
            f"There are no intervals: {uncertain}. "
            if uncertain
            else "Horizontal lines are intervals over reference images. "
        )
        + (
            "A bar is the mean of several comparisons, and the small marks in its row are these "
            "comparisons; their intervals are in the table. "
            if means
            else ""
        )
        + f"The band is ±{margin:g}: an interval within it counts as no difference."
        + (f" The {left} smallest differences are only in the table." if left else "")
    )


def _shown(question: str, compared: Sequence[Compared]) -> list[_Shown]:
    """Return the rows of a question: one per comparison, or one per mean if these are too many.

    Learned channel weights are compared layer by layer, and a network is judged by all of them.
    """
    known = [row for row in compared if math.isfinite(row.difference)]
    if question == "channel_weights":
        return _means(known, f"learned {rows.AGAINST} equal", lambda row: row.backbone)
    if len(known) <= _MOST:
        return [_single(question, row) for row in known]
    means = _means(known, "", lambda row: f"{row.first} {rows.AGAINST} {row.second}")
    if len(means) <= _MOST:
        return means
    kept = sorted(known, key=lambda row: -abs(row.difference))[:_MOST]
    return [_single(question, row) for row in known if any(row is one for one in kept)]


def _single(question: str, row: Compared) -> _Shown:
    if question not in READOUTS:  # it compares networks, and each row others
        return _Shown("", _words(row), (row,))
    if question == "layer":
        first, _, layer = row.first.partition(", ")
        return _Shown(f"{first} {rows.AGAINST} {row.second}", f"{row.backbone}, {layer}", (row,))
    return _Shown(f"{row.first} {rows.AGAINST} {row.second}", row.backbone, (row,))


def _means(
    compared: Sequence[Compared], heading: str, of: Callable[[Compared], str]
) -> list[_Shown]:
    groups: dict[str, list[Compared]] = {}
    for row in compared:
        groups.setdefault(of(row), []).append(row)
    return [
        _Shown(heading, f"{name} ({len(parts)})" if len(parts) > 1 else name, tuple(parts))
        for name, parts in groups.items()
    ]


def _named(row: Compared) -> str:
    of = f"{row.backbone}: " if row.backbone else ""
    return f"{of}{row.first} and {row.second}"


def _words(row: Compared) -> str:
    of = f"{row.backbone}: " if row.backbone and row.backbone != row.first else ""
    return f"{of}{row.first} {rows.AGAINST} {row.second}"


def _row(spot: rows.Spot, one: _Shown) -> None:
    if len(one.parts) > 1:
        for row in one.parts:
            _mark(spot, row, 2.4, 0.7)
        spot.axes.plot(
            one.difference, spot.at, marker="|", color=figures.INK, markersize=8, markeredgewidth=2
        )
        return
    row = one.parts[0]
    if math.isfinite(row.low) and math.isfinite(row.high):
        spot.axes.hlines(spot.at, row.low, row.high, color=_COLOURS[row.verdict], linewidth=1.1)
    _mark(spot, row, 4.2, 1.0)


def _mark(spot: rows.Spot, row: Compared, size: float, alpha: float) -> None:
    colour = _COLOURS[row.verdict]
    spot.axes.plot(
        row.difference,
        spot.at,
        marker=_MARKS[row.verdict],
        color=colour,
        markerfacecolor="white" if row.verdict == "undecided" else colour,
        markeredgewidth=0.8,
        markersize=size,
        alpha=alpha,
    )


def _legend(margin: float, drawn: Sequence[_Shown]) -> list[Line2D | Patch]:
    there = {row.verdict for one in drawn for row in one.parts}
    handles: list[Line2D | Patch] = [
        Line2D(
            [],
            [],
            linestyle="none",
            marker=_MARKS[verdict],
            color=_COLOURS[verdict],
            label=VERDICTS[verdict].removeprefix("the "),
            markersize=4.2,
            markerfacecolor="white" if verdict == "undecided" else _COLOURS[verdict],
        )
        for verdict in VERDICTS
        if verdict in there
    ]
    if any(len(one.parts) > 1 for one in drawn):
        handles.append(
            Line2D(
                *([], []),
                linestyle="none",
                marker="|",
                color=figures.INK,
                markersize=8,
                markeredgewidth=2,
                label="mean of several",
            )
        )
    handles.append(Patch(color=figures.COLOURS[2], alpha=0.13, label=f"margin, ±{margin:g}"))
    return handles


def _plain(question: str) -> str:
    return question.replace("_", " ")
