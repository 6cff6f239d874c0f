"""``iqa agree``: how well the metrics of a table of scores agree with human opinions."""

import csv
import math
import sys
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from iqa_metrics.cli.console import JsonOption, err, out, print_json, refusals, table


def agree(
    scores: Annotated[
        Path, typer.Argument(help="A table from 'iqa score --pairs', with a column of opinions.")
    ],
    opinion: Annotated[str, typer.Option(help="Name of the column of opinions.")] = "opinion",
    distortion: Annotated[
        str, typer.Option(help="Name of the column with the kind of distortion, if there is one.")
    ] = "distortion",
    compare: Annotated[
        bool, typer.Option("--compare", help="Also compare every pair of metrics.")
    ] = False,
    draws: Annotated[
        int, typer.Option(min=1, help="Number of bootstrap replicates, for the intervals.")
    ] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap replicates.")] = 0,
    csv_: Annotated[
        Optional[Path],
        typer.Option("--csv", help="Where to write CSV; - is standard output."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Correlate scores with human opinions, with intervals over reference images.

    Signs are kept: a distance should rise with DMOS and fall with MOS.
    """
    from iqa_metrics.scoring.agreement import Agreement, agreements, differences, read_scored

    with refusals():
        rows = read_scored(scores, opinion, distortion)
        found = agreements(rows, draws=draws, seed=seed)
        compared = differences(rows, draws=draws, seed=seed) if compare else []
        if csv_ is not None:
            names = [field.name for field in fields(Agreement)]
            _write(csv_, names, [asdict(row) for row in found])
    if as_json:
        print_json(
            {
                "agreements": [_finite(asdict(row)) for row in found],
                "differences": [_finite(asdict(row)) for row in compared],
            }
        )
        return
    if csv_ is not None and str(csv_) == "-":
        return
    listing = table(
        "metric",
        "distortion",
        "pairs",
        "SROCC",
        "95 % interval",
        "PLCC*",
        "KROCC",
        "RMSE*",
        folded=("metric",),
    )
    for row in found:
        numbers = (row.srocc, row.plcc_logistic, row.krocc, row.rmse)
        shown = ["" if math.isnan(value) else f"{value:.3f}" for value in numbers]
        low, high = row.srocc_low, row.srocc_high
        interval = "" if math.isnan(low) else f"{low:.3f} to {high:.3f}"
        cells = (shown[0], interval, *shown[1:])
        listing.add_row(row.metric, row.distortion or "all", str(row.n), *cells)
    out.print(listing)
    out.print("* after VQEG's monotone logistic", markup=False)
    if compared:
        listing = table("first", "second", "pairs", "difference", "95 % interval", "p", "p by Holm")
        for one in compared:
            if math.isnan(one.difference):
                listing.add_row(one.first, one.second, str(one.n))
                continue
            listing.add_row(
                one.first,
                one.second,
                str(one.n),
                f"{one.difference:+.3f}",
                f"{one.low:+.3f} to {one.high:+.3f}",
                f"{one.p:.3f}",
                f"{one.p_corrected:.3f}",
            )
        out.print()
        out.print(listing)
        out.print("The difference is that of the absolute values of SROCC.", markup=False)
    failed = sum(row.failed for row in found if not row.distortion)
    if failed:
        scores_are = "1 score is" if failed == 1 else f"{failed} scores are"
        err.print(
            f"[yellow]note[/yellow] {scores_are} left out because of a failure or an infinite value"
        )
    most = max((row.references for row in found), default=0)
    if most < 10:
        images = "image" if most == 1 else "images"
        err.print(
            f"[yellow]note[/yellow] the intervals are rough: there are only {most} reference "
            f"{images}"
        )


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with None instead of NaN, which JSON does not have."""
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in row.items()
    }


def _write(path: Path, names: list[str], rows: list[dict[str, Any]]) -> None:
    if str(path) == "-":
        writer = csv.DictWriter(sys.stdout, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    except OSError as error:
        raise ValueError(f"--csv {path}: can't be written ({error.strerror})") from error
