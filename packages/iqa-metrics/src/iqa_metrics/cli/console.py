"""What all commands share: two consoles, tables, JSON and exit statuses."""

import contextlib
import json
import sys
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import MofNCompleteColumn, Progress, ProgressColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from iqa_metrics.plugins import Kind
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


def registered_by(kind: "Kind", name: str) -> str | None:
    """Return the package and version, or the module, that registered a name; None if built in."""
    from iqa_metrics.plugins import provider_of

    provider = provider_of(kind, name)
    if provider is None:
        return None
    return f"{provider.distribution} {provider.version}".strip() or provider.module


def where(files: Collection["WeightsFile"]) -> str:
    """Return whether weights files are on this machine and, if not, how to get them."""
    missing = [file for file in files if file.find() is None]
    if not missing:
        return "here" if files else "none"
    if any(file.package for file in missing):
        return "to install"
    return "to fetch" if all(file.url for file in missing) else "by hand"


class RowProgress:
    """A bar of the rows that are written, shown from the first call on.

    Attributes
    ----------
    started
        Whether rows were about to be written.
    """

    def __init__(self) -> None:
        # Rows are computed in parts, which may take minutes, so the speed is averaged over many.
        self._bar = counter(TimeRemainingColumn(), speed_estimate_period=600)
        self._task = self._bar.add_task("scores", total=None)
        self.started = False

    def __call__(self, done: int, total: int) -> None:
        """Show how many rows are written, and of how many."""
        self._bar.update(self._task, completed=done, total=total)
        if not self.started:
            self._bar.start()
            self.started = True

    def __enter__(self) -> "RowProgress":
        return self

    def __exit__(self, *_: object) -> None:
        if self.started:
            self._bar.stop()


def stopped(out: str, progress: RowProgress) -> NoReturn:
    """Print that Ctrl-C stopped a table of scores, and exit."""
    kept = f" {out} keeps its rows; resume it with --resume" if out and progress.started else ""
    err.print(f"[red]stopped[/red]{escape(kept)}", soft_wrap=True)
    raise typer.Exit(EXIT_STOPPED) from None


def finish(rows: int, failed: int, out: str) -> None:
    """Print how many scores of a table were written, and exit if some failed."""
    err.print(f"{rows - failed} of {rows} scores written to {out}", soft_wrap=True)
    if failed:
        err.print(f"[red]{failed} failed[/red]; see the column 'error' for the reasons")
        raise typer.Exit(EXIT_FAILED)


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
