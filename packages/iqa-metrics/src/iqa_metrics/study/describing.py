"""What a plan and its networks put into the description of a study."""

from collections.abc import Sequence
from dataclasses import fields
from importlib.metadata import version

from torch import nn

from iqa_metrics.backbones import backbone
from iqa_metrics.factors import Factors
from iqa_metrics.metrics import Metric, needs, resolve
from iqa_metrics.metrics.specs import DeepSpec
from iqa_metrics.study.description import (
    JUDGING,
    DescribedBaseline,
    DescribedDatabase,
    DescribedLayer,
    DescribedNetwork,
)
from iqa_metrics.study.plan import Network, Plan

_MADE_WITH = ("iqa-metrics", "torch", "torchvision", "numpy", "pillow")


def described_database(
    name: str, plan: Plan, references: Sequence[str], failed: int
) -> DescribedDatabase:
    """Describe a database of a plan."""
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
    )


def described_network(network: Network, digest: str) -> DescribedNetwork:
    """Describe a network of a plan."""
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
    """Count a network's convolutions and linear maps; those of 1x1 count too."""
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
    return sum(isinstance(module, kinds) for module in network.modules())


def described_baseline(spec: str, metric: Metric) -> DescribedBaseline:
    """Describe a metric to compare with."""
    named = resolve(spec)
    fitted = not isinstance(named, DeepSpec) and needs(spec).calibration is not None
    on_opinion = isinstance(named, DeepSpec) and backbone(named.backbone).goal == JUDGING
    return DescribedBaseline(spec, metric.higher_is_better, metric.source, fitted or on_opinion)


def made_with(device: str) -> dict[str, str]:
    """Return the releases of what measures, and the kind of device."""
    return {**{name.replace("-", "_"): version(name) for name in _MADE_WITH}, "device": device}
