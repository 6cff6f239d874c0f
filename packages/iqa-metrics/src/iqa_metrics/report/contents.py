"""Which figures a report has, in which order, and what stands where one can't be drawn."""

from collections.abc import Sequence
from pathlib import Path

from iqa_metrics.report import (
    depth,
    differences,
    distances,
    distortions,
    opinions,
    published,
    ranking,
    task,
)
from iqa_metrics.report.documents import Picture, Section
from iqa_metrics.report.tables import Study


def drawn(study: Study, metric: str | None, published_path: Path | None) -> list[Section]:
    """Draw all figures of a study.

    Parameters
    ----------
    study
        The tables.
    metric, published_path
        As of :func:`iqa_metrics.report.write_report`.

    Raises
    ------
    ReportError
        If there is no such metric, or a table that only a figure needs is not what it should be.
    """
    whole = [row for row in study.correlations if not row.distortion]
    models, compared = study.main(study.models), study.main(study.comparisons)
    measured = study.main(whole)
    each = [one.name for one in study.databases]
    sections = [
        _section(
            "depth",
            "Agreement along the depth",
            [depth.draw(study, name) for name in measured],
            f"No layer was measured with the readout {study.plain}.",
        ),
        _section(
            "best-and-last",
            "Best layer and last layer",
            [ranking.draw(study, name) for name in models],
            f"No model was measured with the readout {study.plain}.",
        ),
    ]
    for id_, heading, questions in (
        ("factors", "What makes a network agree", differences.FACTORS),
        ("readouts", "What layers and readouts bring", differences.READOUTS),
    ):
        found: list[Picture | None] = []
        for name in compared:
            found += differences.draw(study, name, questions, id_)
        absent = f"Nothing was compared by {', '.join(questions)}."
        sections.append(_section(id_, heading, found, absent))
    sections += [
        _section(
            "own-task",
            "Own task and agreement",
            [task.draw(study, name) for name in models],
            "Fewer than three networks have a score of one kind at their own task.",
        ),
        _section(
            "distortions",
            "Kinds of distortion",
            [distortions.draw(study, name) for name in each],
            "No database has two kinds of distortion that were measured.",
        ),
        _section(
            "pairs",
            "Pair by pair",
            [_cloud(study, name, metric) for name in each],
            "No series has four pairs with a value.",
        ),
    ]
    if published_path is not None:
        beside = published.read_published(published_path, study)
        sections.append(
            _section(
                "published",
                "Published figures beside ours",
                [published.draw(study, name, beside) for name in each],
                f"Nothing in {published_path.name} was measured in this study, too.",
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
