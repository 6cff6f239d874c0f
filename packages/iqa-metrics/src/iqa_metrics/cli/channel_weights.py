"""``iqa channel-weights``: learn channel weights from human ratings, and describe their files."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from iqa_metrics.cli.console import JsonOption, counter, err, print_json, refusals

channel_weights_app = typer.Typer(
    help="Channel weights of a backbone, learned from human ratings.", no_args_is_help=True
)


@channel_weights_app.command("learn")
def learn(
    backbone: Annotated[str, typer.Option(help="A backbone, from 'iqa list backbones'.")],
    layer: Annotated[list[str], typer.Option(help="A layer; may be given several times.")],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
    pairs: Annotated[
        Optional[Path],
        typer.Option(help="A CSV table with columns reference, distorted and opinion."),
    ] = None,
    opinion: Annotated[str, typer.Option(help="Name of the column of opinions.")] = "opinion",
    higher_is: Annotated[
        Optional[str], typer.Option(help="What a higher opinion means: better or worse.")
    ] = None,
    database: Annotated[
        Optional[str],
        typer.Option(help="A database from 'iqa datasets list', instead of --pairs."),
    ] = None,
    folder: Annotated[Optional[Path], typer.Option(help="The folder of the database.")] = None,
    folds: Annotated[
        int, typer.Option(min=2, help="Number of folds that the references are split into.")
    ] = 5,
    draws: Annotated[
        int, typer.Option(min=1, help="Number of bootstrap replicates, for the interval.")
    ] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the folds and bootstrap replicates.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Learn a weight for each channel, and measure the gain on unseen reference images.

    The gain is the SROCC on reference images that the weights were not fitted to, minus the SROCC
    with equal weights. It is shown with its 95 % interval.
    """
    from iqa_metrics.channel_weights import learn_channel_weights, save_channel_weights
    from iqa_metrics.compute.devices import pick_device
    from iqa_metrics.datasets import read_database, read_opinions
    from iqa_metrics.datasets.opinions import HIGHER_IS

    bar = counter()
    with refusals():
        if (pairs is None) == (database is None):
            raise ValueError(
                "expected either --pairs FILE or --database NAME --folder DIR, got "
                f"{'neither' if pairs is None else 'both'}"
            )
        if pairs is not None:
            direction = next((known for known in HIGHER_IS if known == higher_is), None)
            if direction is None:
                raise ValueError("--pairs needs --higher-is better or --higher-is worse")
            opinions = read_opinions(pairs, direction, opinion)
        elif database is not None and folder is not None:
            opinions = read_database(database, folder)
        else:
            raise ValueError("--database needs --folder DIR")
        if importlib.util.find_spec("safetensors") is None:
            raise ValueError("--out needs safetensors: pip install safetensors")
        if not out.absolute().parent.is_dir():
            raise ValueError(f"--out {out}: the folder {out.absolute().parent} does not exist")
        with bar as progress:
            task = progress.add_task("pairs", total=len(opinions.pairs))
            found = learn_channel_weights(
                backbone,
                layer,
                opinions,
                device=pick_device(device),
                folds=folds,
                draws=draws,
                seed=seed,
                progress=lambda done, _: progress.update(task, completed=done),
            )
        save_channel_weights(found, out)
    _print(found.provenance, found.metric.name, str(out), as_json)


@channel_weights_app.command("show")
def show(
    file: Annotated[Path, typer.Argument(help="A file that 'iqa channel-weights learn' wrote.")],
    as_json: JsonOption = False,
) -> None:
    """Show what channel weights were learned from, and how much they gain."""
    from iqa_metrics.channel_weights import stored

    with refusals():
        weights, facts = stored(file)
    _print(facts, str(facts.get("spec", "")), str(file), as_json)
    if not as_json:
        for name, values in weights.items():
            used = int((values > 0).sum())
            print(
                f"{name}\t{used} of {len(values)} weights above 0\tlargest weight "
                f"{values.max():.4g}"
            )


def _print(facts: Mapping[str, Any], spec: str, file: str, as_json: bool) -> None:
    if as_json:
        print_json(dict(facts))
        return
    low, high = facts["held_out_gain_interval"]
    print(f"{spec}\t{file}")
    err.print(
        f"learned from {facts['database']}: {facts['pairs']} pairs with {facts['references']} "
        f"references\ngain in held-out SROCC over equal weights: {facts['held_out_gain']:+.4f} "
        f"(95 % interval {low:+.4f} to {high:+.4f})",
        markup=False,
        soft_wrap=True,
    )
