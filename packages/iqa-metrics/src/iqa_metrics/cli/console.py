"""What all commands share: two consoles, tables, JSON and exit statuses."""

import contextlib
import json
import sys
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import MofNCompleteColumn, Progress, ProgressColumn
from rich.table import Table

if TYPE_CHECKING:
    from iqa_metrics.weights.files import WeightsFile

EXIT_FAILED, EXIT_USAGE, EXIT_STOPPED = 1, 2, 130

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

# A file or a pipe is wide enough that nothing is cut.
out = Console(emoji=False, width=None if sys.stdout.isatty() else 160)
err = Console(stderr=True, emoji=False)


def table(*columns: str, folded: Collection[str] = ("what it is",)) -> Table:
    """Make a table without lines, whose columns do not wrap, except for the folded ones."""
    made = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold", no_wrap=column not in folded)
    return made


def counter(*columns: ProgressColumn, **options: Any) -> Progress:
    """Make a progress bar with a counter, on standard error."""
    usual = (*Progress.get_default_columns()[:2], MofNCompleteColumn())
    return Progress(*usual, *columns, console=err, **options)


def print_json(data: object) -> None:
    """Print data as JSON."""
    print(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False))


def where(files: Collection["WeightsFile"]) -> str:
    """Return whether weights files are on this machine and, if not, how to get them."""
    missing = [file for file in files if file.find() is None]
    if not missing:
        return "here" if files else "none"
    if any(file.package for file in missing):
        return "to install"
    return "to fetch" if all(file.url for file in missing) else "by hand"


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Print the package's own errors as one line; any other error is a bug and keeps its trace."""
    from iqa_metrics.weights.files import WeightsError

    try:
        yield
    except (ValueError, WeightsError) as error:
        stop(str(error))


def stop(message: str) -> NoReturn:
    """Print an error and exit with the status of wrong usage."""
    err.print(f"[red]error[/red] {escape(message)}", soft_wrap=True)
    raise typer.Exit(EXIT_USAGE)
