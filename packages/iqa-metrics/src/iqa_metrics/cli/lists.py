"""``iqa list``: metrics, readouts, backbones, layers, comparisons."""

from typing import TYPE_CHECKING, Annotated, Optional

import typer
from rich.markup import escape

from iqa_metrics.cli.console import (
    JsonOption,
    out,
    print_json,
    refusals,
    registered_by,
    table,
    where,
)

if TYPE_CHECKING:
    from iqa_metrics.backbones import Backbone

list_app = typer.Typer(help="List what there is.", no_args_is_help=True)


@list_app.command("metrics")
def list_metrics(as_json: JsonOption = False) -> None:
    """List the metrics that have names, and how to spell any other."""
    from iqa_metrics.metrics import all_metrics
    from iqa_metrics.scoring.scores import json_number

    records = all_metrics()
    rows = [
        {
            "name": record.name,
            "aliases": list(record.aliases),
            "stands_for": str(record.stands_for) if record.stands_for else None,
            "better": "higher" if record.metric.higher_is_better else "lower",
            "range": [json_number(bound) for bound in record.metric.range],
            "differentiable": record.metric.differentiable,
            "map": record.has_map,
            "symmetric": record.symmetric,
            "identity": json_number(record.identity),
            "smallest_input": record.smallest_input,
            "here": all(file.find() is not None for file in record.needs.files),
            "summary": record.summary,
            "source": record.metric.source,
            "plugin": registered_by("metric", record.name),
        }
        for record in records
    ]
    if as_json:
        print_json(rows)
        return
    shown = table("metric", "better", "range", "weights", "what it is")
    for row, record in zip(rows, records, strict=True):
        low, high = record.metric.range
        weights = where(record.needs.files)
        called = f"; also called {', '.join(record.aliases)}" if record.aliases else ""
        summary = _with_plugin(record.summary + called, row["plugin"])
        shown.add_row(record.name, str(row["better"]), f"{low:g} to {high:g}", weights, summary)
    out.print(shown)
    out.print(
        "Any other: BACKBONE:LAYER[+LAYER...]:READOUT[:CONCATENATION]; see 'iqa list backbones', "
        "'iqa list layers BACKBONE' and 'iqa list readouts'.",
        markup=False,
        soft_wrap=True,
    )
    if not all(row["here"] for row in rows):
        out.print("To fetch what is missing: iqa weights fetch METRIC")


@list_app.command("readouts")
def list_readouts(as_json: JsonOption = False) -> None:
    """List what can be read out of a layer, and how layers concatenate."""
    from iqa_metrics.readouts import CONCATENATIONS, all_readouts

    records = all_readouts()
    rows = [
        {
            "name": r.name,
            "concatenations": [c for c in CONCATENATIONS if c != "joint" or r.joint],
            "map": r.map is not None,
            "channel_weights": r.weighted,
            "descriptor": r.descriptor,
            "summary": r.summary,
            "source": r.source,
            "plugin": registered_by("readout", r.name),
        }
        for r in records
    ]
    if as_json:
        print_json(rows)
        return
    shown = table("readout", "joint", "map", "what it is")
    for record, row in zip(records, rows, strict=True):
        marks = ("yes" if has else "no" for has in (record.joint, record.map))
        summary = record.summary + (" (in Python only)" if record.weighted else "")
        shown.add_row(record.name, *marks, _with_plugin(summary, row["plugin"]))
    out.print(shown)
    out.print("Several layers: append :joint (where there is one), :sum or :sum_per_element.")


WhereOption = Annotated[
    Optional[list[str]],
    typer.Option(
        "--where",
        help="FACTOR=VALUE, such as goal=jigsaw, family=ResNet or data=Places365; several must all "
        "hold.",
    ),
]


@list_app.command("backbones")
def list_backbones(
    where_: WhereOption = None,
    everything: Annotated[
        bool, typer.Option("--all", help="The untrained controls too, one an architecture.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the networks by what they were trained for, and whether their weights are here."""
    from iqa_metrics.backbones import FACTORS, select
    from iqa_metrics.backbones.factors import UNTRAINED

    with refusals():
        chosen = select(None, **factors(where_))
    if as_json:
        print_json([_as_dict(record) for record in chosen])
        return
    controls = [record for record in chosen if record.goal == UNTRAINED]
    shown = chosen if everything or len(controls) == len(chosen) else _without(chosen, controls)
    rows = {
        record.name: (
            record.name,
            record.architecture,
            "" if record.parameters is None else f"{record.parameters / 1e6:.1f} M",
            "" if record.score is None else f"{record.score:.1f}",
            "none" if record.weights is None else where([record.weights]),
        )
        for record in shown
    }
    titles = ("backbone", "architecture", "params", "score", "weights")
    widths = [max(map(len, column)) for column in zip(titles, *rows.values(), strict=True)]
    # A narrow window has the names; they say the architecture as well.
    left_out = 1 if sum(widths) + 2 * len(widths) > out.width else None
    # As a reader looks: by goal and data, then as catalogued.
    sections: dict[str, list[str]] = {}
    for record in shown:
        heading = ", ".join(filter(None, (FACTORS["goal"](record), record.data)))
        sections.setdefault(heading or "no goal stated", []).append(record.name)
    for heading, names in sections.items():
        listing = table(*(title for i, title in enumerate(titles) if i != left_out))
        for column, width in zip(
            listing.columns, [w for i, w in enumerate(widths) if i != left_out], strict=True
        ):
            column.min_width = width
            column.justify = "right" if column.header in ("params", "score") else "left"
        listing.show_header = heading == next(iter(sections))
        for name in names:
            listing.add_row(*(cell for i, cell in enumerate(rows[name]) if i != left_out))
        out.print(f"\n[bold cyan]{escape(heading)}[/bold cyan]")
        out.print(listing)
    out.print()
    out.print(
        f"{len(shown)} backbones. Score: on its own task, as published; --json says which. "
        "Layers: iqa list layers BACKBONE. To fetch weights: iqa weights fetch BACKBONE.",
        markup=False,
        soft_wrap=True,
    )
    if len(shown) < len(chosen):
        out.print(f"{len(controls)} untrained controls: --all, or --where goal={UNTRAINED}")


@list_app.command("layers")
def list_layers(
    backbone: str,
    every: Annotated[
        bool, typer.Option("--all", help="Every module, by its path; all can stand in specs.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List a backbone's layers, from input to output."""
    from iqa_metrics import backbones

    with refusals():
        record = backbones.backbone(backbone)
        layers = record.modules if every else record.layers
    rows = [
        {
            "name": layer.name,
            "channels": layer.channels,
            "stride": layer.stride,
            "depth": layer.depth,
            "smallest_input": layer.smallest_input,
        }
        for layer in layers
    ]
    if as_json:
        print_json(rows)
        return
    listing = table("layer", "channels", "stride", "depth", "smallest input")
    for layer in layers:
        listing.add_row(
            *(layer.name, str(layer.channels), "-" if layer.stride is None else str(layer.stride)),
            *(f"{layer.depth:.2f}", f"{layer.smallest_input} px"),
        )
    out.print(listing)
    if record.input_size is not None:
        out.print(f"It takes images of {record.input_size}x{record.input_size} pixels alone.")


@list_app.command("comparisons")
def list_comparisons(
    factor: Annotated[
        str, typer.Argument(help="goal, data, architecture, depth, environment or recipe.")
    ],
    where_: WhereOption = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Environment, recipe and starting weights must agree too."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the sets of backbones that agree in everything but a factor."""
    from iqa_metrics.backbones import comparisons, select

    with refusals():
        among = select(None, **factors(where_))
        found = comparisons(factor, among=among, strict=strict)
    if as_json:
        print_json(
            [
                {
                    "factor": comparison.factor,
                    "agreed": dict(comparison.agreed),
                    "sets": {
                        value: [record.name for record in records]
                        for value, records in comparison.sets.items()
                    },
                }
                for comparison in found
            ]
        )
        return
    for comparison in found:
        agreed = ", ".join(value for value in comparison.agreed.values() if value)
        listing = table(factor, "backbones", folded=("backbones",))
        listing.show_header = False
        for value, records in comparison.sets.items():
            listing.add_row(value, ", ".join(record.name for record in records))
        out.print(f"\n[bold cyan]{escape(agreed)}[/bold cyan]")
        out.print(listing)
    out.print()
    out.print(f"{len(found)} comparisons.")


def _with_plugin(summary: str, plugin: object) -> str:
    return f"{summary} ({plugin})" if plugin else summary


def factors(queries: list[str] | None) -> dict[str, str]:
    """Return what ``--where FACTOR=VALUE``, given several times, asks for."""
    found: dict[str, str] = {}
    for query in queries or ():
        name, equals, value = query.partition("=")
        if not equals:
            raise ValueError(f"--where: expected FACTOR=VALUE, got {query!r}")
        if found.setdefault(name.strip(), value.strip()) != value.strip():
            raise ValueError(f"--where: {name.strip()} can't be two things at once")
    return found


def _without(records: "tuple[Backbone, ...]", others: "list[Backbone]") -> "tuple[Backbone, ...]":
    names = {record.name for record in others}
    return tuple(record for record in records if record.name not in names)


def _as_dict(record: "Backbone") -> dict[str, object]:
    weights = record.weights
    texts = (
        *("name", "architecture", "family", "kind", "depth", "goal", "method", "data", "start"),
        *("environment", "recipe", "parameters", "score", "score_of", "paper", "note"),
    )
    scaling = record.scaling
    return {
        **{name: getattr(record, name) for name in texts},
        "scaling": {
            "order": scaling.order,
            "peak": scaling.peak,
            "mean": list(scaling.mean),
            "std": list(scaling.std),
        },
        "weights": weights and weights.filename,
        "here": weights is None or weights.find() is not None,
        "sha256": (weights and weights.sha256) or None,
        "megabytes": weights and weights.megabytes,
        "licence": weights and weights.licence,
        "url": weights and weights.url,
        "plugin": registered_by("backbone", record.name),
    }
