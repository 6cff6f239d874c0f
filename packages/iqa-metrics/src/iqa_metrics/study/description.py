"""``study.json``: what a study's tables are of, for all that reads them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path

from torch import nn

from iqa_metrics.backbones import backbone
from iqa_metrics.backbones.factors import Factors
from iqa_metrics.metrics import Metric, needs, resolve
from iqa_metrics.metrics.specs import DeepSpec
from iqa_metrics.study.plan import Network, Plan, Statistics
from iqa_metrics.weights import written_at_once

DESCRIPTION = "study.json"
JUDGING = "image quality"
"""The goal of networks that were trained on people's opinions of images."""
FORMAT = "iqa-metrics study, 1"
_MADE_WITH = ("iqa-metrics", "torch", "torchvision", "numpy", "pillow")


class DescriptionError(ValueError):
    """A description of a study that can't be used."""

    code = "bad_study"


@dataclass(frozen=True)
class DescribedDatabase:
    """A database of a study.

    Attributes
    ----------
    name, title, higher_is, source, licence, opinion
        As of :class:`iqa_metrics.datasets.DatabaseFacts`; the name is the plan's.
    pairs, references, failed
        How many it has, and how many pairs failed in some reading.
    """

    name: str
    title: str
    higher_is: str
    pairs: int
    references: int
    failed: int
    opinion: bool
    source: str
    licence: str


@dataclass(frozen=True)
class DescribedLayer:
    """A layer: its name, its depth in (0, 1], and how many channels it has."""

    name: str
    depth: float
    channels: int


@dataclass(frozen=True, kw_only=True)
class DescribedNetwork(Factors):
    """A network of a study: the factors of its :class:`iqa_metrics.Backbone`, and more.

    Attributes
    ----------
    weighted_layers
        The paper's count of layers, where it has one; else how many convolutions and linear maps
        there are.
    network
        SHA-256 of its values.
    layers
        Those that are read out, from input to output.
    """

    weighted_layers: int
    network: str
    layers: tuple[DescribedLayer, ...]


@dataclass(frozen=True)
class DescribedBaseline:
    """A metric to compare with.

    Attributes
    ----------
    name
        Its spec.
    higher_is_better
        Its direction.
    source
        Its paper.
    tuned
        Whether its parameters were fitted to people's opinions.
    """

    name: str
    higher_is_better: bool
    source: str
    tuned: bool


@dataclass(frozen=True)
class Description:
    """What a study's tables are of.

    Attributes
    ----------
    title
        What the report is called.
    databases, backbones, baselines
        What was measured, on what.
    readouts, concatenations
        As in the plan.
    statistics
        How sure it is asked to be.
    made_with
        Releases of what made it, and the device.
    """

    title: str
    databases: tuple[DescribedDatabase, ...]
    backbones: tuple[DescribedNetwork, ...]
    baselines: tuple[DescribedBaseline, ...]
    readouts: tuple[str, ...]
    concatenations: tuple[str, ...] = ()
    statistics: Statistics = field(default_factory=Statistics)
    made_with: Mapping[str, str] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write it as JSON, in one step."""
        facts = {
            "format": FORMAT,
            "title": self.title,
            "made_with": dict(self.made_with),
            "settings": {
                **asdict(self.statistics),
                "plain": self.readouts[0] if self.readouts else "",
                "readouts": list(self.readouts),
                "concatenations": list(self.concatenations),
            },
            "databases": [asdict(one) for one in self.databases],
            "backbones": [asdict(one) for one in self.backbones],
            "baselines": [asdict(one) for one in self.baselines],
        }
        text = json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False)
        with written_at_once(path) as file:
            file.write(f"{text}\n".encode())

    @classmethod
    def read(cls, path: Path) -> "Description":
        """Read what :meth:`write` wrote.

        Raises
        ------
        DescriptionError
            If the file can't be read or is no such description.
        """
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DescriptionError(f"{path}: can't be read as JSON: {error}") from error
        if not isinstance(facts, dict) or facts.get("format") != FORMAT:
            raise DescriptionError(f"{path}: expected a study's description, format {FORMAT!r}")
        try:
            settings = facts["settings"]
            return cls(
                facts["title"],
                tuple(DescribedDatabase(**one) for one in facts["databases"]),
                tuple(
                    DescribedNetwork(
                        **{**one, "layers": tuple(DescribedLayer(**x) for x in one["layers"])}
                    )
                    for one in facts["backbones"]
                ),
                tuple(DescribedBaseline(**one) for one in facts["baselines"]),
                tuple(settings["readouts"]),
                tuple(settings["concatenations"]),
                Statistics(
                    **{key: settings[key] for key in ("draws", "seed", "confidence", "margin")}
                ),
                facts["made_with"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DescriptionError(f"{path}: is not whole: {error}") from error


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
