"""Agreement along the depth of backbones: one panel per family, with the baselines as lines."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from iqa_metrics.backbones.factors import UNTRAINED
from iqa_metrics.report import documents, figures, wording
from iqa_metrics.report.documents import Picture
from iqa_metrics.report.tables import Agreement, Study
from iqa_metrics.study.description import DescribedNetwork
from iqa_metrics.study.rows import Correlation

REFERENCES = ("ssim", "lpips", "dists", "psnr")
_IN_A_PANEL, _WITH_BANDS = 4, 3
_LABEL = 0.155  # height of a label in inches


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


def draw(study: Study, database: str) -> Picture | None:
    """Draw agreement against depth for every backbone; None if nothing was measured."""
    panels = _panels(study, database)
    if not panels:
        return None
    lines = references(study, database)
    curves = [curve for _, group in panels for curve in group]
    shown = [one.value for curve in curves for one in curve.agreement]
    low, high = figures.extent([*shown, *(one.value for one in lines.values())])
    tall = [max(1.75, _LABEL * (len(group) + len(lines)) + 0.2) for _, group in panels]
    figure = figures.sheet(sum(tall) + 0.62 * len(panels) + 0.3)
    top, first = 0.3, None
    for (title, group), height in zip(panels, tall, strict=True):
        axes = figures.placed(figure, 0.55, top, 2.6, height, first)
        first = first or axes
        _panel(axes, title, group, lines, (low, high), height)
        top += height + 0.62
    axes.set_xlabel("relative depth of the layer (1 is the last)")
    label = study.label(database)
    best = max(curves, key=lambda curve: curve.agreement[curve.best].value)
    worst = min(curves, key=lambda curve: curve.agreement[curve.best].value)
    return Picture(
        f"depth-{study.file_name(database)}",
        study.heading(database),
        "Each line is a backbone and each point is one of its layers, from the first on the left "
        "to the last. Higher is better. Agreement is the SROCC of distances with the readout "
        f"{study.plain}, with its sign chosen so that positive means agreement. Hollow points and "
        "dashed lines are the same architecture with random weights. Grey lines are baselines. "
        "Panels with few lines show intervals as bands.",
        f"Line chart for {label}: {wording.counted(len(curves), 'backbone')} in "
        f"{wording.counted(len(panels), 'panel')}. The highest agreement is that of "
        f"{_said(best)}. The backbone whose best layer is lowest is {_said(worst)}. "
        + (
            "Baselines: "
            + wording.listed([f"{n} {wording.number(a.value)}" for n, a in lines.items()])
            + "."
            if lines
            else "There are no baselines."
        ),
        figure,
        documents.table(
            f"Agreement by layer, {label}",
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
) -> None:
    axes.set_title(title)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(*limits)
    axes.set_ylabel("agreement")
    ends: list[tuple[str, float, float, str]] = []  # label, x, y, colour
    for name, one in lines.items():
        axes.axhline(one.value, color=figures.GREY, linewidth=1.0, dashes=(1.5, 2.0), zorder=1.5)
        ends.append((name, 1.02, one.value, figures.GREY))
    for curve in curves:
        x = [row.depth for row in curve.rows]
        y = [one.value for one in curve.agreement]
        axes.plot(
            x,
            y,
            color=curve.look.colour,
            linestyle="solid" if curve.trained else (0, (2.5, 1.8)),
            linewidth=1.6 if curve.trained else 1.2,
            marker=curve.look.marker,
            markersize=4.2,
            markerfacecolor=curve.look.colour if curve.trained else "white",
            markeredgewidth=0.9,
            clip_on=False,
            zorder=3 if curve.trained else 2.5,
        )
        if len(curves) <= _WITH_BANDS:
            low = [one.low for one in curve.agreement]
            high = [one.high for one in curve.agreement]
            axes.fill_between(x, low, high, color=curve.look.colour, alpha=0.13, linewidth=0)
        ends.append((curve.backbone, x[-1], y[-1], curve.look.colour))
    gap = _LABEL / height * (limits[1] - limits[0])
    places = figures.spread([end[2] for end in ends], gap, *limits)
    for (name, x_end, y_end, colour), place in zip(ends, places, strict=True):
        axes.annotate(
            name,
            xy=(x_end, y_end),
            xytext=(1.11, place),
            fontsize=8.5,
            color=colour,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.6,
                "shrinkA": 1,
                "relpos": (0, 0.5),
            },
        )
