"""``iqa calibrate``: learn channel weights from opinion."""

import importlib.util
from pathlib import Path
from typing import Annotated, Optional

import typer

from iqa_metrics.cli.console import JsonOption, counter, err, print_json, refusals


def calibrate(
    backbone: Annotated[str, typer.Option(help="A network; see 'iqa list backbones'.")],
    layer: Annotated[list[str], typer.Option(help="A layer; may be given several times.")],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
    pairs: Annotated[
        Optional[Path], typer.Option(help="CSV with columns reference, distorted and opinion.")
    ] = None,
    opinion: Annotated[str, typer.Option(help="Name of the opinion's column.")] = "opinion",
    higher_is: Annotated[
        Optional[str], typer.Option(help="What a higher opinion means: better or worse.")
    ] = None,
    database: Annotated[
        Optional[str], typer.Option(help="Or a database; see 'iqa datasets list'.")
    ] = None,
    folder: Annotated[Optional[Path], typer.Option(help="The database's folder.")] = None,
    folds: Annotated[int, typer.Option(min=2, help="Parts that references are split into.")] = 5,
    draws: Annotated[int, typer.Option(min=1, help="Draws of references for the interval.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of folds and draws.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Learn how much each channel of a network counts, and say what that gains on unseen images.

    The gain is of SROCC over equal weights, on reference images that the weights were not fitted
    to, with its 95 % interval.
    """
    from iqa_metrics.channel_weights.learning import learn_relevance, save_relevance
    from iqa_metrics.compute.devices import pick_device
    from iqa_metrics.datasets import read_database, read_opinions
    from iqa_metrics.datasets.opinions import HIGHER_IS

    bar = counter()
    with refusals():
        if (pairs is None) == (database is None):
            raise ValueError("give either --pairs FILE or --database NAME --folder DIR")
        if pairs is not None:
            direction = next((known for known in HIGHER_IS if known == higher_is), None)
            if direction is None:
                raise ValueError("--pairs needs --higher-is better or --higher-is worse")
            opinions = read_opinions(pairs, direction, opinion)
        elif database is not None and folder is not None:
            opinions = read_database(database, folder)
        else:
            raise ValueError("--database needs --folder")
        if importlib.util.find_spec("safetensors") is None:
            raise ValueError("--out needs safetensors: pip install safetensors")
        if not out.absolute().parent.is_dir():
            raise ValueError(f"--out {out}: there is no folder {out.absolute().parent}")
        with bar as progress:
            task = progress.add_task("pairs", total=len(opinions.pairs))
            found = learn_relevance(
                backbone,
                layer,
                opinions,
                device=pick_device(device),
                folds=folds,
                draws=draws,
                seed=seed,
                progress=lambda done, _: progress.update(task, completed=done),
            )
        save_relevance(found, out)
    facts = found.provenance
    if as_json:
        print_json(dict(facts))
        return
    low, high = facts["held_out_gain_interval"]
    print(f"{facts['spec']}\t{out}")
    err.print(
        f"held-out SROCC over equal weights: {facts['held_out_gain']:+.4f} "
        f"(95 % interval {low:+.4f} to {high:+.4f}, {facts['references']} references)",
        markup=False,
        soft_wrap=True,
    )
