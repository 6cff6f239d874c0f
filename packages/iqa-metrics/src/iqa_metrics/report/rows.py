"""Figures of rows: names beside the axes, never on them, in one column or in two."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from iqa_metrics.report import figures

AGAINST = "vs"
"""The word between two compared things, before which a long name is broken."""
_TALLEST = 7.6  # inches of rows that fit a page together with legend, axis and caption
_LINE, _APART = 0.14, 0.04
_LEGEND, _AXIS = 0.155, 0.42  # a line of the legend, and what stands below the axes
_BETWEEN = 0.06
"""Inches between the labels of ticks, at least."""
_TICKS = 4  # numbers on an axis that is not wide
_GAP = 0.16  # between two columns
_MOST_NAME = 0.48  # the share of a column that names may take


@dataclass(frozen=True)
class Row:
    """A row's name and the number at its other end; a heading has neither axes nor number."""

    name: str
    number: str = ""
    heading: bool = False


@dataclass(frozen=True)
class Spot:
    """Where a row is: its axes, and its height on them."""

    axes: Axes
    at: float


@dataclass(frozen=True)
class Sheet:
    """A figure of rows.

    Attributes
    ----------
    figure
        The figure.
    columns
        The axes of each column.
    spots
        Where each row is, by its index; headings are left out.
    """

    figure: Figure
    columns: tuple[Axes, ...]
    spots: Mapping[int, Spot]


def sheet(
    rows: Sequence[Row],
    *,
    limits: tuple[float, float],
    label: str,
    legend: Sequence[Line2D | Patch] = (),
) -> Sheet:
    """Return an empty figure of rows, which is as wide as a column of a paper or as its page.

    Parameters
    ----------
    rows
        The rows, from top to bottom.
    limits, label
        The limits and the name of the axis that all rows share.
    legend
        What the marks mean.
    """
    column = figures.SINGLE - _GAP / 2
    most = _MOST_NAME * column
    lines = [_lines(row, most, column) for row in rows]
    heights = [_LINE * len(one) + _APART for one in lines]
    parts = _split(rows, heights)
    width = figures.SINGLE if len(parts) == 1 else figures.DOUBLE
    names = [row.name for row in rows if not row.heading]
    left = figures.room(names, most)
    numbers = max((figures.width_of(row.number) for row in rows if row.number), default=0.0)
    right = numbers + 0.16 if numbers else 0.1
    above = _LEGEND * _legend_lines(legend, width) + 0.12 if legend else 0.08
    tall = [sum(heights[at] for at in part) + 0.06 for part in parts]
    figure = figures.sheet(above + max(tall) + _AXIS, width)
    axes, spots = [], {}
    for place, (part, height) in enumerate(zip(parts, tall, strict=True)):
        start = place * (width + _GAP) / 2
        across = width if len(parts) == 1 else (width - _GAP) / 2
        one = figures.placed(figure, start + left, above, across - left - right, height)
        _style(one, limits, label, height, across - left - right)
        down = 0.03
        for at in part:
            middle = down + heights[at] / 2
            _name(one, rows[at], lines[at], middle, left, right, across)
            if not rows[at].heading:
                spots[at] = Spot(one, middle)
            down += heights[at]
        axes.append(one)
    if legend:
        figure.legend(
            handles=list(legend),
            loc="upper left",
            bbox_to_anchor=(0.0, 1.0),
            ncols=_legend_columns(legend, width),
            borderaxespad=0.0,
            borderpad=0.0,
            columnspacing=1.2,
            handlelength=1.8,
            handletextpad=0.4,
            labelspacing=0.35,
        )
    return Sheet(figure, tuple(axes), spots)


def _lines(row: Row, most: float, column: float) -> list[str]:
    if row.heading:
        return figures.wrapped(row.name, column, bold=True)
    if figures.width_of(row.name) <= most:
        return [row.name]
    first, between, second = row.name.partition(f" {AGAINST} ")
    if not between:
        return figures.wrapped(row.name, most)
    return [*figures.wrapped(first, most), *figures.wrapped(f"{AGAINST} {second}", most)]


def _split(rows: Sequence[Row], heights: Sequence[float]) -> list[list[int]]:
    """Return the rows of each column: two of about the same height if one is too tall."""
    everything = list(range(len(rows)))
    total = sum(heights)
    if total <= _TALLEST:
        return [everything]
    down, cut = 0.0, 0
    while down < total / 2:
        down += heights[cut]
        cut += 1
    # A heading stands above its rows, not below another column.
    while cut > 1 and rows[cut - 1].heading:
        cut -= 1
    return [everything[:cut], everything[cut:]]


def _style(
    axes: Axes, limits: tuple[float, float], label: str, height: float, inside: float
) -> None:
    axes.set_xlim(*limits)
    axes.set_ylim(height, 0)
    axes.set_yticks([])
    axes.set_xlabel(label)
    # Fewer ticks where their labels would run into each other.
    for count in range(_TICKS, 1, -1):
        axes.locator_params(axis="x", nbins=count, min_n_ticks=2)
        ticks = [tick for tick in axes.get_xticks() if limits[0] <= tick <= limits[1]]
        words = axes.xaxis.get_major_formatter().format_ticks(ticks)
        if len(ticks) < 2:
            break
        apart = inside * (ticks[1] - ticks[0]) / (limits[1] - limits[0])
        if max(map(figures.width_of, words)) + _BETWEEN <= apart:
            break
    axes.spines["left"].set_visible(False)


def _name(
    axes: Axes,
    row: Row,
    lines: Sequence[str],
    middle: float,
    left: float,
    right: float,
    across: float,
) -> None:
    inside = across - left - right
    along = axes.get_yaxis_transform()
    if row.heading:
        # The heading interrupts the axes.
        half = (_LINE * len(lines) + _APART) / 2
        top = 0.0 if middle - half < _APART else middle - half
        axes.axhspan(top, middle + half, color="white", linewidth=0, zorder=2.2)
        axes.text(
            *(-left / inside, middle, "\n".join(lines)),
            transform=along,
            weight="bold",
            va="center",
            linespacing=1.15,
            zorder=2.3,
        )
        return
    axes.axhline(middle, color=figures.FAINT, linewidth=0.4, zorder=0.5)
    axes.text(
        -0.06 / inside,
        middle,
        "\n".join(lines),
        transform=along,
        ha="right",
        va="center",
        linespacing=1.15,
    )
    if row.number:
        axes.text(
            (inside + right - 0.05) / inside,
            middle,
            row.number,
            transform=along,
            ha="right",
            va="center",
        )


def _legend_columns(legend: Sequence[Line2D | Patch], width: float) -> int:
    widest = max(figures.width_of(str(one.get_label())) for one in legend) + 0.38
    return max(1, min(len(legend), int(width / widest)))


def _legend_lines(legend: Sequence[Line2D | Patch], width: float) -> int:
    return -(-len(legend) // _legend_columns(legend, width))
