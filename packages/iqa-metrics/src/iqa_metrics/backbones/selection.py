"""Controlled comparisons: sets of backbones that agree in everything but one factor.

They are computed from the records, so a new record joins the sets that it belongs to by itself.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar, overload

from iqa_metrics.backbones.factors import UNTRAINED, Factors
from iqa_metrics.backbones.record import Backbone
from iqa_metrics.names import lookup

Record = TypeVar("Record", bound=Factors)
_Value = Callable[[Factors], str]


def _goal(record: Factors) -> str:
    return f"{record.goal}: {record.method}" if record.method else record.goal


FACTORS: Mapping[str, _Value] = {
    "goal": _goal,
    "data": lambda record: record.data,
    "architecture": lambda record: record.architecture,
    "depth": lambda record: str(record.depth) if record.depth else "",
    "environment": lambda record: record.environment,
    "recipe": lambda record: record.recipe,
}
"""What backbones are compared by: names to the value of a record."""

_AGREEING = {
    "goal": ("data", "architecture"),
    "data": ("goal", "architecture"),
    "architecture": ("goal", "data"),
    "depth": ("goal", "data"),
    "environment": ("goal", "data", "architecture"),
    "recipe": ("goal", "data", "architecture", "environment"),
}
_STRICTLY = ("environment", "recipe")


@dataclass(frozen=True)
class Comparison(Generic[Record]):
    """Backbones that agree in all that is compared but one factor.

    Attributes
    ----------
    factor
        The factor in which they differ.
    agreed
        What they agree in: factors to values.
    sets
        Values of the factor to the backbones that have it.
    """

    factor: str
    agreed: Mapping[str, str]
    sets: Mapping[str, tuple[Record, ...]]


@overload
def comparisons(factor: str, *, strict: bool = ...) -> tuple[Comparison[Backbone], ...]: ...


@overload
def comparisons(
    factor: str, *, among: Iterable[Record], strict: bool = ...
) -> tuple[Comparison[Record], ...]: ...


def comparisons(
    factor: str, *, among: Iterable[Record] | None = None, strict: bool = False
) -> tuple[Comparison[Record], ...] | tuple[Comparison[Backbone], ...]:
    """Return the sets of backbones that agree in everything but a factor.

    Goal, data and architecture must agree, but for the factor itself. Networks of several depths
    agree in family and kind instead. How they were trained beyond that (environment, recipe, and
    the weights that training started from) must agree where ``strict``: few trainings do. An
    untrained network has seen no data; where goals are compared it stands in each set of its
    architecture, as the control.

    Parameters
    ----------
    factor
        ``goal``, ``data``, ``architecture``, ``depth``, ``environment`` or ``recipe``.
    among
        The backbones to compare, or records with the same factors; by default all backbones, the
        user's own included.
    strict
        Whether environment, recipe and start must agree too.

    Raises
    ------
    UnknownNameError
        If the factor is unknown.

    Examples
    --------
    >>> from iqa_metrics import comparisons
    >>> of_depth = comparisons("depth")
    >>> vgg = next(c for c in of_depth if c.agreed["family"] == "VGG" and not c.agreed["kind"])
    >>> list(vgg.sets)
    ['11', '13', '16', '19']
    """
    if among is None:
        from iqa_metrics.backbones.catalogue import all_backbones

        return _comparisons(factor, all_backbones(), strict)
    return _comparisons(factor, among, strict)


def _comparisons(
    factor: str, among: Iterable[Record], strict: bool
) -> tuple[Comparison[Record], ...]:
    value = lookup("factor", factor, FACTORS)
    groups: dict[tuple[tuple[str, str], ...], dict[str, list[Record]]] = {}
    controls = []
    for record in among:
        if factor == "goal" and record.goal == UNTRAINED:
            controls.append(record)
        elif value(record):
            agreed = tuple(_agreed(record, factor, strict).items())
            groups.setdefault(agreed, {}).setdefault(value(record), []).append(record)
    for agreed, sets in groups.items():
        for record in controls:
            if record.architecture == dict(agreed)["architecture"]:
                sets.setdefault(value(record), []).append(record)
    found = []
    for agreed, sets in groups.items():
        if len(sets) > 1:
            ordered = sorted(sets, key=lambda text: (not text.isdigit(), text.zfill(4), text))
            chosen = {text: tuple(sets[text]) for text in ordered}
            found.append(Comparison(factor, dict(agreed), chosen))
    return tuple(found)


def _agreed(record: Factors, factor: str, strict: bool) -> dict[str, str]:
    names = [*_AGREEING[factor], *(_STRICTLY if strict else ())]
    agreed = {name: FACTORS[name](record) for name in names if name != factor}
    if factor == "depth":
        agreed |= {"family": record.family, "kind": record.kind}
    if strict:
        agreed["start"] = record.start
    return agreed


_QUERIED: Mapping[str, Callable[[Backbone], Iterable[str]]] = {
    "name": lambda record: [record.name],
    # A method is a goal too: goal=jigsaw and goal=self-supervised both find what they should.
    "goal": lambda record: [record.goal, record.method, _goal(record)],
    "method": lambda record: [record.method],
    "data": lambda record: [record.data],
    "architecture": lambda record: [record.architecture],
    "family": lambda record: [record.family],
    "kind": lambda record: [record.kind],
    "depth": lambda record: [str(record.depth or "")],
    "environment": lambda record: [record.environment],
    "start": lambda record: [record.start],
}


def select(among: Iterable[Backbone] | None = None, /, **factors: str) -> tuple[Backbone, ...]:
    """Return the backbones that have all those factors.

    Parameters
    ----------
    among
        Where to look; by default in all backbones, the user's own included.
    factors
        Names to values: ``name``, ``goal`` (a method counts too), ``method``, ``data``,
        ``architecture``, ``family``, ``kind``, ``depth``, ``environment`` or ``start``. Upper and
        lower case are the same.

    Raises
    ------
    UnknownNameError
        If a factor is unknown, or no backbone has a value; the message gives what comes near.

    Examples
    --------
    >>> from iqa_metrics import select
    >>> [record.name for record in select(goal="rotation", family="ResNet")]
    ['resnet50.rotnet', 'resnet50.rotnet_in22k']
    """
    if among is None:
        from iqa_metrics.backbones.catalogue import all_backbones

        among = all_backbones()
    found = everything = list(among)
    for name, wanted in factors.items():
        values = lookup("factor", name, _QUERIED)
        known = {text.lower(): text for record in everything for text in values(record) if text}
        lookup(f"{name} among the backbones", wanted.lower(), known)
        found = [r for r in found if wanted.lower() in (text.lower() for text in values(r))]
    return tuple(found)
