"""Agreement along the depth of backbones: one panel per family, with the baselines as lines.

Two panels stand side by side on a page, and a phone shows one of them and its labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from iqa_metrics.backbones.factors import UNTRAINED
from iqa_metrics.report import ceilings, documents, figures, wording
from iqa_metrics.report.documents import Picture
from iqa_metrics.report.tables import Agreement, Study
from iqa_metrics.study.agreement_rows import Ceiling
from iqa_metrics.study.description import DescribedNetwork
from iqa_metrics.study.rows import Correlation

REFERENCES = ("ssim", "lpips", "dists", "psnr")
_IN_A_PANEL, _WITH_BANDS, _ON_A_PAGE = 4, 3, 6
_LABEL = 0.128  # height of a label in inches
_LEFT, _LABELS, _GAP, _ABOVE, _BELOW = 0.58, 1.35, 0.12, 0.25, 0.4  # inches


@dataclass(frozen=True)
class Curve:
    """A backbone's agreement, layer by layer, in order of depth."""

    backbone: str
    trained: bool
    look: figures.Look
    rows: tuple[Correlation, ...]
    agreement: tuple[Agreement, ...]

    @property
    def best(self) -> int:
        """The index of the layer that agrees best."""
        return max(range(len(self.rows)), key=lambda i: self.agreement[i].value)


def plain_rows(study: Study, database: str) -> list[Correlation]:
    """Return a database's rows of single layers with the plain readout, over all pairs."""
    return [
        row
        for row in study.correlations
        if row.database == database
        and not row.distortion
        and row.readout == study.plain
        and row.depth == row.depth
        and row.srocc == row.srocc
    ]


def references(study: Study, database: str) -> dict[str, Agreement]:
    """Return the agreement of those of SSIM, LPIPS, DISTS and PSNR that were measured."""
    rows = {
        row.backbone: study.agreement(row)
        for row in study.correlations
        if row.database == database and not row.distortion and study.is_baseline(row.backbone)
    }
    found = {}
    for kind in REFERENCES:
        names = [name for name in rows if name == kind or name.startswith(f"{kind}_")]
        if names and rows[min(names, key=len)].value == rows[min(names, key=len)].value:
            found[min(names, key=len)] = rows[min(names, key=len)]
    return found


def draw(study: Study, database: str) -> list[Picture]:
    """Draw agreement against depth for every backbone, on as many pages as it takes."""
    panels = _panels(study, database)
    parts = -(-len(panels) // _ON_A_PAGE)
    size = -(-len(panels) // parts) if panels else 0
    size += size % 2 if parts > 1 else 0
    return [
        _picture(study, database, panels[part * size : (part + 1) * size], panels, part, parts)
        for part in range(parts)
    ]


def _picture(
    study: Study,
    database: str,
    panels: Sequence[tuple[str, list[Curve]]],
    everything: Sequence[tuple[str, list[Curve]]],
    part: int,
    parts: int,
) -> Picture:
    lines, ceiling = references(study, database), study.ceiling(database)
    curves = [curve for _, group in panels for curve in group]
    # The parts have the same axes, so that they can be compared.
    shown = [one for _, group in everything for curve in group for one in curve.agreement]
    limits = figures.extent(
        [
            *(value for one in shown for value in (one.value, one.low, one.high)),
            *(one.value for one in lines.values()),
            *ceilings.values(ceiling),
        ]
    )
    label = study.label(database)
    said = f"{label}, part {part + 1} of {parts}" if parts > 1 else label
    best = max(curves, key=lambda curve: curve.agreement[curve.best].value)
    worst = min(curves, key=lambda curve: curve.agreement[curve.best].value)
    why = study.uncertain(database)
    return Picture(
        f"depth-{study.file_name(database)}" + (f"-{part + 1}" if part else ""),
        study.heading(database) + (f" ({part + 1} of {parts})" if parts > 1 else ""),
        "Each line is a backbone and each point is one of its layers, from the first on the left "
        "to the last. Higher is better. Agreement is the SROCC of distances with the readout "
        f"{study.plain}, with its sign chosen so that positive means agreement. Hollow points and "
        "dashed lines are the same architecture with random weights. Grey lines are baselines. "
        + (
            f"There are no intervals: {why}."
            if why
            else "Panels with few lines show intervals as bands."
        )
        + ceilings.caption(ceiling),
        f"Line chart for {said}: {wording.counted(len(curves), 'backbone')} in "
        f"{wording.counted(len(panels), 'panel')}. The highest agreement is that of "
        f"{_said(best)}. The backbone whose best layer is lowest is {_said(worst)}. "
        + (
            "Baselines: "
            + wording.listed([f"{n} {wording.number(a.value)}" for n, a in lines.items()])
            + "."
            if lines
            else "There are no baselines."
        ),
        _figure(panels, lines, limits, ceiling),
        documents.table(
            f"Agreement by layer, {said}",
            ("backbone", "layer", "depth", "agreement", "interval"),
            [
                (
                    documents.text(curve.backbone),
                    documents.text(row.layer),
                    documents.value(row.depth, 2),
                    documents.value(one.value),
                    documents.interval(one.low, one.high),
                )
                for curve in curves
                for row, one in zip(curve.rows, curve.agreement, strict=True)
            ],
            ("depth", "agreement", "interval"),
        ),
    )


def _figure(
    panels: Sequence[tuple[str, list[Curve]]],
    lines: dict[str, Agreement],
    limits: tuple[float, float],
    ceiling: Ceiling | None,
) -> Figure:
    """Draw the panels in two columns, filled from the left, or a single one in one column."""
    wide = figures.SINGLE if len(panels) == 1 else figures.DOUBLE
    column = wide if len(panels) == 1 else (wide - _GAP) / 2
    more = len(lines) + (ceiling is not None)
    tall = [max(1.55, _LABEL * (_lines(group) + more) + 0.1) for _, group in panels]
    # Panels side by side are of one height, so that their axes can be compared.
    pairs = [range(at, min(at + 2, len(panels))) for at in range(0, len(panels), 2)]
    heights = [max(tall[at] for at in pair) for pair in pairs]
    figure = figures.sheet(sum(heights) + (_ABOVE + _BELOW) * len(pairs), wide)
    top, first = _ABOVE, None
    for pair, height in zip(pairs, heights, strict=True):
        for place, at in enumerate(pair):
            left = place * (column + _GAP) + _LEFT
            axes = figures.placed(figure, left, top, column - _LEFT - _LABELS, height, first)
            first = first or axes
            title, group = panels[at]
            _panel(axes, title, group, lines, limits, height, ceiling)
        top += height + _ABOVE + _BELOW
    return figure


def _lines(curves: Sequence[Curve]) -> int:
    return sum(len(figures.wrapped(curve.backbone, _LABELS - 0.2)) for curve in curves)


def _said(curve: Curve) -> str:
    row, one = curve.rows[curve.best], curve.agreement[curve.best]
    return (
        f"{curve.backbone} with {wording.number(one.value)} at {row.layer}, depth "
        f"{wording.number(row.depth, 2)}"
    )


def _panels(study: Study, database: str) -> list[tuple[str, list[Curve]]]:
    """Return the panels' titles and curves: one per family, large ones split, small ones merged."""
    rows: dict[str, list[Correlation]] = {}
    for row in plain_rows(study, database):
        rows.setdefault(row.backbone, []).append(row)
    # A backbone and its untrained control are in the same panel, with the same look.
    families: dict[str, dict[str, list[str]]] = {}
    for name in rows:
        record = study.backbone(name)
        family = (record.family or record.architecture) if record else ""
        families.setdefault(family, {}).setdefault(_twin(record) if record else name, []).append(
            name
        )
    alone = [family for family, twins in families.items() if len(twins) == 1]
    together: dict[str, list[str]] = {}
    if len(families) > 6 and len(alone) > 1:
        for family in alone:
            together |= families.pop(family)
    groups = [(family or "Other", twins) for family, twins in sorted(families.items())]
    if together:
        groups.append(("Families with one backbone", together))
    panels = []
    for title, twins in groups:
        names = list(twins)
        parts = -(-len(names) // _IN_A_PANEL)
        for part in range(parts):
            curves = []
            for index, twin in enumerate(names[part::parts]):
                # Trained first, so that its label comes first where both end at the same value.
                for name in sorted(twins[twin], key=len):
                    curves.append(_curve(study, name, rows[name], figures.look(index)))
            number = f" ({part + 1} of {parts})" if parts > 1 else ""
            panels.append((f"{title}{number}", curves))
    return panels


def _twin(record: DescribedNetwork) -> str:
    """Return the name that a backbone and its untrained control share."""
    return record.name if record.trained else record.name.removesuffix(f".{UNTRAINED}")


def _curve(study: Study, name: str, rows: Sequence[Correlation], look: figures.Look) -> Curve:
    record = study.backbone(name)
    ordered = tuple(sorted(rows, key=lambda row: row.depth))
    trained = record.trained if record else True
    return Curve(name, trained, look, ordered, tuple(study.agreement(row) for row in ordered))


def _panel(
    axes: Axes,
    title: str,
    curves: Sequence[Curve],
    lines: dict[str, Agreement],
    limits: tuple[float, float],
    height: float,
    ceiling: Ceiling | None,
) -> None:
    axes.set_title(title)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(*limits)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_xlabel("relative depth")
    axes.locator_params(axis="y", nbins=5)
    axes.set_ylabel("agreement")
    ends: list[tuple[str, float, float, str]] = []  # label, x, y, colour
    ceilings.across(axes, ceiling)
    if ceiling is not None:
        ends.append((ceilings.NAME, 1.02, ceiling.value, ceilings.COLOUR))
    for name, one in lines.items():
        axes.axhline(one.value, color=figures.GREY, linewidth=0.8, dashes=(1.5, 2.0), zorder=1.5)
        ends.append((name, 1.02, one.value, figures.GREY))
    for curve in curves:
        x = [row.depth for row in curve.rows]
        y = [one.value for one in curve.agreement]
        axes.plot(
            x,
            y,
            color=curve.look.colour,
            linestyle="solid" if curve.trained else (0, (2.5, 1.8)),
            linewidth=1.1 if curve.trained else 0.9,
            marker=curve.look.marker,
            markersize=3.0,
            markerfacecolor=curve.look.colour if curve.trained else "white",
            markeredgewidth=0.7,
            clip_on=False,
            zorder=3 if curve.trained else 2.5,
        )
        if len(curves) <= _WITH_BANDS:
            low = [one.low for one in curve.agreement]
            high = [one.high for one in curve.agreement]
            axes.fill_between(x, low, high, color=curve.look.colour, alpha=0.13, linewidth=0)
        ends.append((curve.backbone, x[-1], y[-1], curve.look.colour))
    # A label of two lines is two that touch.
    said = [
        (line, end, number == 0)
        for end in ends
        for number, line in enumerate(figures.wrapped(end[0], _LABELS - 0.2))
    ]
    gap = _LABEL / height * (limits[1] - limits[0])
    places = figures.spread([end[2] for _, end, _ in said], gap, *limits)
    for (text, (_, x_end, y_end, colour), first), place in zip(said, places, strict=True):
        arrow = {
            "arrowstyle": "-",
            "color": colour,
            "linewidth": 0.5,
            "shrinkA": 1,
            "relpos": (0, 0.5),
        }
        axes.annotate(
            text,
            xy=(x_end, y_end),
            xytext=(1.1, place),
            color=colour,
            va="center",
            annotation_clip=False,
            arrowprops=arrow if first else None,
        )
