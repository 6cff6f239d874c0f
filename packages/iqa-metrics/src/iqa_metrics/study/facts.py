"""Describe a study: from its plan and backbones, or from the names in a table of distances."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path

import numpy as np
from torch import nn

from iqa_metrics.backbones import backbone
from iqa_metrics.backbones.factors import Factors
from iqa_metrics.metrics import (
    DeepSpec,
    Metric,
    NamedSpec,
    all_metrics,
    metric_record,
    parse_spec,
    resolve,
)
from iqa_metrics.plugins import Provider, provider_of, providers_of
from iqa_metrics.study.concatenated import JOIN
from iqa_metrics.study.description import (
    HIGHER_IS,
    JUDGING,
    DescribedBaseline,
    DescribedDatabase,
    DescribedLayer,
    DescribedNetwork,
    Description,
    DescriptionError,
)
from iqa_metrics.study.distances import Measured
from iqa_metrics.study.measuring import folder_of
from iqa_metrics.study.plan import WEIGHTED, Network, Plan
from iqa_metrics.study.settings import Statistics

_MADE_WITH = ("iqa-metrics", "torch", "torchvision", "numpy", "pillow")


def described_database(
    name: str, plan: Plan, references: Sequence[str], failed: int, root: Path
) -> DescribedDatabase:
    """Describe a database of a plan, for the study in the folder ``root``."""
    facts = plan.databases[name].facts
    return DescribedDatabase(
        name=name,
        title=facts.title,
        higher_is=facts.higher_is,
        pairs=len(plan.databases[name].pairs),
        references=len(set(references)),
        failed=failed,
        opinion=facts.opinion,
        source=facts.source,
        licence=facts.licence,
        asked=facts.asked,
        folder=_seen_from(root, folder_of(plan.databases[name])),
    )


def _seen_from(root: Path, folder: str) -> str:
    """Return a folder relative to the study's, so that both can be moved together."""
    try:
        return Path(os.path.relpath(folder, root.absolute())).as_posix()
    except ValueError:  # they are on different drives of Windows
        return Path(folder).as_posix()


def described_network(network: Network, digest: str) -> DescribedNetwork:
    """Describe a backbone of a plan."""
    record = network.record
    chosen = [record.layer(name) for name in network.layers]
    factors = {one.name: getattr(record, one.name) for one in fields(Factors)}
    return DescribedNetwork(
        **factors,
        weighted_layers=record.depth or weighted_layers(record.shape),
        network=digest,
        layers=tuple(DescribedLayer(layer.name, layer.depth, layer.channels) for layer in chosen),
    )


def weighted_layers(network: nn.Module) -> int:
    """Count a network's convolutions, 1x1 included, and linear layers."""
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
    return sum(isinstance(module, kinds) for module in network.modules())


def described_baseline(spec: str, metric: Metric) -> DescribedBaseline:
    """Describe a baseline metric."""
    parsed, resolved = parse_spec(spec), resolve(spec)
    fitted = isinstance(parsed, NamedSpec) and metric_record(parsed.name).tuned
    on_opinion = isinstance(resolved, DeepSpec) and backbone(resolved.backbone).goal == JUDGING
    return DescribedBaseline(
        name=spec,
        higher_is_better=metric.higher_is_better,
        source=metric.source,
        tuned=fitted or on_opinion,
    )


def made_with(plan: Plan, device: str) -> dict[str, str]:
    """Return the versions of the packages that measure, plug-ins too, and the kind of device."""
    versions = {name: version(name) for name in _MADE_WITH}
    versions |= {one.distribution: one.version for one in _plugins(plan) if one.distribution}
    return {**{name.replace("-", "_"): said for name, said in versions.items()}, "device": device}


def _plugins(plan: Plan) -> Iterator[Provider]:
    """Yield who registered what a plan measures with."""
    for spec in plan.baselines:
        yield from providers_of(spec)
    found = [provider_of("readout", name) for name in plan.readouts]
    found += [provider_of("backbone", network.record.name) for network in plan.networks]
    yield from (one for one in found if one is not None)


def description_of(
    measured: Mapping[str, Measured], higher_is: str, statistics: Statistics | None = None
) -> Description:
    """Describe distances that were computed elsewhere, as far as their names are known.

    Parameters
    ----------
    measured
        What was measured on each database, by the database's name.
    higher_is
        What a higher opinion score means in all databases: ``better`` or ``worse``.
    statistics
        The settings of the statistics.

    Raises
    ------
    DescriptionError
        If ``higher_is`` is neither, or if a series without a layer is not a known metric.
    """
    if higher_is not in HIGHER_IS:
        raise DescriptionError(f"higher_is: expected better or worse, got {higher_is!r}")
    series = dict.fromkeys(one for found in measured.values() for one in found.series)
    layers: dict[str, dict[str, float]] = {}
    for one in series:
        if one.layer and JOIN not in one.layer:
            layers.setdefault(one.backbone, {})[one.layer] = one.depth
    databases = tuple(
        DescribedDatabase(
            name=name,
            title=name,
            higher_is=higher_is,
            pairs=len(found.pairs),
            references=len(set(found.pairs.references)),
            failed=int((~np.isfinite(found.values)).any(axis=0).sum()),
            opinion=True,
            source="",
            licence="",
        )
        for name, found in measured.items()
    )
    return Description(
        title=", ".join(measured),
        databases=databases,
        backbones=tuple(_named_network(name, of) for name, of in layers.items()),
        baselines=tuple(_named_baseline(one.backbone) for one in series if not one.layer),
        readouts=_plain_first(
            dict.fromkeys(one.readout for one in series if one.layer and ":" not in one.readout)
        ),
        statistics=statistics or Statistics(),
    )


def _plain_first(readouts: Iterable[str]) -> tuple[str, ...]:
    """Put learned channel weights last: the plain readout is the first, and it learns nothing."""
    return tuple(sorted(readouts, key=lambda name: name == WEIGHTED))


def _named_network(name: str, layers: Mapping[str, float]) -> DescribedNetwork:
    """Describe a backbone by its name alone; an unknown one has no factors."""
    try:
        record = backbone(name)
    except ValueError:
        return DescribedNetwork(
            name=name,
            architecture=name,
            goal="",
            data="",
            weighted_layers=None,
            network="",
            layers=_named_layers(layers, {}),
        )
    known = {layer.name: layer.depth for layer in (*record.modules, *record.layers)}
    return DescribedNetwork(
        **{one.name: getattr(record, one.name) for one in fields(Factors)},
        weighted_layers=record.depth or weighted_layers(record.shape),
        network="",
        layers=_named_layers(layers, known),
    )


def _named_layers(
    layers: Mapping[str, float], known: Mapping[str, float]
) -> tuple[DescribedLayer, ...]:
    """Describe layers; depths come from the table, the backbone, or else the layers' order."""
    found = [
        DescribedLayer(name, depth if depth == depth else known.get(name, number / len(layers)), 0)
        for number, (name, depth) in enumerate(layers.items(), start=1)
    ]
    return tuple(sorted(found, key=lambda layer: layer.depth))


def _named_baseline(name: str) -> DescribedBaseline:
    known = next((one for one in all_metrics() if name in (one.name, *one.aliases)), None)
    if known is None:
        raise DescriptionError(
            f"{name} has no layer and is not a known metric, so its direction is unknown; describe "
            "it in study.json"
        )
    return DescribedBaseline(
        name=name,
        higher_is_better=known.metric.higher_is_better,
        source=known.metric.source,
        tuned=known.tuned,
    )
