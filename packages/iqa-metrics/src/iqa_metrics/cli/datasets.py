"""``iqa datasets``: list and check databases of people's opinions."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from iqa_metrics.cli.console import (
    EXIT_FAILED,
    JsonOption,
    counter,
    out,
    print_json,
    refusals,
    registered_by,
    table,
)

datasets_app = typer.Typer(help="Databases of people's opinions.", no_args_is_help=True)

_SHOWN = 40


@datasets_app.command("list")
def list_datasets(as_json: JsonOption = False) -> None:
    """List the databases that can be read, and which way their opinions point."""
    from iqa_metrics.datasets import all_databases

    facts = [reader.facts for reader in all_databases()]
    if as_json:
        print_json(
            [
                {**vars(f), "range": list(f.range), "plugin": registered_by("database", f.name)}
                for f in facts
            ]
        )
        return
    listing = table(
        "name", "database", "references", "pairs", "higher is", "files", folded=("files",)
    )
    for f in facts:
        counts = ("" if n is None else str(n) for n in (f.references, f.pairs))
        listing.add_row(f.name, f.title, *counts, f.higher_is, f.layout)
    out.print(listing)
    out.print("None may be passed on by us: get them from their owners. A CSV of yours works too.")


@datasets_app.command("check")
def check_dataset(
    name: Annotated[str, typer.Argument(help="See 'iqa datasets list'.")],
    folder: Annotated[Path, typer.Argument(help="The folder as downloaded and unpacked.")],
    as_json: JsonOption = False,
) -> None:
    """Check that a database is whole: every file there, every image readable, every opinion.

    Exit status: 0 if it is, 1 if something is wrong, 2 if nothing of it can be read.
    """
    from iqa_metrics.datasets import check_database

    bar = counter()
    with refusals(), bar as progress:
        task = progress.add_task("images", total=None)
        found = check_database(
            name, folder, lambda done, total: progress.update(task, completed=done, total=total)
        )
    if as_json:
        problems = [vars(problem) for problem in found.problems]
        print_json({"name": name, "pairs": len(found.pairs), "problems": problems})
    else:
        for problem in found.problems[:_SHOWN]:
            out.print(f"[red]{problem.kind}[/red]: {escape(problem.what)}", soft_wrap=True)
            if problem.why:
                out.print(f"    {escape(problem.why)}", soft_wrap=True)
        if len(found.problems) > _SHOWN:
            out.print(f"and {len(found.problems) - _SHOWN} more; --json has them all")
        facts = found.facts
        said = "whole" if not found.problems else f"{len(found.problems)} problems"
        out.print(
            f"{facts.title}: {len(found.pairs)} of {facts.pairs or '?'} pairs, {said}; a higher "
            f"opinion is {facts.higher_is}. {facts.source}. Licence: {facts.licence}.",
            markup=False,
            soft_wrap=True,
        )
    if found.problems:
        raise typer.Exit(EXIT_FAILED)
