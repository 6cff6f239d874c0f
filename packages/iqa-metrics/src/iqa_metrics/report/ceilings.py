"""The noise ceiling: the agreement that observers leave possible, drawn as a line.

A figure passes the ceiling that it has, or None; without one, nothing is drawn or said.
"""

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from iqa_metrics.report import figures, wording
from iqa_metrics.study.agreement_rows import Ceiling

COLOUR = figures.COLOURS[3]
NAME = "noise ceiling"
_DASHES = (0, (5.0, 1.5, 1.0, 1.5))


def across(axes: Axes, ceiling: Ceiling | None) -> None:
    """Draw the ceiling of a vertical axis."""
    if ceiling is not None:
        axes.axhline(ceiling.value, color=COLOUR, linewidth=0.9, linestyle=_DASHES, zorder=1.6)


def up(axes: Axes, ceiling: Ceiling | None) -> None:
    """Draw the ceiling of a horizontal axis."""
    if ceiling is not None:
        axes.axvline(ceiling.value, color=COLOUR, linewidth=0.9, linestyle=_DASHES, zorder=1.6)


def values(ceiling: Ceiling | None) -> list[float]:
    """Return what an axis must have room for."""
    return [] if ceiling is None else [ceiling.value]


def key(ceiling: Ceiling | None) -> list[Line2D]:
    """Return the line's entry in a legend."""
    if ceiling is None:
        return []
    label = f"{NAME}, {wording.number(ceiling.value, 2)}"
    return [Line2D([], [], color=COLOUR, linewidth=0.9, linestyle=_DASHES, label=label)]


def caption(ceiling: Ceiling | None) -> str:
    """Return the caption's sentence about the ceiling, with a blank before it."""
    if ceiling is None:
        return ""
    return (
        f" The dash-dotted line is the {NAME}, {wording.number(ceiling.value)}: the agreement of "
        f"{ceiling.what} with the mean opinion."
    )
