"""The ``iqa`` command."""

import contextlib
import json
import os
import sys
import warnings
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, Optional, TextIO

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from iqa_metrics.resuming import Written
    from iqa_metrics.tables import PairTable
    from iqa_metrics.weights import WeightsFile

app = typer.Typer(
    help="Perceptual distances between images, from pretrained networks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
list_app = typer.Typer(help="List what there is.", no_args_is_help=True)
weights_app = typer.Typer(help="Weights of pretrained networks.", no_args_is_help=True)
app.add_typer(list_app, name="list")
app.add_typer(weights_app, name="weights")

_out = Console(emoji=False)
_err = Console(stderr=True, emoji=False)

EXIT_FAILED_ROWS, EXIT_USAGE, EXIT_STOPPED = 1, 2, 130

MetricOption = Annotated[
    Optional[list[str]],
    typer.Option("--metric", "-m", help="A metric's spec; may be given several times."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def score(
    reference: Annotated[Optional[Path], typer.Argument(help="The undistorted image.")] = None,
    distorted: Annotated[Optional[Path], typer.Argument(help="The image to judge.")] = None,
    metric: MetricOption = None,
    pairs: Annotated[
        Optional[Path],
        typer.Option(help="CSV with columns reference and distorted; others are carried through."),
    ] = None,
    out: Annotated[
        Optional[Path], typer.Option(help="Where --pairs writes its CSV; - is standard output.")
    ] = None,
    as_json: JsonOption = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    background: Annotated[
        Optional[str],
        typer.Option(help="Colour under transparent images, such as white or #808080."),
    ] = None,
    workers: Annotated[
        Optional[int],
        typer.Option(min=1, help="Threads that decode images.", show_default="one a CPU core"),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with the table that a stopped run left in --out. Give all other options "
            "as in that run. Rows are kept, failed ones too; a changed table of pairs is refused.",
        ),
    ] = False,
    precision: Annotated[
        Optional[str],
        typer.Option(
            help="What networks compute in: float32, bfloat16 or float16.", show_default="float32"
        ),
    ] = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile the networks first, for long tables.")
    ] = False,
    memory: Annotated[
        Optional[str],
        typer.Option(help="Most memory for one pass: 2GiB, or 0.5 for half of what is free."),
    ] = None,
) -> None:
    """Score one pair of images, or a CSV table of pairs.

    Exit status: 0 if every score is there, 1 if some could not be computed, 2 for wrong usage, 130
    if it was stopped by Ctrl-C.
    """
    # What is left out stays the metric's own choice.
    options = {"precision": precision, "compile": compiled or None, "memory": memory}
    computing = {"device": device, **{k: v for k, v in options.items() if v is not None}}
    specs = list(dict.fromkeys(metric or ["default"]))
    # What Pillow warns of in a damaged file is in the row's error already.
    warnings.filterwarnings("ignore", module="PIL")
    if pairs is not None:
        if reference is not None or distorted is not None:
            _stop("give either REFERENCE and DISTORTED, or --pairs, not both")
        if out is None:
            _stop("--pairs needs --out FILE (- is standard output)")
        if as_json:
            _stop("--json goes with one pair; --pairs writes CSV")
        if resume and str(out) == "-":
            _stop("--resume needs the rows of the stopped run: --out FILE, not standard output")
        _score_table(pairs, out, specs, computing, background, workers, resume)
    elif reference is None or distorted is None:
        _stop("expected REFERENCE and DISTORTED, or --pairs FILE")
    elif out is not None:
        _stop("--out goes with --pairs; redirect the output instead")
    elif resume:
        _stop("--resume goes with --pairs")
    else:
        _score_pair(reference, distorted, specs, computing, background, workers, as_json)


def _score_pair(
    reference: Path,
    distorted: Path,
    specs: list[str],
    computing: dict[str, Any],
    background: str | None,
    workers: int | None,
    as_json: bool,
) -> None:
    from iqa_metrics.metrics import resolve
    from iqa_metrics.scores import json_number, score_pairs
    from iqa_metrics.tables import Pair

    with _refusals():
        colour, metrics = _colour(background), _metrics(specs, computing)
    pair = Pair(str(reference), str(distorted))
    rows = list(score_pairs([pair], metrics, background=colour, workers=workers))
    if as_json:
        _print_json(
            [
                {
                    "reference": row.reference,
                    "distorted": row.distorted,
                    "metric": row.metric,
                    "resolved": str(resolve(row.metric)),
                    "value": None if row.value is None else json_number(row.value),
                    "higher_is_better": metrics[row.metric].higher_is_better,
                    "error": row.error or None,
                }
                for row in rows
            ]
        )
    else:
        for row in rows:
            if row.value is not None:
                better = "higher" if metrics[row.metric].higher_is_better else "lower"
                print(f"{row.metric}\t{row.value:.6g}\t{better} is better")
    errors = list(dict.fromkeys(row.error for row in rows if row.error))
    for error in errors:
        _err.print(f"[red]error[/red] {escape(error)}", soft_wrap=True)
    if errors:
        raise typer.Exit(EXIT_FAILED_ROWS)


def _score_table(
    pairs: Path,
    out: Path,
    specs: list[str],
    computing: dict[str, Any],
    background: str | None,
    workers: int | None,
    resume: bool,
) -> None:
    from iqa_metrics.readahead import WINDOW
    from iqa_metrics.resuming import Written, written
    from iqa_metrics.tables import PairTable

    with _refusals():
        table = PairTable.open(pairs)
        colour, names = _colour(background), _names(specs)
        total = len(table) * len(names)
        if str(out) != "-" and out.exists() and out.samefile(pairs):
            raise ValueError(f"--out is the table of pairs itself, {pairs}; name another file")
        kept = written(out, table, names, WINDOW) if resume else Written()
    failed = kept.failed
    if not kept.finished:
        with _refusals():
            metrics = _metrics(specs, computing)
        try:
            failed += _write_rest(table, metrics, out, kept, total, colour, workers)
        except KeyboardInterrupt:
            rest = "" if str(out) == "-" else f" {out} keeps its rows: go on with --resume"
            _err.print(f"[red]stopped[/red]{escape(rest)}", soft_wrap=True)
            raise typer.Exit(EXIT_STOPPED) from None
    _err.print(f"{total - failed} of {total} scores written to {out}", soft_wrap=True)
    if failed:
        _err.print(f"[red]{failed} failed[/red]; column 'error' says why")
        raise typer.Exit(EXIT_FAILED_ROWS)


def _write_rest(
    table: "PairTable",
    metrics: dict[str, Any],
    out: Path,
    kept: "Written",
    total: int,
    background: tuple[float, float, float] | None,
    workers: int | None,
) -> int:
    """Score the pairs that are left, and return how many rows failed."""
    from iqa_metrics.scores import score_pairs
    from iqa_metrics.tables import write_scores

    failed = 0
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    # Rows come by the part, which may take minutes: so the speed is that of many of them.
    bar = Progress(*columns, console=_err, speed_estimate_period=600)
    with _refusals(), _writable(out, kept.size) as file, bar as progress:
        task = progress.add_task("scores", total=total, completed=kept.pairs * len(metrics))
        left = islice(table, kept.pairs, None)
        scores = score_pairs(left, metrics, background=background, workers=workers)
        with contextlib.closing(scores):
            for row in write_scores(scores, file, table.carried, header=not kept.size):
                failed += bool(row.error)
                progress.advance(task)
    return failed


@list_app.command("metrics")
def list_metrics(as_json: JsonOption = False) -> None:
    """List the metrics that have names, and how to spell any other."""
    from iqa_metrics.metrics import METRICS
    from iqa_metrics.scores import json_number

    rows = [
        {
            "name": record.name,
            "stands_for": str(record.stands_for) if record.stands_for else None,
            "better": "higher" if record.metric.higher_is_better else "lower",
            "range": [json_number(bound) for bound in record.metric.range],
            "differentiable": record.metric.differentiable,
            "here": all(file.find() is not None for file in record.needs.files),
            "summary": record.summary,
            "source": record.metric.source,
        }
        for record in METRICS
    ]
    if as_json:
        _print_json(rows)
        return
    table = _table("metric", "better", "range", "weights", "what it is")
    for row, record in zip(rows, METRICS, strict=True):
        low, high = record.metric.range
        weights = _where(record.needs.files)
        table.add_row(
            record.name, str(row["better"]), f"{low:g} to {high:g}", weights, record.summary
        )
    _out.print(table)
    _out.print(
        "Any other: BACKBONE:LAYER[+LAYER...]:READOUT[:CONCATENATION]; see 'iqa list backbones', "
        "'iqa list layers BACKBONE' and 'iqa list readouts'.",
        markup=False,
        soft_wrap=True,
    )
    if not all(row["here"] for row in rows):
        _out.print("To fetch what is missing: iqa weights fetch METRIC")


@list_app.command("readouts")
def list_readouts(as_json: JsonOption = False) -> None:
    """List what can be read out of a layer, and how layers concatenate."""
    from iqa_metrics.readouts import CONCATENATIONS, READOUTS

    rows = [
        {
            "name": r.name,
            "concatenations": [c for c in CONCATENATIONS if c != "joint" or r.joint],
            "map": r.map is not None,
            "channel_weights": r.weighted,
            "summary": r.summary,
            "source": r.source,
        }
        for r in READOUTS
    ]
    if as_json:
        _print_json(rows)
        return
    table = _table("readout", "joint", "map", "what it is")
    for record in READOUTS:
        marks = ("yes" if has else "no" for has in (record.joint, record.map))
        summary = record.summary + (" (in Python only)" if record.weighted else "")
        table.add_row(record.name, *marks, summary)
    _out.print(table)
    _out.print("Several layers: append :joint (where there is one), :sum or :sum_per_element.")


@list_app.command("backbones")
def list_backbones(as_json: JsonOption = False) -> None:
    """List the pretrained networks, and whether their weights are on this machine."""
    from iqa_metrics import backbones

    rows = [
        {
            "name": b.name,
            "architecture": b.architecture,
            "goal": b.goal,
            "data": b.data,
            "layers": len(b.layers),
            "smallest_input": b.smallest_input,
            "weights": b.weights.filename,
            "here": b.weights.find() is not None,
            "licence": b.weights.licence,
            "url": b.weights.url,
        }
        for b in backbones.BACKBONES
    ]
    if as_json:
        _print_json(rows)
        return
    table = _table("backbone", "goal", "data", "layers", "weights")
    for row in rows:
        weights = _where([backbones.backbone(str(row["name"])).weights])
        columns = ("name", "goal", "data", "layers")
        table.add_row(*(str(row[column]) for column in columns), weights)
    _out.print(table)
    if not all(row["here"] for row in rows):
        _out.print("To fetch one: iqa weights fetch BACKBONE")


@list_app.command("layers")
def list_layers(backbone: str, as_json: JsonOption = False) -> None:
    """List a backbone's layers, from input to output."""
    from iqa_metrics import backbones

    with _refusals():
        record = backbones.backbone(backbone)
    rows = [
        {"name": layer.name, "channels": layer.channels, "stride": layer.stride}
        for layer in record.layers
    ]
    if as_json:
        _print_json(rows)
        return
    table = _table("layer", "channels", "stride")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    _out.print(table)


@weights_app.command("fetch")
def fetch_weights(
    name: Annotated[
        str, typer.Argument(help="A metric, a backbone, or the name of a file of weights.")
    ],
) -> None:
    """Download what a metric or backbone needs into torch's hub cache, checked by its SHA-256."""
    from iqa_metrics.backbones import BACKBONES
    from iqa_metrics.metrics import METRICS
    from iqa_metrics.names import lookup
    from iqa_metrics.weights import WeightsFile, fetch

    known: dict[str, tuple[WeightsFile, ...]] = {b.name: (b.weights,) for b in BACKBONES}
    known |= {m.name: m.needs.files for m in METRICS}
    known |= {file.filename: (file,) for files in list(known.values()) for file in files}
    with _refusals():
        files = lookup("metric, backbone or weights file", name, known)
        for file in files:
            print(fetch(file))
    if not files:
        _err.print(f"{name} needs no weights")


def _names(specs: list[str]) -> list[str]:
    """Return what rows call the metrics: two spellings of one are one."""
    from iqa_metrics.metrics import parse_spec

    return list(dict.fromkeys(str(parse_spec(spec)) for spec in specs))


def _metrics(specs: list[str], computing: dict[str, Any]) -> dict[str, Any]:
    from iqa_metrics.devices import pick_device
    from iqa_metrics.metrics import create_metric

    chosen = {**computing, "device": pick_device(computing["device"])}
    return {name: create_metric(name, **chosen) for name in _names(specs)}


def _colour(name: str | None) -> tuple[float, float, float] | None:
    from PIL import ImageColor

    if name is None:
        return None
    try:
        red, green, blue = ImageColor.getrgb(name)[:3]
    except ValueError as error:
        raise ValueError(f"--background: {error}; expected a name or #rrggbb") from error
    return red / 255, green / 255, blue / 255


def _where(files: Collection["WeightsFile"]) -> str:
    """Say whether files of weights are on this machine, and if not, how they come here."""
    missing = [file for file in files if file.find() is None]
    if not missing:
        return "here" if files else "none"
    return "to fetch" if all(file.url for file in missing) else "by hand"


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column != "what it is")
    return table


def _print_json(data: object) -> None:
    print(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False))


@contextlib.contextmanager
def _writable(out: Path, keep: int = 0) -> Iterator[TextIO]:
    """Open the output, behind as many bytes as are to be kept of it."""
    if str(out) == "-":
        yield sys.stdout
        return
    try:
        if keep:
            os.truncate(out, keep)
        file = out.open("a" if keep else "w", newline="", encoding="utf-8")
    except OSError as error:
        raise ValueError(f"--out {out}: can't be written ({error.strerror})") from error
    try:
        with file:
            yield file
    except OSError as error:  # the last of it is written on closing
        raise ValueError(f"--out {out}: writing failed ({error.strerror})") from error


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Print our own errors as one line; anything else is a bug and keeps its trace."""
    from iqa_metrics.weights import WeightsError

    try:
        yield
    except (ValueError, WeightsError) as error:
        _stop(str(error))


def _stop(message: str) -> NoReturn:
    _err.print(f"[red]error[/red] {escape(message)}", soft_wrap=True)
    raise typer.Exit(EXIT_USAGE)


if __name__ == "__main__":
    app()
