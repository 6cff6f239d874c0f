"""From a study's folder to its report: read, draw, write."""

from pathlib import Path

from iqa_metrics.report.tables import ReportError, read_study


def write_report(
    folder: str | Path, *, metric: str | None = None, published: str | Path | None = None
) -> Path:
    """Write a study's report: one page, and its figures as SVG and PNG.

    The same tables give the same bytes. What was there under the same names is replaced.

    Parameters
    ----------
    folder
        The study's tables: study.json, correlations.csv, models.csv, comparisons.csv, claims.csv
        and distances.parquet. ``report.html`` and ``figures/`` are written beside them.
    metric
        Whose pairs to show one by one: ``"BACKBONE:LAYER:READOUT"`` or a baseline's name. By
        default the network that agrees best on each database, at its best layer.
    published
        A CSV table of published figures to show beside the study's own: columns model, layer,
        readout, database, abs_plcc, abs_srocc, source.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    ReportError
        If a table is missing or is not what it should be, matplotlib or pyarrow is not installed,
        or a file can't be written.
    """
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise ReportError(
            f"a report needs {error.name}, which is not installed; "
            "run pip install 'iqa-metrics[study]'"
        ) from error
    from iqa_metrics.io.atomic import written_at_once
    from iqa_metrics.report import contents, figures, page

    folder = Path(folder)
    study = read_study(folder)
    with figures.style():
        sections = contents.drawn(study, metric, None if published is None else Path(published))
        files = {
            picture.name: figures.rendered(picture.drawing)
            for section in sections
            for picture in section.pictures
        }
    target = folder / "report.html"
    text = page.rendered(study, sections, files)
    try:
        (folder / "figures").mkdir(exist_ok=True)
        for name, one in files.items():
            for ending, content in (("svg", one.svg), ("png", one.png)):
                with written_at_once(folder / "figures" / f"{name}.{ending}") as file:
                    file.write(content)
        with written_at_once(target) as file:
            file.write(text.encode())
    except OSError as error:
        raise ReportError(f"{error.filename or target}: can't be written: {error.strerror}") from (
            error
        )
    return target
