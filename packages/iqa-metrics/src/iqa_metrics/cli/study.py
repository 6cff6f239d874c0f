"""``iqa study``: compare backbones, layers and readouts with human ratings."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from rich.markup import escape
from rich.progress import TimeRemainingColumn

from iqa_metrics.cli.console import (
    EXIT_FAILED,
    EXIT_STOPPED,
    counter,
    err,
    out,
    refusals,
    table,
)

if TYPE_CHECKING:
    from iqa_metrics.study import Analysis, Finished, Plan

study_app = typer.Typer(
    help="Compare backbones, layers and readouts with human ratings.", no_args_is_help=True
)

_SHOWN = 5
_EVERY = 60.0
"""Seconds between lines of progress where no progress bar can be drawn."""

FolderArgument = Annotated[Path, typer.Argument(help="The folder of 'iqa study run --out'.")]
MetricOption = Annotated[
    Optional[str],
    typer.Option(help="The scatter plot's metric: BACKBONE:LAYER:READOUT or a baseline."),
]
PublishedOption = Annotated[
    Optional[Path],
    typer.Option(
        help="A CSV table of published figures to show beside the study's own. Its rows replace "
        "those that iqa-metrics ships with."
    ),
]
NoPublishedOption = Annotated[
    bool,
    typer.Option("--no-published", help="Leave out the published figures of iqa-metrics itself."),
]
ThumbnailsOption = Annotated[
    bool,
    typer.Option(
        "--thumbnails/--no-thumbnails",
        help="Put small copies of the images into the page, unless their licence forbids it.",
    ),
]


@study_app.command("run")
def run(
    folder: Annotated[Path, typer.Option("--out", help="Folder for the tables and the report.")],
    plan: Annotated[
        Optional[Path],
        typer.Argument(
            help="A plan in TOML, instead of the options that make one. Backbones, readouts, "
            "concatenations and baselines are added to it."
        ),
    ] = None,
    pairs: Annotated[
        Optional[Path],
        typer.Option(help="A CSV table with columns reference, distorted and opinion."),
    ] = None,
    opinion: Annotated[
        Optional[str],
        typer.Option(help="Name of the column of opinions.", show_default="opinion"),
    ] = None,
    higher_is: Annotated[
        Optional[str], typer.Option(help="What a higher opinion means: better or worse.")
    ] = None,
    database: Annotated[
        Optional[str],
        typer.Option(help="A database from 'iqa datasets list', or ladder, instead of --pairs."),
    ] = None,
    database_folder: Annotated[
        Optional[Path], typer.Option("--folder", help="The folder of the database.")
    ] = None,
    backbone: Annotated[
        Optional[list[str]],
        typer.Option(help="Backbones, separated by commas; may be given several times."),
    ] = None,
    where: Annotated[
        Optional[list[str]],
        typer.Option(
            help="Backbones by FACTOR=VALUE, such as goal=jigsaw; if given several times, all "
            "must hold."
        ),
    ] = None,
    record: Annotated[
        Optional[list[Path]], typer.Option(help="A backbone of your own, described in TOML.")
    ] = None,
    layers: Annotated[
        Optional[str],
        typer.Option(
            help="named, all (every module), or names separated by commas.", show_default="named"
        ),
    ] = None,
    readout: Annotated[
        Optional[list[str]],
        typer.Option(
            help="Readouts, separated by commas; the first is the plain one that the others are "
            "compared with.",
            show_default="euclidean",
        ),
    ] = None,
    concatenation: Annotated[
        Optional[list[str]],
        typer.Option(help="cumulative:joint, cumulative:sum, pairs:joint or pairs:sum."),
    ] = None,
    baseline: Annotated[
        Optional[list[str]],
        typer.Option(
            help="Baseline metrics, separated by commas.", show_default="psnr,ssim,ms_ssim"
        ),
    ] = None,
    untrained: Annotated[
        bool, typer.Option("--untrained", help="Add an untrained control for each architecture.")
    ] = False,
    missing: Annotated[
        Optional[str],
        typer.Option(
            help="What to do with backbones whose weights are not on this machine: refuse or skip.",
            show_default="refuse",
        ),
    ] = None,
    title: Annotated[Optional[str], typer.Option(help="Title of the report.")] = None,
    draws: Annotated[
        Optional[int],
        typer.Option(help="Number of bootstrap replicates.", show_default="1000"),
    ] = None,
    seed: Annotated[
        Optional[int], typer.Option(help="Seed of the bootstrap replicates.", show_default="0")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    workers: Annotated[
        Optional[int],
        typer.Option(
            min=1, help="Number of threads that decode images.", show_default="one per CPU core"
        ),
    ] = None,
    metric: MetricOption = None,
    published: PublishedOption = None,
    no_published: NoPublishedOption = False,
    thumbnails: ThumbnailsOption = True,
    report: Annotated[bool, typer.Option(help="Write the report as well.")] = True,
) -> None:
    """Measure backbones, layers and readouts, compare them with human ratings, and report.

    A run that was stopped at any moment is resumed by giving the same command again. Exit status: 0
    if everything was measured, 1 if some pairs failed, 2 if the plan can't be carried out, 130 if
    stopped by Ctrl-C.
    """
    given = {
        "databases": _database(pairs, opinion, higher_is, database, database_folder),
        "backbones": _backbones(_listed(backbone), where, record),
        "layers": _layers(layers),
        "readouts": _listed(readout),
        "concatenations": _listed(concatenation),
        "baselines": _listed(baseline),
        "untrained": untrained or None,
        "title": title,
        "statistics": {k: v for k, v in (("draws", draws), ("seed", seed)) if v is not None},
    }
    said = {key: value for key, value in given.items() if value not in (None, [], {})}
    with refusals():
        chosen = _plan(plan, said, folder / "ladder", missing)
        if chosen.skipped:
            err.print(
                "[yellow]note[/yellow] left out, because their weights are not on this machine: "
                f"{escape(', '.join(chosen.skipped))}",
                soft_wrap=True,
            )
        if report:
            _check_report(chosen, metric, published)
        try:
            finished = _run(chosen, folder, device, workers)
        except KeyboardInterrupt:
            err.print(
                f"[red]stopped[/red] {escape(str(folder))} keeps what was measured; to resume, "
                "give the same command again",
                soft_wrap=True,
            )
            raise typer.Exit(EXIT_STOPPED) from None
        _show(finished.analysis, folder)
        if report:
            _report(folder, metric, published, not no_published, thumbnails)
    err.print(
        f"{finished.rows - finished.failed} of {finished.rows} distances written to "
        f"{escape(str(folder))}/distances.parquet",
        soft_wrap=True,
    )
    if finished.failed:
        for reason in finished.reasons[:_SHOWN]:
            err.print(f"[red]failed[/red] {escape(reason)}", soft_wrap=True)
        if len(finished.reasons) > _SHOWN:
            err.print(
                f"and {len(finished.reasons) - _SHOWN} more reasons, in the column 'error' of "
                "distances.parquet"
            )
        raise typer.Exit(EXIT_FAILED)


@study_app.command("analyse")
def analyse(
    folder: FolderArgument,
    higher_is: Annotated[
        Optional[str],
        typer.Option(
            help="What a higher opinion means, better or worse; needed if there is no study.json."
        ),
    ] = None,
) -> None:
    """Compute the statistics again from distances.parquet and study.json."""
    from iqa_metrics.study import analyse as analysed

    with refusals(), counter() as progress:
        task = progress.add_task("statistics", total=None)
        found = analysed(
            folder,
            lambda done, total: progress.update(task, completed=done, total=total),
            higher_is=higher_is,
        )
    _show(found, folder)


@study_app.command("report")
def report(
    folder: FolderArgument,
    metric: MetricOption = None,
    published: PublishedOption = None,
    no_published: NoPublishedOption = False,
    thumbnails: ThumbnailsOption = True,
) -> None:
    """Write the report again: one HTML page, and its figures as SVG, PDF and PNG."""
    with refusals():
        _report(folder, metric, published, not no_published, thumbnails)


def _plan(file: Path | None, said: dict[str, Any], ladder: Path, missing: str | None) -> "Plan":
    from iqa_metrics.study import plan_of, read_plan
    from iqa_metrics.study.plan_files import ADDED

    if file is None:
        return plan_of(said, Path(), ladder, where="the command line", missing=missing)
    other = [name for name in said if name not in ADDED]
    if other:
        raise ValueError(
            f"expected a plan or options that make one, got both: {file} and {', '.join(other)}; "
            f"only {', '.join(ADDED)} can be added to a plan, so change the plan instead"
        )
    for one in said.get("backbones", ()):
        if "record" in one:  # paths in a plan are relative to its file
            one["record"] = str(Path(one["record"]).absolute())
    return read_plan(file, ladder, missing=missing, more=said)


def _database(
    pairs: Path | None,
    opinion: str | None,
    higher_is: str | None,
    database: str | None,
    folder: Path | None,
) -> list[dict[str, str]]:
    given = {
        "pairs": pairs,
        "opinion": opinion,
        "higher_is": higher_is,
        "name": database,
        "folder": folder,
    }
    said = {key: str(value) for key, value in given.items() if value is not None}
    return [said] if said else []


def _backbones(
    names: list[str], where: list[str] | None, records: list[Path] | None
) -> list[dict[str, Any]]:
    from iqa_metrics.cli.lists import factors

    found: list[dict[str, Any]] = [{"name": name} for name in names]
    found += [{"record": str(file)} for file in records or ()]
    with refusals():
        asked = factors(where)
    return [*found, {"where": asked}] if asked else found


def _listed(texts: list[str] | None) -> list[str]:
    """Return names that were given in several options, or separated by commas."""
    return [name for text in texts or () for name in text.split(",") if name]


def _layers(text: str | None) -> str | list[str] | None:
    return text.split(",") if text and text not in ("named", "all") else text


def _run(plan: "Plan", folder: Path, device: str, workers: int | None) -> "Finished":
    from iqa_metrics.study import run_study

    # Pairs come in windows, which may take minutes, so the speed is averaged over many of them.
    bar = counter(TimeRemainingColumn(), speed_estimate_period=600)
    began = time.monotonic()
    with bar as progress:
        task = progress.add_task("pairs", total=None)
        statistics = None

        said = began

        def measured(what: str, done: int, total: int) -> None:
            nonlocal said
            progress.update(task, description=escape(what), completed=done, total=total)
            now = time.monotonic()
            # Without a terminal, such as in a log file, print a line now and then instead of a bar.
            if not err.is_terminal and now - said >= _EVERY:
                said = now
                left = (now - began) * (total - done) / done / 60
                # After measuring, channel weights are learned, which takes an unknown time.
                far = f": {done} of {total} pairs, about {left:.0f} min left" if left else ""
                err.print(f"{escape(what)}{far}", highlight=False, soft_wrap=True)

        def analysed(done: int, total: int) -> None:
            nonlocal statistics
            if statistics is None:
                statistics = progress.add_task("statistics", total=total)
            progress.update(statistics, completed=done, total=total)

        finished = run_study(
            plan, folder, device=device, workers=workers, progress=measured, analysing=analysed
        )
    err.print(f"done in {time.monotonic() - began:.0f} s", highlight=False)
    return finished


def _show(found: "Analysis", folder: Path) -> None:
    """Print the models, best first, the best of all, and the verdicts on the claims."""
    from iqa_metrics.study.description import DESCRIPTION, Description
    from iqa_metrics.study.rows import POOLED

    described = Description.read(folder / DESCRIPTION).databases
    severities = {one.name for one in described if not one.opinion}
    databases = list(dict.fromkeys(row.database for row in found.models))
    if POOLED in databases:
        databases = [POOLED]
    for database in databases:
        rows = [row for row in found.models if row.database == database]
        plain = next((row.readout for row in rows if row.readout), "")
        rows = [row for row in rows if row.readout in ("", plain)]
        held_out = any(row.held_out == row.held_out for row in rows if row.layers)
        listing = table("model", "best layer", "SROCC", "interval", "last layer", "SROCC")
        for row in sorted(rows, key=lambda row: -(row.held_out if held_out else row.best)):
            listing.add_row(
                escape(row.backbone),
                escape(row.best_layer),
                f"{row.held_out if held_out else row.best:.3f}",
                _between(row.held_out_low, row.held_out_high),
                escape(row.last_layer),
                f"{row.last:.3f}",
            )
        out.print(f"[bold]{escape(database)}[/bold]{f', {plain}' if plain else ''}")
        out.print(listing)
        winners = [row for row in found.winners if row.database == database]
        why = next((row.why for row in winners if row.why), "")
        judge = "severity, within kinds of distortion" if database in severities else "people"
        out.print(
            f"No intervals and no held-out values: {escape(why)}. Best layers were chosen and "
            "judged on the same images, which flatters them."
            if why
            else f"SROCC is positive for agreement with {judge}."
            + (
                " That of the best layer is held out: each reference is judged by the layer that "
                "is best on the others."
                if plain
                else ""
            ),
            soft_wrap=True,
        )
        for one in winners:
            value = one.best if why else one.held_out
            name = ":".join(part for part in (one.backbone, one.layer, one.readout) if part)
            out.print(
                f"Best of {one.candidates} {_AMONG[one.among]}: {escape(name)}, {value:.3f}"
                + ("" if why else f" ({_between(one.low, one.high)}), held out"),
                soft_wrap=True,
            )
        for name in found.left_out.get(database, ()):
            err.print(
                f"[yellow]note[/yellow] {escape(name)} has too few values to be compared",
                soft_wrap=True,
            )
        verdicts = [row.verdict for row in found.claims if row.database == database]
        counted = ", ".join(f"{verdicts.count(v)} {v}" for v in dict.fromkeys(verdicts))
        out.print(
            f"Claims of the paper: {counted}. claims.csv has the tests, and how to get what is "
            "missing.",
            soft_wrap=True,
        )


_AMONG = {
    "backbones": "layers and readouts, untuned",
    "tuned": "that were tuned on human ratings or learned from the scores",
    "baselines": "baselines, untuned",
}


def _between(low: float, high: float) -> str:
    return f"{low:.3f} to {high:.3f}" if low == low and high == high else ""


def _check_report(plan: "Plan", metric: str | None, published: Path | None) -> None:
    """Raise ValueError before hours of work, not after, if the report can't be written."""
    import importlib.util

    wanted = ("matplotlib", "jinja2", "scipy", "vl_convert")
    missing = [name for name in wanted if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"the report needs {', '.join(missing)}; run pip install 'iqa-metrics[study]', or give "
            "--no-report"
        )
    if published is not None:
        from iqa_metrics.report.published_values import check_published

        check_published(published)
    names = {
        f"{one.record.name}:{layer}:{readout}"
        for one in plan.networks
        for layer in one.layers
        for readout in plan.readouts
    } | set(plan.baselines)
    # The names of concatenations are not known before they are computed.
    if metric is not None and metric not in names and "+" not in metric:
        from iqa_metrics.names import nearest

        raise ValueError(
            f"--metric {metric}: expected a metric that the plan measures; {nearest(metric, names)}"
        )


def _report(
    folder: Path,
    metric: str | None,
    published: Path | None,
    known_values: bool,
    thumbnails: bool,
) -> None:
    from iqa_metrics.report import write_report

    page = write_report(
        folder,
        metric=metric,
        published=published,
        known_values=known_values,
        thumbnails=thumbnails,
    )
    print(page)
