"""What a study measures: databases, networks, layers, readouts, baselines."""

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
from iqa_metrics.study.settings import PlanError, Statistics
from iqa_metrics.weights.files import WeightsError

NAMED, ALL = "named", "all"
WEIGHTED = "weighted_euclidean"
"""The one weighted readout that a study knows: its weights are learned from the study's opinions,
and each pair is measured by weights that were learned without its reference."""
CONCATENATED = ("cumulative:joint", "cumulative:sum", "pairs:joint", "pairs:sum")

_SHOWN = 12

Layers = str | Sequence[str]


@dataclass(frozen=True)
class Network:
    """A network and the layers of it that are read out.

    Attributes
    ----------
    record
        The network.
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
        Names to databases of opinions.
    networks
        The networks and their layers.
    readouts
        Names of readouts; the first is the plain one that others are compared with.
        ``weighted_euclidean`` has its weights learned from each database, held out by reference.
    concatenations
        Which layers are put together, and how: ``cumulative:joint`` (all up to a layer),
        ``cumulative:sum``, ``pairs:joint`` (every two), ``pairs:sum``.
    baselines
        Specs of metrics to compare with.
    title
        What the report is called.
    statistics
        How sure it is asked to be.

    Raises
    ------
    PlanError
        If something is missing, named twice, or does not go together.
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

    def __post_init__(self) -> None:
        if not self.databases:
            raise PlanError("databases: expected at least one")
        if not (self.networks or self.baselines):
            raise PlanError("expected at least one backbone or baseline")
        for name, database in self.databases.items():
            if not name or name == POOLED:
                raise PlanError(f"databases: {name!r} can't be a name")
            if not database.pairs:
                raise PlanError(f"database {name}: it has no pairs")
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
                raise PlanError(f"{kind}: {', '.join(twice)} is named twice")
        self._check_readouts()

    def _check_readouts(self) -> None:
        if self.networks and not self.readouts:
            raise PlanError("readouts: expected at least one")
        for name in self.concatenations:
            lookup("concatenation", name, dict.fromkeys(CONCATENATED))
        for chosen in map(readout, self.readouts):
            if chosen.weighted and chosen.name != WEIGHTED:
                raise PlanError(
                    f"readouts: {chosen.name} needs weights of channels; of weighted readouts a "
                    f"study knows {WEIGHTED} alone, and learns its weights"
                )
        if self.readouts and self.readouts[0] == WEIGHTED:
            raise PlanError(
                f"readouts: the first is what others are compared with, so it can't be {WEIGHTED}"
            )

        if WEIGHTED in self.readouts:
            others = [n for n, one in self.databases.items() if one.facts.asked != "score"]
            if others:
                raise PlanError(
                    f"readouts: {WEIGHTED} learns from opinion scores, and {', '.join(others)} "
                    "has 2AFC or JND judgements instead; put it in a plan of its own"
                )

    @property
    def measured(self) -> tuple[Readout, ...]:
        """The readouts that are measured in the pass itself."""
        return tuple(r for r in map(readout, self.readouts) if not r.weighted)


def _check_pairs(name: str, database: OpinionDatabase) -> None:
    """Refuse what the tables could not hold, before anything is measured."""
    known: dict[tuple[str, str], int] = {}
    for number, pair in enumerate(database.pairs, start=1):
        files = (pair.reference.absolute(), pair.distorted.absolute())
        place = (os.path.normpath(files[0]), os.path.normpath(files[1]))
        if place in known:
            raise PlanError(
                f"database {name}: pairs {known[place]} and {number} are the same, "
                f"{pair.reference} and {pair.distorted}; expected each once"
            )
        known[place] = number
        try:
            "".join(place).encode()
        except UnicodeEncodeError:
            raise PlanError(
                f"database {name}, pair {number}: {str(pair.distorted)!r} is no name in UTF-8; "
                "rename the file"
            ) from None


def network(record: Backbone, layers: Layers = NAMED) -> Network:
    """Choose layers of a network.

    Parameters
    ----------
    record
        The network.
    layers
        ``named`` (its blocks), ``all`` (every module with a response of its own), or names.

    Raises
    ------
    UnknownNameError
        If a layer is unknown.
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
    """Return networks and, after the last of each architecture, its untrained control."""
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
    """Return the networks whose weights are on this machine.

    Parameters
    ----------
    networks
        The networks.
    skip
        Leave the others out; otherwise they are an error.

    Raises
    ------
    WeightsError
        If weights are missing or damaged; the message names all and how they come here.
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
            f"{len(missing)} backbones have no weights here: {names}{more}. Leave them out with "
            f"--missing skip, or fetch them, as here the first: {how}"
        )
    return found
