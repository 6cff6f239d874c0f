"""Write the report of a study from the tables in its folder."""

from pathlib import Path

from iqa_metrics.report.tables import ReportError, read_study


def write_report(
    folder: str | Path,
    *,
    metric: str | None = None,
    published: str | Path | None = None,
    known_values: bool = True,
    thumbnails: bool = True,
) -> Path:
    """Write a study's report: one page, and its figures as SVG, PNG and PDF.

    The same tables give the same bytes. Existing files of the same names are replaced.

    Parameters
    ----------
    folder
        The folder of the study's tables: study.json, correlations.csv, models.csv, comparisons.csv,
        claims.csv and distances.parquet. ``report.html`` and ``figures/`` are written beside them.
    metric
        The series whose pairs are shown one by one: ``"BACKBONE:LAYER:READOUT"`` or a baseline's
        name. By default the best layer of the backbone that agrees best on each database.
    published
        A CSV table of published values to show beside the study's own, with the columns model,
        layer, readout, database, abs_plcc, abs_srocc and source. Its rows replace those that come
        with this package if they are about the same thing.
    known_values
        Show the published values that come with this package wherever the study measured the same.
    thumbnails
        Whether the page gets small copies of the images, which a database's licence may forbid.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    ReportError
        If a table is missing or invalid, if jinja2, matplotlib, pyarrow or vl-convert-python is not
        installed, or if a file can't be written.
    """
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
        import pyarrow  # noqa: F401
        import vl_convert  # noqa: F401
    except ImportError as error:
        raise ReportError(
            f"a report needs {(error.name or '').replace('_', '-')}, which is not installed; "
            "run pip install 'iqa-metrics[study]'"
        ) from error
    from iqa_metrics.io.atomic import written_at_once
    from iqa_metrics.report import contents, exploring, figures, page

    folder = Path(folder)
    study = read_study(folder)
    with figures.style():
        sections = contents.drawn(
            study,
            metric,
            None if published is None else Path(published),
            known_values=known_values,
        )
        files = {
            picture.name: figures.rendered(picture.drawing)
            for section in sections
            for picture in section.pictures
        }
    target = folder / "report.html"
    text = page.rendered(study, sections, files, exploring.exploring(study, metric, thumbnails))
    try:
        (folder / "figures").mkdir(exist_ok=True)
        for name, one in files.items():
            for ending, content in (("svg", one.svg), ("png", one.png), ("pdf", one.pdf)):
                with written_at_once(folder / "figures" / f"{name}.{ending}") as file:
                    file.write(content)
        with written_at_once(target) as file:
            file.write(text.encode())
    except OSError as error:
        raise ReportError(f"{error.filename or target}: can't be written: {error.strerror}") from (
            error
        )
    return target
