"""The tables of the page about how certain opinions and differences in agreement are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from iqa_metrics.report import differences, documents
from iqa_metrics.report.documents import Cell, Table
from iqa_metrics.report.tables import Study


@dataclass(frozen=True)
class Listed:
    """A table with its heading and what a reader needs to know about it."""

    heading: str
    note: str
    table: Table


def listed(study: Study) -> list[Listed]:
    """Return the tables that have rows."""
    found = [_significance(study), _by_distortion(study), _ceilings(study), _krasula(study)]
    return [one for one in found if one.table.rows]


def _significance(study: Study) -> Listed:
    columns = ("first", "database", "second", "difference", "interval")
    tests = ("p", "p, corrected", "p, MRR", "p, F-test")
    rows: list[Sequence[Cell]] = [
        (
            documents.text(row.first),
            documents.text(row.database),
            documents.text(row.second),
            documents.difference(row.difference),
            documents.interval(row.low, row.high, sign=True),
            *map(documents.p_value, (row.p, row.p_corrected, row.p_mrr, row.p_f)),
            documents.text(differences.VERDICTS[row.verdict]),
        )
        for row in study.significance
    ]
    return Listed(
        "Significance of all against all",
        "Each backbone at its best layer, held out, and each baseline. The verdict is that of the "
        "bootstrap over reference images, corrected by Holm's method. The tests of Meng, Rosenthal "
        "and Rubin (MRR) and of ITU-T P.1401 (F-test) take pairs as independent and layers as "
        "given, so their p-values are too small.",
        documents.table(
            "Differences in agreement, all against all",
            (*columns, *tests, "verdict"),
            rows,
            ("difference", "interval", *tests),
            "significance.csv",
        ),
    )


def _by_distortion(study: Study) -> Listed:
    rows: list[Sequence[Cell]] = [
        (
            documents.text(row.backbone),
            documents.text(row.database),
            documents.text(row.distortion),
            documents.text(row.layer),
            documents.text(row.baseline),
            documents.count(row.n),
            documents.difference(row.difference),
            documents.interval(row.low, row.high, sign=True),
            documents.p_value(row.p_corrected),
            documents.text(differences.VERDICTS[row.verdict]),
        )
        for row in study.by_distortion
    ]
    return Listed(
        "Differences by kind of distortion",
        "Each backbone at the layer that agrees best on the whole database, minus the baseline "
        "that does. Both were chosen on the same images, which may flatter either.",
        documents.table(
            "Backbones and the best baseline, by kind of distortion",
            (
                *("backbone", "database", "distortion", "layer", "baseline", "pairs"),
                *("difference", "interval", "p, corrected", "verdict"),
            ),
            rows,
            ("pairs", "difference", "interval", "p, corrected"),
            "by_distortion.csv",
        ),
    )


def _ceilings(study: Study) -> Listed:
    rows: list[Sequence[Cell]] = [
        (
            documents.text(row.database),
            documents.text(row.measure.upper()),
            documents.text(row.what),
            documents.value(row.value),
            documents.interval(row.low, row.high),
            documents.text(row.why),
        )
        for row in study.ceilings
    ]
    return Listed(
        "Noise ceilings",
        "How well one observer, or the mean of all of them, agrees with the mean opinion. What "
        "observers do not agree on, no metric can predict.",
        documents.table(
            "Agreement of observers with the mean opinion",
            ("database", "measure", "whose", "agreement", "interval", "why it is unknown"),
            rows,
            ("agreement", "interval"),
            "ceilings.csv",
        ),
    )


def _krasula(study: Study) -> Listed:
    names = {"different_similar": "different or similar", "better_worse": "better or worse"}

    def cells() -> Iterator[Sequence[Cell]]:
        for row in study.krasula:
            yield (
                documents.text(row.first or "–"),
                documents.text(row.database),
                documents.text(names.get(row.analysis, row.analysis)),
                documents.text(row.second),
                documents.count(row.couples),
                documents.value(row.auc),
                documents.interval(row.auc_low, row.auc_high),
                documents.value(row.c0),
                documents.p_value(row.auc_p_corrected),
                documents.p_value(row.c0_p_corrected),
                documents.text(row.why),
            )

    numbers = ("couples", "AUC", "interval", "C0", "p of AUC, corrected", "p of C0, corrected")
    return Listed(
        "Couples of stimuli",
        "Krasula's analysis: does a metric tell stimuli that people see as significantly different "
        "from others, and which of two such stimuli people prefer? A row with a second metric has "
        "the first's value minus the second's.",
        documents.table(
            "Different or similar, better or worse",
            ("first", "database", "analysis", "second", *numbers, "why it is unknown"),
            list(cells()),
            numbers,
            "krasula.csv",
        ),
    )
