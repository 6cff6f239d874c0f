"""All pairs of one series: opinion against distance, with a fitted curve."""

import numpy as np
from matplotlib.figure import Figure

from iqa_metrics import statistics
from iqa_metrics.report import documents, figures, wording
from iqa_metrics.report.distances import Points
from iqa_metrics.report.documents import Picture
from iqa_metrics.report.tables import Study
from iqa_metrics.statistics import Logistic
from iqa_metrics.study.description import DescribedDatabase
from iqa_metrics.study.distances import Series

_WIDE, _TALL = figures.WIDTH - 0.7, 3.8
_FEWEST, _AS_SHAPES = 4, 1500


def draw(
    study: Study, database: DescribedDatabase, series: Series, points: Points
) -> Picture | None:
    """Draw opinion against distance; None if fewer than four pairs have a value."""
    if len(points.distance) < _FEWEST:
        return None
    kinds = list(dict.fromkeys(points.distortion))
    which = np.array([kinds.index(kind) for kind in points.distortion])
    below = 0.2 * -(-(len(kinds) + 1) // 2) if len(kinds) > 1 else 0.0
    figure = figures.sheet(_TALL + 0.9 + below)
    axes = figures.placed(figure, 0.6, 0.15, _WIDE, _TALL)
    many = len(points.distance) > _AS_SHAPES
    for index, kind in enumerate(kinds):
        look = figures.look(index)
        axes.plot(
            points.distance[which == index],
            points.opinion[which == index],
            linestyle="none",
            marker=look.marker,
            color=look.colour,
            markersize=3.2 if many else 4.5,
            alpha=0.55 if many else 0.75,
            markeredgewidth=0,
            # Thousands of vector shapes make a page heavy; the axes and the curve stay vectors.
            rasterized=many,
            label=kind or "all pairs",
        )
    fitted = statistics.fit_logistic(points.distance, points.opinion)
    line = np.linspace(points.distance.min(), points.distance.max(), 200)
    axes.plot(line, fitted(line), color="white", linewidth=4)
    axes.plot(line, fitted(line), color=figures.INK, linewidth=2, label="monotone logistic")
    baseline = next((one for one in study.baselines if one.name == series.backbone), None)
    axes.set_xlabel(f"{series.name} ({'value' if baseline else 'distance'})")
    what = "opinion" if database.opinion else "severity"
    axes.set_ylabel(f"{what} (higher is {database.higher_is})")
    if len(kinds) > 1:
        axes.legend(
            loc="upper left",
            bbox_to_anchor=(-0.08, -0.5 / _TALL),
            ncols=2,
            borderaxespad=0,
            handletextpad=0.5,
            columnspacing=1.0,
            markerscale=1.3,
        )
    return _picture(study, database, series, points, fitted, figure)


def _picture(
    study: Study,
    database: DescribedDatabase,
    series: Series,
    points: Points,
    fitted: Logistic,
    figure: Figure,
) -> Picture:
    rho = float(statistics.srocc(points.distance, points.opinion))
    error = points.opinion - fitted(points.distance)
    label, what = study.label(database.name), "opinion" if database.opinion else "severity"
    rows = []
    for kind in dict.fromkeys(points.distortion):
        chosen = np.array([one == kind for one in points.distortion])
        rows.append(
            (
                documents.text(kind or "all pairs"),
                documents.count(int(chosen.sum())),
                documents.value(float(points.distance[chosen].mean())),
                documents.value(float(points.opinion[chosen].mean())),
                documents.value(float(np.sqrt(np.square(error[chosen]).mean()))),
                documents.difference(float(error[chosen].mean())),
            )
        )
    worst = max(rows, key=lambda row: row[4].key or 0.0)
    rmse = float(np.sqrt(np.square(error).mean()))
    return Picture(
        f"pairs-{study.file_name(database.name)}",
        f"{label}: {series.name}",
        f"Each point is a pair; the marker shows its kind of distortion. The line is a monotone "
        f"logistic fitted to all pairs. If the points of a kind lie to one side of the line, its "
        f"scores differ from what the distance predicts. SROCC, with its sign: "
        f"{wording.number(rho)}.",
        f"Scatter plot for {label}, {wording.counted(len(points.distance), 'pair')}: {what} "
        f"against {series.name}. Distances range from {points.distance.min():.3g} to "
        f"{points.distance.max():.3g}, {what} from {points.opinion.min():.3g} to "
        f"{points.opinion.max():.3g}. SROCC is {wording.number(rho)}. The root mean squared error "
        f"of the curve is {rmse:.3g}, and is largest for {worst[0].text} ({worst[4].text}).",
        figure,
        documents.table(
            f"{wording.capital(series.name)} by kind of distortion, {label}",
            (
                "distortion",
                "pairs",
                "mean distance",
                f"mean {what}",
                "RMSE of the curve",
                "mean above the curve",
            ),
            rows,
            (
                "pairs",
                "mean distance",
                f"mean {what}",
                "RMSE of the curve",
                "mean above the curve",
            ),
        ),
    )
