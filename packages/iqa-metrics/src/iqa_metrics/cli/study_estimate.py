"""``iqa study estimate``: what a study will take, before it is run."""

from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from iqa_metrics.cli.console import JsonOption, out, print_json, refusals, table
from iqa_metrics.cli.study import study_app

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iqa_metrics.study import Estimate
    from iqa_metrics.study.plan_estimate import Missing

_MANY = 100


@study_app.command("estimate")
def estimate(
    plan: Annotated[Path, typer.Argument(help="A plan in TOML.")],
    pairs: Annotated[
        int, typer.Option(min=1, help="Number of pairs to time each architecture with.")
    ] = 2,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Say what a plan takes before it is run: missing weights, time, disk and memory.

    Each architecture is timed on a few pairs of the largest database. Exit status: 0 if the plan
    can be carried out once its weights are here, 2 if it can't, or would not fit into memory.
    """
    from iqa_metrics.datasets import DatasetError
    from iqa_metrics.study import estimate as estimated
    from iqa_metrics.study import read_plan
    from iqa_metrics.study.plan_estimate import weights_missing
    from iqa_metrics.study.plan_files import read_networks
    from iqa_metrics.study.plan_memory import check_memory

    # A run makes the images of the built-in ladder in its own folder.
    with refusals(), TemporaryDirectory() as ladder:
        try:
            chosen = read_plan(plan, ladder, missing="keep")
        except DatasetError as error:
            missing = weights_missing(*read_networks(plan))
            if as_json:
                print_json({"missing": [asdict(one) for one in missing]})
            else:
                _show_missing(missing)
            raise ValueError(
                f"{error}. Weights are listed above; time, disk and memory need the databases, and "
                "'iqa datasets list' says where they come from"
            ) from error
        found = estimated(chosen, device=device, pairs=pairs)
        if as_json:
            print_json(_as_dict(found))
        else:
            _show(found)
        check_memory(chosen)


def _as_dict(found: "Estimate") -> dict[str, Any]:
    return {
        **asdict(found),
        "measuring_seconds": found.measuring_seconds,
        "channel_weights_timed": False,
    }


def _show(found: "Estimate") -> None:
    from iqa_metrics.study.plan_memory import written

    if found.missing:
        _show_missing(found.missing)
    listing = table("timed", "backbones", "pairs", "s per pair", "in all", folded=("timed",))
    for one in sorted(found.timed, key=lambda one: -one.seconds):
        listing.add_row(
            escape(one.timed),
            str(len(one.names)),
            str(one.pairs),
            f"{one.seconds_per_pair:.3f}",
            _duration(one.seconds),
        )
    out.print(listing)
    if found.untimed:
        out.print(f"not timed, because weights are missing: {escape(', '.join(found.untimed))}")
    sizes = ", ".join(f"{count:,} of {escape(name)}" for name, count in found.pairs.items())
    free = "unknown" if found.available is None else written(found.available)
    facts = {
        "pairs": sizes,
        "distances": f"{found.distances:,}, of {found.series.single:,} series",
        "concatenations": f"{found.series.concatenated:,} series more",
        "measuring": f"about {_duration(found.measuring_seconds)} on this machine's "
        f"{found.device}, without learning channel weights",
        "statistics": f"about {_duration(found.statistics_seconds)}",
        "disk": f"about {written(found.parts_bytes)} in parts/, "
        f"{written(found.distances_bytes)} in distances.parquet",
        "memory": "; ".join(
            f"{need.step} up to {written(need.bytes)} ({need.what})" for need in found.memory
        ),
        "memory that is free": free,
    }
    for name, said in facts.items():
        out.print(f"[bold]{name}[/bold]: {escape(said)}", soft_wrap=True, highlight=False)


def _show_missing(missing: "Sequence[Missing]") -> None:
    """Print each missing file, where it is downloaded from, and the command that gets it."""
    known = sum(one.megabytes or 0 for one in missing)
    out.print(
        f"[bold]missing weights[/bold]: {len(missing)} files, {known:,.0f} MB of those whose "
        "size is known",
        highlight=False,
    )
    for one in missing:
        size = "" if one.megabytes is None else f", {one.megabytes:.0f} MB"
        where = f"  {one.url}" if one.url else ""
        out.print(
            f"  {escape(', '.join(one.needed_by))}{size}: {escape(one.command or one.how)}{where}",
            soft_wrap=True,
            highlight=False,
        )
    names = [one.needed_by[0] for one in missing if one.command.startswith("iqa weights")]
    if names:
        out.print(f"all that can be fetched: iqa weights fetch {' '.join(names)}", soft_wrap=True)


def _duration(seconds: float) -> str:
    """Return a time for people."""
    if seconds < _MANY:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < _MANY:
        return f"{minutes} min"
    hours = round(seconds / 3600)
    return f"{hours} h" if hours < _MANY else f"{hours / 24:.0f} days"
