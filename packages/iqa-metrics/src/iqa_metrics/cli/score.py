"""``iqa score``: one pair of images, or a table of pairs."""

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from rich.markup import escape

from iqa_metrics.cli.console import (
    EXIT_FAILED,
    JsonOption,
    RowProgress,
    err,
    finish,
    print_json,
    refusals,
    stop,
    stopped,
)
from iqa_metrics.io.tables import Pair

if TYPE_CHECKING:
    from iqa_metrics.io.colour import ColourChoice

MetricOption = Annotated[
    Optional[list[str]],
    typer.Option("--metric", "-m", help="The spec of a metric; may be given several times."),
]


def score(
    reference: Annotated[Optional[Path], typer.Argument(help="The reference image.")] = None,
    distorted: Annotated[Optional[Path], typer.Argument(help="The image to score.")] = None,
    metric: MetricOption = None,
    pairs: Annotated[
        Optional[Path],
        typer.Option(
            help="A CSV table with columns reference and distorted, and perhaps space, border, "
            "peak and mask; all but the first two are copied."
        ),
    ] = None,
    out: Annotated[
        Optional[Path], typer.Option(help="CSV file to write with --pairs; - is standard output.")
    ] = None,
    as_json: JsonOption = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    background: Annotated[
        Optional[str],
        typer.Option(help="Colour behind transparent images, such as white or #808080."),
    ] = None,
    colour: Annotated[
        str,
        typer.Option(
            help="srgb converts images to sRGB by their embedded profiles; ignore takes their "
            "values as stored."
        ),
    ] = "srgb",
    space: Annotated[
        Optional[str],
        typer.Option(
            help="What is compared: rgb; y, the luma of BT.601; or y8, luma rounded to 8 bits.",
            show_default="rgb",
        ),
    ] = None,
    border: Annotated[
        Optional[int],
        typer.Option(min=0, help="Pixels cut off on each side of both images.", show_default="0"),
    ] = None,
    peak: Annotated[
        Optional[float],
        typer.Option(
            help="Value of white, such as 4095 for 12 bits in samples of 16.",
            show_default="the greatest of the type",
        ),
    ] = None,
    mask: Annotated[
        Optional[Path],
        typer.Option(help="Grey image with the weights of pixels: black counts as nothing."),
    ] = None,
    workers: Annotated[
        Optional[int],
        typer.Option(
            min=1, help="Number of threads that decode images.", show_default="one per CPU core"
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Resume the table that a stopped run left in --out. Give all other options as in "
            "that run. Its rows are kept, including failed ones. If the table of pairs has "
            "changed, resuming is refused.",
        ),
    ] = False,
    precision: Annotated[
        Optional[str],
        typer.Option(
            help="Precision of networks: float32, bfloat16 or float16.", show_default="float32"
        ),
    ] = None,
    compiled: Annotated[
        bool,
        typer.Option("--compile", help="Compile the networks first; worthwhile for long tables."),
    ] = False,
    memory: Annotated[
        Optional[str],
        typer.Option(
            help="Memory limit of one pass, such as 2GiB, or 0.5 for half of what is free."
        ),
    ] = None,
) -> None:
    """Score one pair of images, or a CSV table of pairs.

    Exit status: 0 if all scores were computed, 1 if some could not be computed, 2 for wrong usage,
    130 if stopped by Ctrl-C.
    """
    # Options that are not given keep the metric's defaults.
    options: dict[str, Any] = {
        **{"precision": precision, "compile": compiled or None, "memory": memory},
        **{"space": space, "border": border, "peak": peak},
    }
    computing = {"device": device, **{k: v for k, v in options.items() if v is not None}}
    specs = list(dict.fromkeys(metric or ["default"]))
    # Pillow's warnings about a damaged file repeat what the row's error says.
    warnings.filterwarnings("ignore", module="PIL")
    if pairs is not None:
        if reference is not None or distorted is not None:
            stop("expected either REFERENCE and DISTORTED or --pairs, got both")
        if out is None:
            stop("--pairs needs --out FILE (- is standard output)")
        if as_json:
            stop("--json is only for a single pair; --pairs writes CSV")
        if resume and str(out) == "-":
            stop("--resume needs the file that the stopped run wrote: expected --out FILE, got -")
        if mask is not None:
            stop("--mask is only for a single pair; a table of pairs has a column mask")
        _score_table(pairs, out, specs, computing, background, colour, workers, resume)
    elif reference is None or distorted is None:
        stop("expected REFERENCE and DISTORTED, or --pairs FILE")
    elif out is not None:
        stop("--out is only for --pairs; for a single pair, redirect the output instead")
    elif resume:
        stop("--resume is only for --pairs")
    else:
        _score_pair(
            Pair(str(reference), str(distorted), mask=mask),
            specs,
            computing,
            background,
            colour,
            workers,
            as_json,
        )


def _score_pair(
    pair: Pair,
    specs: list[str],
    computing: dict[str, Any],
    background: str | None,
    colour: str,
    workers: int | None,
    as_json: bool,
) -> None:
    from iqa_metrics.metrics import resolve
    from iqa_metrics.scoring.scores import json_number, score_pairs

    with refusals():
        behind, choice = _background(background), _choice(colour)
        metrics = _metrics(specs, computing)
    rows = list(score_pairs([pair], metrics, background=behind, colour=choice, workers=workers))
    if as_json:
        print_json(
            [
                {
                    "reference": row.reference,
                    "distorted": row.distorted,
                    "metric": row.metric,
                    "resolved": str(resolve(row.metric)),
                    "value": None if row.value is None else json_number(row.value),
                    "higher_is_better": metrics[row.metric].higher_is_better,
                    "error": row.error or None,
                    "colour": row.colour or None,
                    "signature": row.signature or None,
                }
                for row in rows
            ]
        )
    else:
        for row in rows:
            if row.value is not None:
                better = "higher" if metrics[row.metric].higher_is_better else "lower"
                colours = f"\t{row.colour}" if row.colour else ""
                print(f"{row.metric}\t{row.value:.6g}\t{better} is better{colours}")
        for signature in dict.fromkeys(row.signature for row in rows if row.signature):
            print(f"# {signature}")
    errors = list(dict.fromkeys(row.error for row in rows if row.error))
    for error in errors:
        err.print(f"[red]error[/red] {escape(error)}", soft_wrap=True)
    if errors:
        raise typer.Exit(EXIT_FAILED)


def _score_table(
    pairs: Path,
    out: Path,
    specs: list[str],
    computing: dict[str, Any],
    background: str | None,
    colour: str,
    workers: int | None,
    resume: bool,
) -> None:
    from iqa_metrics.scoring.whole_tables import score_table

    to_stdout = str(out) == "-"
    with refusals():
        behind, choice = _background(background), _choice(colour)
    progress = RowProgress()
    try:
        with refusals(), progress:
            scored = score_table(
                pairs,
                sys.stdout if to_stdout else out,
                specs,
                resume=resume,
                background=behind,
                colour=choice,
                workers=workers,
                progress=progress,
                **computing,
            )
    except KeyboardInterrupt:
        stopped("" if to_stdout else str(out), progress)
    finish(scored.rows, scored.failed, str(out))


def _metrics(specs: list[str], computing: dict[str, Any]) -> dict[str, Any]:
    from iqa_metrics.compute.devices import pick_device
    from iqa_metrics.metrics import create_metric, parse_spec

    chosen = {**computing, "device": pick_device(computing["device"])}
    names = dict.fromkeys(str(parse_spec(spec)) for spec in specs)
    return {name: create_metric(name, **chosen) for name in names}


def _choice(colour: str) -> "ColourChoice":
    from iqa_metrics.io.colour import COLOUR_CHOICES

    for choice in COLOUR_CHOICES:
        if colour == choice:
            return choice
    raise ValueError(f"--colour: expected {' or '.join(COLOUR_CHOICES)}, got {colour!r}")


def _background(name: str | None) -> tuple[float, float, float] | None:
    from PIL import ImageColor

    if name is None:
        return None
    try:
        red, green, blue = ImageColor.getrgb(name)[:3]
    except ValueError as error:
        raise ValueError(f"--background: {error}; expected a name or #rrggbb") from error
    return red / 255, green / 255, blue / 255
