"""``iqa study``: measure networks against people's opinion, and report what was found."""

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
    help="Networks, layers and readouts against people's opinion.", no_args_is_help=True
)

_SHOWN = 5
_EVERY = 60.0
"""Seconds between lines of progress, where no bar can be drawn."""

FolderArgument = Annotated[Path, typer.Argument(help="What 'iqa study run --out' wrote.")]
MetricOption = Annotated[
    Optional[str],
    typer.Option(help="What the scatter plot shows: BACKBONE:LAYER:READOUT or a baseline."),
]
PublishedOption = Annotated[
    Optional[Path], typer.Option(help="CSV with published figures, to stand beside ours.")
]


@study_app.command("run")
def run(
    folder: Annotated[Path, typer.Option("--out", help="Where tables and report go.")],
    plan: Annotated[
        Optional[Path], typer.Argument(help="A plan in TOML, in the place of the options below.")
    ] = None,
    pairs: Annotated[
        Optional[Path], typer.Option(help="CSV with columns reference, distorted and opinion.")
    ] = None,
    opinion: Annotated[Optional[str], typer.Option(help="Name of the opinion's column.")] = None,
    higher_is: Annotated[
        Optional[str], typer.Option(help="What a higher opinion means: better or worse.")
    ] = None,
    database: Annotated[
        Optional[str], typer.Option(help="Or a database; see 'iqa datasets list'; or ladder.")
    ] = None,
    database_folder: Annotated[
        Optional[Path], typer.Option("--folder", help="The database's folder.")
    ] = None,
    backbone: Annotated[
        Optional[list[str]],
        typer.Option(help="Networks, with commas; may be given several times."),
    ] = None,
    where: Annotated[
        Optional[list[str]],
        typer.Option(help="Networks by FACTOR=VALUE, such as goal=jigsaw; several must all hold."),
    ] = None,
    record: Annotated[
        Optional[list[Path]], typer.Option(help="A network of your own, described in TOML.")
    ] = None,
    layers: Annotated[
        Optional[str], typer.Option(help="named, all (every module), or names with commas.")
    ] = None,
    readout: Annotated[
        Optional[list[str]], typer.Option(help="Such as euclidean; the first is the plain one.")
    ] = None,
    concatenation: Annotated[
        Optional[list[str]],
        typer.Option(help="cumulative:joint, cumulative:sum, pairs:joint or pairs:sum."),
    ] = None,
    baseline: Annotated[
        Optional[list[str]],
        typer.Option(help="A metric to compare with; psnr, ssim and ms_ssim if none is named."),
    ] = None,
    untrained: Annotated[
        bool, typer.Option("--untrained", help="The control of each architecture, too.")
    ] = False,
    missing: Annotated[
        Optional[str],
        typer.Option(help="Networks whose weights are not here: refuse (the default) or skip."),
    ] = None,
    title: Annotated[Optional[str], typer.Option(help="What the report is called.")] = None,
    draws: Annotated[Optional[int], typer.Option(help="Draws of references: 1000.")] = None,
    seed: Annotated[Optional[int], typer.Option(help="Of the draws: 0.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    workers: Annotated[
        Optional[int], typer.Option(min=1, help="Threads that decode; one a core.")
    ] = None,
    metric: MetricOption = None,
    published: PublishedOption = None,
    report: Annotated[bool, typer.Option(help="Write the report, too.")] = True,
) -> None:
    """Measure networks x layers x readouts against opinion, and report what was found.

    A run that was stopped, at any moment, goes on where it was: give the same command again. Exit
    status: 0 if all was measured, 1 if some pairs failed, 2 if the plan can't be carried out.
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
        if report:
            _check_report(chosen, metric, published)
        try:
            finished = _run(chosen, folder, device, workers)
        except KeyboardInterrupt:
            err.print(
                f"[red]stopped[/red] {escape(str(folder))} keeps what was measured: give the same "
                "command again",
                soft_wrap=True,
            )
            raise typer.Exit(EXIT_STOPPED) from None
        _show(finished.analysis)
        if report:
            _report(folder, metric, published)
    err.print(
        f"{finished.rows - finished.failed} of {finished.rows} distances in "
        f"{escape(str(folder))}/distances.parquet",
        soft_wrap=True,
    )
    if finished.failed:
        for reason in finished.reasons[:_SHOWN]:
            err.print(f"[red]failed[/red] {escape(reason)}", soft_wrap=True)
        if len(finished.reasons) > _SHOWN:
            err.print(f"and {len(finished.reasons) - _SHOWN} more; column 'error' has all")
        raise typer.Exit(EXIT_FAILED)


@study_app.command("analyse")
def analyse(
    folder: FolderArgument,
    higher_is: Annotated[
        Optional[str],
        typer.Option(help="Without study.json: what a higher opinion means, better or worse."),
    ] = None,
) -> None:
    """Compute the statistics anew, from distances.parquet and study.json."""
    from iqa_metrics.study import analyse as analysed

    with refusals(), counter() as progress:
        task = progress.add_task("statistics", total=None)
        found = analysed(
            folder,
            lambda done, total: progress.update(task, completed=done, total=total),
            higher_is=higher_is,
        )
    _show(found)


@study_app.command("report")
def report(
    folder: FolderArgument, metric: MetricOption = None, published: PublishedOption = None
) -> None:
    """Write the report anew: one HTML page, and its figures as SVG and PNG."""
    with refusals():
        _report(folder, metric, published)


def _plan(file: Path | None, said: dict[str, Any], ladder: Path, missing: str | None) -> "Plan":
    from iqa_metrics.study import plan_of, read_plan

    if file is None:
        return plan_of(said, Path(), ladder, where="the command line", missing=missing)
    if said:
        raise ValueError(f"{', '.join(said)}: the plan says that; change {file} instead")
    return read_plan(file, ladder, missing=missing)


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
    """Return names that were given one by one, or with commas."""
    return [name for text in texts or () for name in text.split(",") if name]


def _layers(text: str | None) -> str | list[str] | None:
    return text.split(",") if text and text not in ("named", "all") else text


def _run(plan: "Plan", folder: Path, device: str, workers: int | None) -> "Finished":
    from iqa_metrics.study import run_study

    # Windows of pairs take their time: so the speed is that of many of them.
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
            # A bar is nothing to a log file: there a line now and then stands for it.
            if not err.is_terminal and now - said >= _EVERY:
                said = now
                left = (now - began) * (total - done) / done / 60
                # Once all is measured, how long weights take to learn is not known.
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


def _show(found: "Analysis") -> None:
    """Print the models, best first, and what the claims came to."""
    databases = list(dict.fromkeys(row.database for row in found.models))
    for database in databases[-1:]:
        rows = [row for row in found.models if row.database == database]
        plain = next((row.readout for row in rows if row.readout), "")
        rows = [row for row in rows if row.readout in ("", plain)]
        listing = table("model", "best layer", "SROCC", "95 % interval", "last layer", "SROCC")
        for row in sorted(rows, key=lambda row: -row.corrected):
            listing.add_row(
                *(escape(row.backbone), escape(row.best_layer), f"{row.corrected:.3f}"),
                f"{row.corrected_low:.3f} to {row.corrected_high:.3f}",
                *(escape(row.last_layer), f"{row.last:.3f}"),
            )
        out.print(f"[bold]{escape(database)}[/bold], {plain}")
        out.print(listing)
        out.print(
            "SROCC with opinion, positive for agreement; the best layer's without the optimism of "
            "choosing it.",
            soft_wrap=True,
        )
        for name in found.left_out.get(database, ()):
            err.print(
                f"[yellow]note[/yellow] {escape(name)} failed too often to be compared",
                soft_wrap=True,
            )
        verdicts = [row.verdict for row in found.claims if row.database == database]
        counted = ", ".join(f"{verdicts.count(v)} {v}" for v in dict.fromkeys(verdicts))
        out.print(f"Claims of the paper: {counted}. claims.csv has the tests.")


def _check_report(plan: "Plan", metric: str | None, published: Path | None) -> None:
    """Refuse before hours of work, and not after."""
    import importlib.util

    missing = [
        name for name in ("matplotlib", "jinja2", "scipy") if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise ValueError(
            f"the report needs {', '.join(missing)}: pip install 'iqa-metrics[study]', or "
            "--no-report"
        )
    if published is not None:
        from iqa_metrics.report.published import check_published

        check_published(published)
    names = {
        f"{one.record.name}:{layer}:{readout}"
        for one in plan.networks
        for layer in one.layers
        for readout in plan.readouts
    } | set(plan.baselines)
    # Of concatenations the plan does not know the names yet.
    if metric is not None and metric not in names and "+" not in metric:
        from iqa_metrics.names import nearest

        raise ValueError(f"--metric {metric}: the plan measures no such; {nearest(metric, names)}")


def _report(folder: Path, metric: str | None, published: Path | None) -> None:
    from iqa_metrics.report import write_report

    print(write_report(folder, metric=metric, published=published))
