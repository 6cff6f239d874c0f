"""``--version`` of both commands, and how they print warnings about plug-ins."""

import warnings
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import typer
from rich.markup import escape

from iqa_metrics.cli.console import err
from iqa_metrics.entry_points import PluginWarning, found

_DISTRIBUTIONS = ("iqa-metrics", "iqa-torchserve", "torch", "torchvision")


def versions() -> dict[str, str]:
    """Return the installed versions of both packages, torch and plug-ins, by name.

    They come from the packages' metadata. Nothing is imported.
    """
    said = {}
    for name in _DISTRIBUTIONS:
        try:
            said[name] = version(name)
        except PackageNotFoundError:
            continue
    plugins = {entry.dist.name: entry.dist.version for entry in found() if entry.dist is not None}
    return said | {f"{name} (plug-in)": plugins[name] for name in sorted(plugins)}


def _print_versions(asked: bool) -> None:
    if asked:
        for name, number in versions().items():
            print(f"{name} {number}")
        raise typer.Exit


VersionOption = Annotated[
    bool,
    typer.Option(
        "--version",
        help="Print the versions of both packages, torch and plug-ins.",
        callback=_print_versions,
        is_eager=True,
    ),
]


def print_warnings_plainly() -> None:
    """Print warnings about plug-ins as one line, without the code that they come from."""
    warnings.showwarning = _show


_usual = warnings.showwarning


def _show(message: Any, category: type[Warning], *where: Any, **options: Any) -> None:
    if issubclass(category, PluginWarning):
        err.print(f"[yellow]warning[/yellow] {escape(str(message))}", soft_wrap=True)
    else:
        _usual(message, category, *where, **options)
