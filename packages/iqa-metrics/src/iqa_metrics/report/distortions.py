"""A heat map of agreement: one row per backbone or baseline, one column per kind of distortion."""

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from iqa_metrics.report import documents, figures, wording
from iqa_metrics.report.documents import Picture
from iqa_metrics.report.ranking import is_control, plain_models
from iqa_metrics.report.tables import Agreement, Study
from iqa_metrics.study.rows import Model

# Its lightness falls evenly, so that it can be read in grey as well.
_SHADES = LinearSegmentedColormap.from_list("shades", ("#ffffff", "#9ecae1", "#2171b5", "#08306b"))
_CELL, _ROW, _MOST = 0.3, 0.155, 50


def draw(study: Study, database: str) -> Picture | None:
    """Draw the heat map; None if the database has fewer than two kinds of distortion."""
    values: dict[tuple[str, str, str], Agreement] = {}
    kinds: dict[str, None] = {}
    for row in study.correlations:
        if row.database == database and row.distortion:
            kinds[row.distortion] = None
            if row.readout in ("", study.plain):
                values[row.backbone, row.layer, row.distortion] = study.agreement(row)
    models = [
        row
        for row in plain_models(study, database)
        if any((row.backbone, _layer(study, row), kind) in values for kind in kinds)
    ]
    if len(kinds) < 2 or not models:
        return None
    # A page has room for so many rows; what the controls show is in other figures.
    left_out = [row for row in models if is_control(study, row.backbone)]
    left_out = left_out if len(models) > _MOST else []
    models = [row for row in models if not any(row is one for one in left_out)]
    nothing = Agreement(np.nan, np.nan, np.nan)
    grid = [
        [values.get((row.backbone, _layer(study, row), kind), nothing) for kind in kinds]
        for row in models
    ]
    numbers = np.array([[one.value for one in line] for line in grid])
    return Picture(
        f"distortions-{study.file_name(database)}",
        study.heading(database),
        "Each row is a backbone at its best layer or a baseline, the best first, and each column "
        "is a kind of distortion. The numbers are agreement within this kind, in hundredths; "
        "darker is better. A minus means that the pairs are ranked in the wrong order. A dash "
        "means that there was nothing to correlate."
        + (" Untrained controls are left out." if left_out else ""),
        _alt(study.label(database), models, list(kinds), numbers),
        _figure(models, list(kinds), numbers),
        documents.table(
            f"Agreement by kind of distortion, {study.label(database)}",
            ("backbone", "layer", *kinds),
            [
                (
                    documents.text(row.backbone),
                    documents.text(row.best_layer),
                    *(documents.value(one.value) for one in line),
                )
                for row, line in zip(models, grid, strict=True)
            ],
            tuple(kinds),
        ),
    )


def _layer(study: Study, row: Model) -> str:
    return "" if study.is_baseline(row.backbone) else row.best_layer


def _figure(models: list[Model], kinds: list[str], numbers: np.ndarray) -> Figure:
    names = [row.backbone for row in models]
    left = figures.room(names, 10.0)
    few = left + _CELL * len(kinds) + 0.02 <= figures.SINGLE
    width = figures.SINGLE if few else figures.DOUBLE
    wide, high = width - left - 0.02, _ROW * len(models)
    longest = 0.05 + max(map(figures.width_of, kinds))
    figure = figures.sheet(high + longest + 0.1, width)
    axes = figures.placed(figure, left, longest + 0.05, wide, high)
    # Negative agreement is as pale as none: its number has a minus.
    axes.imshow(numbers, cmap=_SHADES, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    for down, line in enumerate(numbers):
        for across, value in enumerate(line):
            number = wording.number(100 * value, 0)
            axes.text(across, down, number, ha="center", va="center_baseline", color=_ink(value))
    axes.set_yticks(range(len(models)), names)
    axes.set_xticks(range(len(kinds)), kinds, rotation=90)
    axes.tick_params(length=0, pad=2, top=False, labeltop=True, bottom=False, labelbottom=False)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


def _ink(value: float) -> str:
    """Return black or white, whichever has more contrast with a value's shade: 4.5 to 1 or more."""
    if not np.isfinite(value):
        return "black"
    shade = np.array(_SHADES(value)[:3])
    linear = np.where(shade <= 0.04045, shade / 12.92, ((shade + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ (0.2126, 0.7152, 0.0722)) + 0.05
    return "white" if 1.05 / luminance > luminance / 0.05 else "black"


def _alt(label: str, models: list[Model], kinds: list[str], numbers: np.ndarray) -> str:
    with np.errstate(all="ignore"):
        counts = np.isfinite(numbers).sum(axis=0)
        means = np.where(counts, np.nansum(numbers, axis=0) / np.maximum(counts, 1), np.nan)
    words = (
        f"Heat map for {label}, {wording.counted(len(models), 'row')} by "
        f"{wording.counted(len(kinds), 'kind')} of distortion."
    )
    if not np.isfinite(numbers).any():
        return words
    easy, hard = int(np.nanargmax(means)), int(np.nanargmin(means))
    high, low = (
        np.unravel_index(index, numbers.shape)
        for index in (np.nanargmax(numbers), np.nanargmin(numbers))
    )
    return (
        f"{words} Mean agreement is highest for {kinds[easy]} ({wording.number(means[easy], 2)}) "
        f"and lowest for {kinds[hard]} ({wording.number(means[hard], 2)}). The highest single "
        f"value is {wording.number(numbers[high], 2)}, for {models[high[0]].backbone} and "
        f"{kinds[high[1]]}; the lowest is {wording.number(numbers[low], 2)}, for "
        f"{models[low[0]].backbone} and {kinds[low[1]]}."
    )
