"""``iqa weights``: list, fetch, verify, where, add."""

import contextlib
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from iqa_metrics.cli.console import (
    EXIT_FAILED,
    JsonOption,
    err,
    out,
    print_json,
    refusals,
    table,
    where,
)

if TYPE_CHECKING:
    from iqa_metrics.weights.files import WeightsFile

weights_app = typer.Typer(help="Weights of pretrained networks.", no_args_is_help=True)

_HELP = "A metric, a backbone, or the name of a weights file."
NameArgument = Annotated[str, typer.Argument(help=_HELP)]
NamesArgument = Annotated[list[str], typer.Argument(help=_HELP)]


@weights_app.command("list")
def list_weights(
    here: Annotated[bool, typer.Option("--here", help="Only what is on this machine.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the weights files, what needs them, and whether they are on this machine."""
    with refusals():
        owners = _owners()
    rows = [
        {
            "file": file.filename,
            "for": names,
            "here": str(path) if path else None,
            "megabytes": file.megabytes,
            "sha256": file.sha256 or None,
            "licence": file.licence,
            "source": file.source,
            "url": file.url,
        }
        for file, names in owners.items()
        if (path := file.find()) or not here
    ]
    if as_json:
        print_json(rows)
        return
    shown = table("file", "for", "MB", "weights", "licence", folded=("for", "file"))
    for file, names in owners.items():
        if here and file.find() is None:
            continue
        size = "" if file.megabytes is None else f"{file.megabytes:.0f}"
        shown.add_row(file.filename, ", ".join(names), size, where([file]), file.licence)
    out.print(shown)
    out.print("To fetch some: iqa weights fetch NAME...", markup=False)


@weights_app.command("fetch")
def fetch_weights(names: NamesArgument) -> None:
    """Download the weights of metrics or backbones into torch's hub cache and check their SHA-256.

    Interrupted downloads are resumed. If no SHA-256 was published, that of the downloaded file is
    recorded, and compared from then on.
    """
    from iqa_metrics.weights.fetching import fetch

    with refusals(), _first_sights():
        for name in names:
            files = _files(name)
            for file in files:
                with _bar() as bar:
                    task = bar.add_task(escape(file.filename), total=None)
                    path = fetch(file, progress=partial(_advance, bar, task))
                print(path)
            if not files:
                err.print(f"{escape(name)} needs no weights")


@weights_app.command("verify")
def verify_weights(
    names: Annotated[Optional[list[str]], typer.Argument(help=_HELP)] = None,
    as_json: JsonOption = False,
) -> None:
    """Check the SHA-256 of weights files: the named ones, or all on this machine.

    Exit status: 0 if all are right, 1 if one is damaged or a named one is missing.
    """
    from iqa_metrics.weights.files import WeightsError

    with refusals():
        files = (
            list(dict.fromkeys(file for name in names for file in _files(name)))
            if names
            else [file for file in _owners() if file.find() is not None]
        )
    rows = []
    with _first_sights():
        for file in files:
            try:
                path, error = str(file.verified()), None
            except WeightsError as caught:
                path, error = str(file.find() or ""), str(caught)
            against = "published" if file.sha256 else "recorded"
            rows.append({"file": file.filename, "path": path, "against": against, "error": error})
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            said = f"[red]{escape(row['error'])}[/red]" if row["error"] else row["against"]
            out.print(f"{escape(str(row['file']))}\t{said}", soft_wrap=True)
    if any(row["error"] for row in rows):
        raise typer.Exit(EXIT_FAILED)


@weights_app.command("where")
def where_weights(name: NameArgument) -> None:
    """Print the paths of the files that a metric or backbone needs.

    Exit status: 0 if all are on this machine, 1 if one is missing; the message says how to get it.
    """
    with refusals():
        files = _files(name)
    missing = False
    for file in files:
        path = file.find()
        if path is None:
            missing = True
            err.print(f"[red]error[/red] {escape(file.how_to_get())}", soft_wrap=True)
        else:
            print(path)
    if missing:
        raise typer.Exit(EXIT_FAILED)


@weights_app.command("add")
def add_weights(
    name: NameArgument,
    file: Annotated[Path, typer.Argument(help="The downloaded file.")],
) -> None:
    """Check a weights file that was downloaded elsewhere, and copy it to where it is found."""
    from iqa_metrics.weights.fetching import add

    with refusals(), _first_sights():
        files = _files(name)
        named = [f for f in files if f.filename == file.name] or files
        if len(named) != 1:
            raise ValueError(
                f"{name} needs {', '.join(f.filename for f in files) or 'no weights'}; "
                "name the one that this file is"
            )
        print(add(named[0], file))


def _owners() -> dict["WeightsFile", list[str]]:
    """Return the weights files, each with the names of what needs it."""
    from iqa_metrics.backbones import all_backbones
    from iqa_metrics.metrics import all_metrics

    owners: dict[WeightsFile, list[str]] = {}
    for record in all_backbones():
        if record.weights is not None:
            owners.setdefault(record.weights, []).append(record.name)
    for metric in all_metrics():
        for file in metric.needs.files:
            if metric.name != "default":
                owners.setdefault(file, []).append(metric.name)
    return owners


def _files(name: str) -> tuple["WeightsFile", ...]:
    from iqa_metrics.backbones import backbone
    from iqa_metrics.backbones.timm_models import PREFIX
    from iqa_metrics.metrics import all_metrics
    from iqa_metrics.names import lookup

    if name.startswith(PREFIX):
        of_timm = backbone(name).weights
        return () if of_timm is None else (of_timm,)
    known: dict[str, tuple[WeightsFile, ...]] = {}
    for file, owners in _owners().items():
        for owner in owners:
            known[owner] = (*known.get(owner, ()), file)
        known.setdefault(file.filename, (file,))
    for metric in all_metrics():
        known |= dict.fromkeys((metric.name, *metric.aliases), metric.needs.files)
    return lookup("metric, backbone or weights file", name, known)


def _advance(bar: Progress, task: TaskID, here: int, total: int | None) -> None:
    bar.update(task, completed=here, total=total)


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=err,
        transient=True,
    )


@contextlib.contextmanager
def _first_sights() -> Iterator[None]:
    """Print warnings about files without a published SHA-256 as plain lines."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            for message in caught:
                err.print(f"[yellow]note[/yellow] {escape(str(message.message))}", soft_wrap=True)
