"""The style of all figures, and how they are written to files reproducibly.

Nothing is distinguished by colour alone: a line also has a dash pattern, a marker and its name.
"""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

WIDTH = 4.7  # inches, which fit a page 390 pixels wide with texts of 8 points
INK, GREY, FAINT = "#1f2328", "#5b6470", "#d9dde2"
# After the colours of M. Okabe and K. Ito for colour-blind readers, dark enough for text on white.
COLOURS = ("#0072B2", "#B84E00", "#007F5C", "#AA4A8C", "#8F6200", "#6A5ACD", "#1f2328")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "*")

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "path",  # the page has no fonts
    "text.parse_math": False,  # a name may contain a dollar sign
    "svg.hashsalt": "iqa-metrics",  # for reproducible identifiers
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 10.0,
    "axes.labelsize": 10.0,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 9.0,
    "ytick.labelsize": 9.0,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
}


@dataclass(frozen=True)
class Look:
    """What distinguishes one of several lines or kinds of points from the others."""

    colour: str
    marker: str


@dataclass(frozen=True)
class Files:
    """A drawing as SVG and PNG, and its size on a page in pixels."""

    svg: bytes
    png: bytes
    width: int
    height: int

    @property
    def fit(self) -> str:
        """The page's class for it: always shrunk to fit, shrunk if there is room, or full width."""
        return "narrow" if self.width <= 500 else "medium" if self.width <= 640 else "wide"


@contextmanager
def style() -> Iterator[None]:
    """Draw in the report's style, whatever the user's matplotlib settings are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def look(index: int) -> Look:
    """Return the look of the n-th kind; the first 77 are different."""
    return Look(COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)])


def sheet(height: float, width: float = WIDTH) -> Figure:
    """Return an empty figure; its height and width are in inches."""
    return Figure(figsize=(width, height))


def placed(
    figure: Figure, left: float, top: float, width: float, height: float, share: Axes | None = None
) -> Axes:
    """Return axes at a position in inches from the figure's upper left corner."""
    across, down = figure.get_size_inches()
    box = (left / across, 1 - (top + height) / down, width / across, height / down)
    axes: Axes = figure.add_axes(box, sharex=share)
    return axes


def room(names: Sequence[str]) -> float:
    """Return the width, in inches, of the row names beside an axis."""
    return 0.12 + 0.072 * max((len(name) for name in names), default=0)


def rendered(figure: Figure) -> Files:
    """Return a figure as files; the same figure gives the same bytes.

    The height is that of its content, and the width is that of the figure unless a name sticks out.
    """
    svg, png = io.BytesIO(), io.BytesIO()
    content, across = figure.get_tightbbox(), figure.get_size_inches()[0]
    left, right = min(content.x0, 0.0), max(content.x1, across)
    fitted: dict[str, Any] = {
        "bbox_inches": Bbox.from_extents(left, content.y0, right, content.y1).padded(0.05),
        "pad_inches": 0.0,
    }
    nothing = {"Date": None, "Creator": None}
    figure.savefig(svg, format="svg", metadata=nothing, dpi=150, **fitted)
    figure.savefig(png, format="png", metadata={"Software": None}, dpi=150, **fitted)
    found = re.search(rb'<svg[^>]*? width="([\d.]+)pt" height="([\d.]+)pt"', svg.getvalue())
    width, height = (round(float(v) * 96 / 72) for v in found.groups()) if found else (0, 0)
    return Files(svg.getvalue(), png.getvalue(), width, height)


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return positions as near as possible to the wanted ones, at least ``gap`` apart.

    Parameters
    ----------
    wanted
        The labels' positions if there were enough room.
    gap
        The smallest distance between two labels.
    low, high
        The available range. If it is too small, labels leave it at the low end.
    """
    order = sorted(range(len(wanted)), key=lambda index: -wanted[index])
    # Labels that touch move as one block, centred on the wanted positions of its members.
    blocks: list[tuple[float, int]] = []  # the middle of a block, how many
    for index in order:
        middle, many = wanted[index], 1
        while True:
            half = gap * (many - 1) / 2
            middle = min(max(middle, low + half), max(high - half, low + half))
            if not blocks:
                break
            above, number = blocks[-1]
            if above - gap * (number - 1) / 2 - gap >= middle + half - 1e-12:
                break
            blocks.pop()
            middle = (above * number + middle * many) / (number + many)
            many += number
        blocks.append((middle, many))
    places = [middle + gap * ((many - 1) / 2 - i) for middle, many in blocks for i in range(many)]
    found = [0.0] * len(wanted)
    for index, place in zip(order, places, strict=True):
        found[index] = place
    return found


def extent(values: Sequence[float], least: float = 0.1) -> tuple[float, float]:
    """Return the limits of an axis that contain all finite values, with a little room around."""
    known = [v for v in values if v == v]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    room = max(0.05 * (high - low), (least - (high - low)) / 2, 0.01)
    return low - room, high + room
