"""The figures of a report, their order, and what replaces a figure that can't be drawn."""

from collections.abc import Sequence
from pathlib import Path

from iqa_metrics.report import (
    depth,
    differences,
    distances,
    distortions,
    opinions,
    published,
    published_values,
    ranking,
    task,
    wording,
)
from iqa_metrics.report.documents import Picture, Section
from iqa_metrics.report.tables import Study


def drawn(
    study: Study, metric: str | None, published_path: Path | None, *, known_values: bool = True
) -> list[Section]:
    """Draw all figures of a study.

    Parameters
    ----------
    study
        The tables.
    metric, published_path, known_values
        As for :func:`iqa_metrics.report.write_report`.

    Raises
    ------
    ReportError
        If there is no such metric, or if a table that only the figures need is invalid.
    """
    whole = [row for row in study.correlations if not row.distortion]
    models, compared = study.main(study.models), study.main(study.comparisons)
    measured = study.main(whole)
    each = [one.name for one in study.databases]
    sections = [
        _section(
            "depth",
            "Agreement along depth",
            [picture for name in measured for picture in depth.draw(study, name)],
            f"No layers were measured with the readout {study.plain}.",
        ),
        _section(
            "best-and-last",
            "Best layer and last layer",
            [ranking.draw(study, name) for name in models],
            f"No backbones were measured with the readout {study.plain}.",
        ),
    ]
    for id_, heading, questions in (
        ("factors", "What makes a backbone agree", differences.FACTORS),
        ("readouts", "What layers and readouts contribute", differences.READOUTS),
    ):
        found: list[Picture | None] = []
        for name in compared:
            found += differences.draw(study, name, questions, id_)
        by = wording.listed([question.replace("_", " ") for question in questions], "or")
        absent = f"There are no comparisons by {by}."
        sections.append(_section(id_, heading, found, absent))
    sections += [
        _section(
            "own-task",
            "Pretraining score and agreement",
            [task.draw(study, name) for name in models],
            "Fewer than three backbones have the same kind of score at their pretraining task.",
        ),
        _section(
            "distortions",
            "Kinds of distortion",
            [distortions.draw(study, name) for name in each],
            "No database has measurements for two or more kinds of distortion.",
        ),
        _section(
            "pairs",
            "Pair by pair",
            [_cloud(study, name, metric) for name in each],
            "There is no series with values for at least four pairs.",
        ),
    ]
    beside = published_values.read_published(published_path, study, built_in=known_values)
    if beside or published_path is not None:
        file = "" if published_path is None else published_path.name
        sections.append(
            _section(
                "published",
                "Comparison with published values",
                [published.draw(study, name, beside) for name in each],
                f"Nothing in {file} was also measured in this study.",
            )
        )
    return sections


def _section(id_: str, heading: str, pictures: Sequence[Picture | None], absent: str) -> Section:
    found = tuple(picture for picture in pictures if picture is not None)
    return Section(id_, heading, found, "" if found else absent)


def _cloud(study: Study, name: str, metric: str | None) -> Picture | None:
    series = distances.chosen(study, name, metric)
    if series is None:
        return None
    database = next(one for one in study.databases if one.name == name)
    return opinions.draw(study, database, series, distances.read_points(study, name, series))
