"""What a study measures: databases, backbones, layers, readouts and baselines."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from iqa_metrics.backbones import Backbone
from iqa_metrics.backbones.factors import UNTRAINED
from iqa_metrics.datasets.opinions import OpinionDatabase
from iqa_metrics.metrics import parse_spec
from iqa_metrics.names import lookup
from iqa_metrics.readouts import Readout, readout
from iqa_metrics.study.rows import POOLED
from iqa_metrics.study.settings import WEIGHTED as WEIGHTED
from iqa_metrics.study.settings import PlanError, Statistics
from iqa_metrics.weights.files import WeightsError

NAMED, ALL = "named", "all"
CONCATENATED = ("cumulative:joint", "cumulative:sum", "pairs:joint", "pairs:sum")

_SHOWN = 12

Layers = str | Sequence[str]


@dataclass(frozen=True)
class Network:
    """A backbone and those of its layers that are read.

    Attributes
    ----------
    record
        The backbone.
    layers
        Names of layers, from input to output.
    """

    record: Backbone
    layers: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What a study measures.

    Attributes
    ----------
    databases
        Databases with human ratings, by name.
    networks
        The backbones and their layers.
    readouts
        Names of readouts; the first is the plain one that the others are compared with.
        ``weighted_euclidean`` learns its channel weights from each database, held out by reference.
    concatenations
        Which layers are concatenated, and how: ``cumulative:joint`` (all layers up to each layer),
        ``cumulative:sum``, ``pairs:joint`` (every two layers), ``pairs:sum``.
    baselines
        Specs of the baseline metrics.
    title
        The title of the report.
    statistics
        The settings of the statistics.
    skipped
        Names of the backbones that were left out because their weights are not on this machine.

    Raises
    ------
    PlanError
        If something is missing, named twice, or can't be combined.
    UnknownNameError
        If a readout, a concatenation or a baseline is unknown.
    """

    databases: Mapping[str, OpinionDatabase]
    networks: Sequence[Network]
    readouts: Sequence[str] = ("euclidean",)
    concatenations: Sequence[str] = ()
    baselines: Sequence[str] = ("psnr", "ssim", "ms_ssim")
    title: str = "Study"
    statistics: Statistics = field(default_factory=Statistics)
    skipped: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not self.databases:
            raise PlanError("databases: expected at least one")
        if not (self.networks or self.baselines):
            raise PlanError("expected at least one backbone or baseline")
        for name, database in self.databases.items():
            if not name or name == POOLED:
                raise PlanError(
                    f"databases: {name!r} can't be the name of a database; choose another one"
                )
            if not database.pairs:
                raise PlanError(f"database {name}: expected at least one pair, got none")
            _check_pairs(name, database)
        baselines = [str(parse_spec(spec)) for spec in self.baselines]
        object.__setattr__(self, "baselines", tuple(baselines))
        networks = [network.record.name for network in self.networks]
        for kind, names in (
            ("backbones and baselines", [*networks, *baselines]),
            ("readouts", list(self.readouts)),
            ("concatenations", list(self.concatenations)),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise PlanError(f"{kind}: expected each name once; named twice: {', '.join(twice)}")
        self._check_readouts()

    def _check_readouts(self) -> None:
        if self.networks and not self.readouts:
            raise PlanError("readouts: expected at least one")
        for name in self.concatenations:
            lookup("concatenation", name, dict.fromkeys(CONCATENATED))
        for chosen in map(readout, self.readouts):
            if chosen.weighted and chosen.name != WEIGHTED:
                raise PlanError(
                    f"readouts: {chosen.name} needs channel weights; the only weighted readout in "
                    f"a study is {WEIGHTED}, whose weights the study learns"
                )
        if self.readouts and self.readouts[0] == WEIGHTED:
            raise PlanError(
                f"readouts: the first is the plain one that the others are compared with; it can't "
                f"be {WEIGHTED}"
            )
        if WEIGHTED in self.readouts:
            others = [n for n, one in self.databases.items() if one.facts.asked != "score"]
            if others:
                raise PlanError(
                    f"readouts: {WEIGHTED} learns from opinion scores, but {', '.join(others)} has "
                    "2AFC or JND judgements; put it in a plan of its own"
                )

    @property
    def measured(self) -> tuple[Readout, ...]:
        """The readouts that are measured directly, without learned channel weights."""
        return tuple(r for r in map(readout, self.readouts) if not r.weighted)


def _check_pairs(name: str, database: OpinionDatabase) -> None:
    """Raise PlanError for pairs that the tables can't hold, before anything is measured."""
    known: dict[tuple[str, str], int] = {}
    for number, pair in enumerate(database.pairs, start=1):
        files = (pair.reference.absolute(), pair.distorted.absolute())
        place = (os.path.normpath(files[0]), os.path.normpath(files[1]))
        if place in known:
            raise PlanError(
                f"database {name}: pairs {known[place]} and {number} are the same, "
                f"{pair.reference} and {pair.distorted}; expected each pair once"
            )
        known[place] = number
        try:
            "".join(place).encode()
        except UnicodeEncodeError:
            raise PlanError(
                f"database {name}, pair {number}: {str(pair.distorted)!r} can't be written as "
                "UTF-8; rename the file"
            ) from None


def network(record: Backbone, layers: Layers = NAMED) -> Network:
    """Choose the layers of a backbone that are read.

    Parameters
    ----------
    record
        The backbone.
    layers
        ``named`` (the backbone's named layers), ``all`` (every module that has a feature map), or
        names of layers.

    Raises
    ------
    UnknownNameError
        If a layer is unknown.
    PlanError
        If no layer is given.
    """
    if isinstance(layers, str):
        listed = {
            NAMED: lambda: record.layers,
            ALL: lambda: record.modules,
        }
        chosen = lookup("choice of layers", layers, listed)()
        return Network(record, tuple(layer.name for layer in chosen))
    if not layers:
        raise PlanError(f"backbone {record.name}: expected at least one layer")
    return Network(record, record.in_order(layers))


def with_controls(networks: Iterable[Network]) -> list[Network]:
    """Return backbones, followed by an untrained control for each of their architectures."""
    found = list(networks)
    names = {chosen.record.name for chosen in found}
    architectures = {n.record.architecture for n in found if n.record.goal == UNTRAINED}
    controls: dict[str, Network] = {}
    for chosen in found:
        record = chosen.record
        if record.own or record.architecture in architectures:
            continue
        control = record.untrained()
        if control.name not in names and record.architecture not in controls:
            controls[record.architecture] = Network(control, chosen.layers)
    return [*found, *controls.values()]


def here(networks: Iterable[Network], *, skip: bool = False) -> list[Network]:
    """Return the backbones whose weights are on this machine.

    Parameters
    ----------
    networks
        The backbones.
    skip
        Leave out backbones whose weights are missing, instead of raising an error.

    Raises
    ------
    WeightsError
        If weights are damaged, or missing and not skipped. The message says which are missing and
        how to get the first of them.
    """
    found, missing = [], []
    for chosen in networks:
        weights = chosen.record.weights
        if weights is None or weights.find() is not None:
            found.append(chosen)
        else:
            missing.append(chosen.record)
    if missing and not skip:
        names = " ".join(record.name for record in missing[:_SHOWN])
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        how = missing[0].weights.how_to_get() if missing[0].weights else ""
        raise WeightsError(
            f"backbones without weights on this machine ({len(missing)}): {names}{more}. Leave "
            f"them out with --missing skip, or get them one by one. {how}"
        )
    return found
