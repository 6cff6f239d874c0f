"""All pairs of one series: opinion against distance, with a fitted curve."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from iqa_metrics import statistics
from iqa_metrics.report import documents, figures, wording
from iqa_metrics.report.distances import Points
from iqa_metrics.report.documents import Picture
from iqa_metrics.report.tables import Study
from iqa_metrics.statistics import Logistic
from iqa_metrics.study.description import DescribedDatabase
from iqa_metrics.study.distances import Series

_LEFT, _RIGHT, _TALL = 0.52, 0.08, 2.7
_LABEL = 2.8  # inches that a label of the horizontal axis may take
_FEWEST, _AS_SHAPES = 4, 1500


def draw(
    study: Study, database: DescribedDatabase, series: Series, points: Points
) -> Picture | None:
    """Draw opinion against distance; None if fewer than four pairs have a value."""
    if len(points.distance) < _FEWEST:
        return None
    kinds = list(dict.fromkeys(points.distortion))
    which = np.array([kinds.index(kind) for kind in points.distortion])
    many = len(points.distance) > _AS_SHAPES
    looks = [figures.look(index) for index in range(len(kinds))]
    handles = [
        Line2D([], [], linestyle="none", marker=look.marker, color=look.colour, label=kind)
        for kind, look in zip(kinds, looks, strict=True)
    ]
    legend = handles if len(kinds) > 1 else []
    columns = max(1, int(figures.SINGLE / (0.3 + max(map(figures.width_of, kinds)))))
    lines = -(-len(legend) // columns)
    baseline = next((one for one in study.baselines if one.name == series.backbone), None)
    said = figures.wrapped(f"{series.name} ({'value' if baseline else 'distance'})", _LABEL)
    figure = figures.sheet(_TALL + 0.36 + 0.14 * len(said) + 0.155 * lines)
    axes = figures.placed(figure, _LEFT, 0.08, figures.SINGLE - _LEFT - _RIGHT, _TALL)
    for index, look in enumerate(looks):
        axes.plot(
            points.distance[which == index],
            points.opinion[which == index],
            linestyle="none",
            marker=look.marker,
            color=look.colour,
            markersize=1.8 if many else 3.0,
            alpha=0.5 if many else 0.75,
            markeredgewidth=0,
            # Thousands of vector shapes make a page heavy; the axes and the curve stay vectors.
            rasterized=many,
        )
    # Severities of different kinds can't be compared, so no curve goes through all of them.
    fitted = statistics.fit_logistic(points.distance, points.opinion) if database.opinion else None
    if fitted is not None:
        line = np.linspace(points.distance.min(), points.distance.max(), 200)
        # Thin and translucent, so that no point disappears behind it.
        axes.plot(line, fitted(line), color=figures.INK, linewidth=1.0, alpha=0.8, zorder=3)
    # No point is cut by the edge of the axes.
    axes.margins(0.04)
    axes.locator_params(nbins=6)
    axes.set_xlabel("\n".join(said))
    what = "opinion" if database.opinion else "severity"
    axes.set_ylabel(f"{what} (higher is {database.higher_is})")
    if legend:
        figure.legend(
            handles=legend,
            loc="lower left",
            bbox_to_anchor=(0.0, 0.0),
            ncols=columns,
            borderaxespad=0.0,
            borderpad=0.0,
            handlelength=1.0,
            handletextpad=0.4,
            columnspacing=1.0,
            labelspacing=0.35,
        )
    return _picture(study, database, series, points, fitted, figure)


def _picture(
    study: Study,
    database: DescribedDatabase,
    series: Series,
    points: Points,
    fitted: Logistic | None,
    figure: Figure,
) -> Picture:
    if fitted is None:
        # The mean within kinds and references, as in the tables.
        rho = next(
            (
                row.srocc
                for row in study.correlations
                if (row.database, row.distortion) == (database.name, "")
                and (row.backbone, row.layer, row.readout)
                == (series.backbone, series.layer, series.readout)
            ),
            np.nan,
        )
        error = curve = np.full(len(points.distance), np.nan)
    else:
        rho = float(statistics.srocc(points.distance, points.opinion))
        curve = fitted(points.distance)
        error = points.opinion - curve
    label, what = study.label(database.name), "opinion" if database.opinion else "severity"
    columns = ["pairs", "mean distance", f"mean {what}"]
    if fitted is not None:
        columns += ["RMSE of the curve", "mean above the curve"]
    rows = []
    for kind in dict.fromkeys(points.distortion):
        chosen = np.array([one == kind for one in points.distortion])
        cells = (
            documents.text(kind or "all pairs"),
            documents.count(int(chosen.sum())),
            documents.value(float(points.distance[chosen].mean())),
            documents.value(float(points.opinion[chosen].mean())),
            documents.value(float(np.sqrt(np.square(error[chosen]).mean()))),
            documents.difference(float(error[chosen].mean())),
        )
        rows.append(cells[: 1 + len(columns)])
    number = wording.number(rho)
    if fitted is None:
        about = (
            "Severities can't be compared between kinds, so no curve goes through all of them. "
            f"SROCC within kinds and reference images, with its sign: {number}."
        )
        said = f"SROCC within kinds and reference images is {number}."
    else:
        worst = max(rows, key=lambda row: row[4].key or 0.0)
        rmse = float(np.sqrt(np.square(error).mean()))
        about = (
            "The curve is a monotone logistic fitted to all pairs. If the points of a kind lie to "
            "one side of the curve, its scores differ from what the distance predicts. SROCC, with "
            f"its sign: {number}."
        )
        said = (
            f"SROCC is {number}. The root mean squared error of the curve is {rmse:.3g}, and is "
            f"largest for {worst[0].text} ({worst[4].text})."
        )
    return Picture(
        f"pairs-{study.file_name(database.name)}",
        f"{label}: {series.name}",
        f"Each point is a pair; the marker shows its kind of distortion. {about}",
        f"Scatter plot for {label}, {wording.counted(len(points.distance), 'pair')}: {what} "
        f"against {series.name}. Distances range from {points.distance.min():.3g} to "
        f"{points.distance.max():.3g}, {what} from {points.opinion.min():.3g} to "
        f"{points.opinion.max():.3g}. {said}",
        figure,
        documents.table(
            f"{series.name} by kind of distortion, {label}",
            ("distortion", *columns),
            rows,
            columns,
        ),
        documents.table(
            f"All pairs of {label}",
            ("reference", "distorted", "distortion", series.name, what, "curve"),
            [
                (
                    documents.text(pair[0]),
                    documents.text(pair[1]),
                    documents.text(kind),
                    documents.value(float(distance)),
                    documents.value(float(opinion)),
                    documents.value(float(predicted)),
                )
                for pair, kind, distance, opinion, predicted in zip(
                    points.pair,
                    points.distortion,
                    points.distance,
                    points.opinion,
                    curve,
                    strict=True,
                )
            ],
            (series.name, what, "curve"),
            "distances.parquet",
        ),
    )
