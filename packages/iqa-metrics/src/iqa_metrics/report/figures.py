"""The style of all figures, and how they are written to files reproducibly.

Figures are as wide as a column of a paper or as its page, with texts of 8 points, so that they need
no scaling. Nothing is distinguished by colour alone: a line also has a dash pattern, a marker and
its name.
"""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from matplotlib.transforms import Bbox

SINGLE, DOUBLE = 3.5, 7.16  # inches: a column and a page of most journals, 89 and 182 mm
SIZE = 8.0  # points
INK, GREY, FAINT = "#1f2328", "#5b6470", "#d9dde2"
# After the colours of M. Okabe and K. Ito for colour-blind readers, dark enough for text on white.
COLOURS = ("#0072B2", "#B84E00", "#007F5C", "#AA4A8C", "#8F6200", "#6A5ACD", "#1f2328")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "*")

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "path",  # the page has no fonts
    "pdf.fonttype": 42,  # journals refuse Type 3
    "text.parse_math": False,  # a name may contain a dollar sign
    "svg.hashsalt": "iqa-metrics",  # for reproducible identifiers
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": SIZE,
    "axes.labelsize": SIZE,
    "axes.titlesize": SIZE,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.labelsize": SIZE,
    "ytick.labelsize": SIZE,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": SIZE,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.6,
}


@dataclass(frozen=True)
class Look:
    """What distinguishes one of several lines or kinds of points from the others."""

    colour: str
    marker: str


@dataclass(frozen=True)
class Files:
    """A drawing as SVG, PNG and PDF, and its size on a page in pixels."""

    svg: bytes
    png: bytes
    pdf: bytes
    width: int
    height: int

    @property
    def fit(self) -> str:
        """The page's class for it: as wide as a column of a paper, or as its page."""
        return "narrow" if self.width <= 1.1 * 96 * SINGLE else "wide"


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


def sheet(height: float, width: float = SINGLE) -> Figure:
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


@lru_cache(maxsize=4096)
def width_of(text: str, bold: bool = False) -> float:
    """Return the width, in inches, of a text of the figures' size."""
    if not text.strip():
        return 0.0
    font = FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
    return float(TextPath((0, 0), text, size=SIZE, prop=font).get_extents().x1) / 72


def wrapped(text: str, width: float, bold: bool = False) -> list[str]:
    """Return the lines of a text that has a width in inches.

    Lines end at a blank, or after a mark inside a name. A piece that is wider keeps its line.
    """
    lines = [""]
    for piece in re.findall(r"[^\s_.,:+/-]+[_.,:+/-]*\s*|[_.,:+/-]+\s*", text):
        if lines[-1] and width_of((lines[-1] + piece).rstrip(), bold) > width:
            lines.append("")
        lines[-1] += piece
    return [line.rstrip() for line in lines]


def room(names: Sequence[str], most: float) -> float:
    """Return the width, in inches, of the row names beside an axis, at most ``most``."""
    widest = max((width_of(line) for name in names for line in wrapped(name, most)), default=0.0)
    return widest + 0.13


def rendered(figure: Figure) -> Files:
    """Return a figure as files; the same figure gives the same bytes.

    The height is that of its content, and the width is that of the figure unless a name sticks out.
    """
    svg, png, pdf = io.BytesIO(), io.BytesIO(), io.BytesIO()
    content, across = figure.get_tightbbox(), figure.get_size_inches()[0]
    left, right = min(content.x0, 0.0), max(content.x1, across)
    fitted: dict[str, Any] = {
        "bbox_inches": Bbox.from_extents(left, content.y0 - 0.03, right, content.y1 + 0.03),
        "pad_inches": 0.0,
    }
    nothing = {"Date": None, "Creator": None}
    undated = {"CreationDate": None, "Creator": None, "Producer": None}
    # A few points may be drawn as pixels, which are as fine as those of the PNG.
    figure.savefig(svg, format="svg", metadata=nothing, dpi=300, **fitted)
    figure.savefig(png, format="png", metadata={"Software": None}, dpi=300, **fitted)
    figure.savefig(pdf, format="pdf", metadata=undated, dpi=300, **fitted)
    found = re.search(rb'<svg[^>]*? width="([\d.]+)pt" height="([\d.]+)pt"', svg.getvalue())
    width, height = (round(float(v) * 96 / 72) for v in found.groups()) if found else (0, 0)
    return Files(svg.getvalue(), png.getvalue(), pdf.getvalue(), width, height)


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
