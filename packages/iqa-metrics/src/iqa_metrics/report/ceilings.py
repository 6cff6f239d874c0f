"""The noise ceiling: the agreement that observers leave possible, drawn as a line."""

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from iqa_metrics.report import figures, wording

COLOUR = figures.COLOURS[3]
_DASHES = (0, (5.0, 1.5, 1.0, 1.5))


def across(axes: Axes, ceiling: float | None) -> None:
    """Draw the ceiling of a vertical axis, if there is one."""
    if ceiling is not None:
        axes.axhline(ceiling, color=COLOUR, linewidth=0.9, linestyle=_DASHES, zorder=1.6)


def up(axes: Axes, ceiling: float | None) -> None:
    """Draw the ceiling of a horizontal axis, if there is one."""
    if ceiling is not None:
        axes.axvline(ceiling, color=COLOUR, linewidth=0.9, linestyle=_DASHES, zorder=1.6)


def key(ceiling: float | None) -> list[Line2D]:
    """Return the line's entry in a legend, if there is a ceiling."""
    if ceiling is None:
        return []
    label = f"noise ceiling, {wording.number(ceiling, 2)}"
    return [Line2D([], [], color=COLOUR, linewidth=0.9, linestyle=_DASHES, label=label)]


def caption(ceiling: float | None) -> str:
    """Return the caption's sentence about the ceiling, with a blank before it, or nothing."""
    if ceiling is None:
        return ""
    return (
        f" The dash-dotted line is the noise ceiling, {wording.number(ceiling)}: how well ratings "
        "of other observers would be expected to agree with these."
    )
