"""Specs: readable names of metrics, the same in Python, on the command line and over HTTP.

A spec is a metric's name (``psnr``, ``lpips_alex``, ``default``) or
``BACKBONE:LAYERS:READOUT[:CONCATENATION]``:

``efficientnet_lite0:block12:euclidean``
    One layer.
``efficientnet_lite0:stem+block12:euclidean:joint``
    Two layers, with their feature maps laid end to end.
``efficientnet_lite0:0.5*stem+block12:cosine:sum``
    Half of one layer's distance plus the other's.
``timm:resnet18.a1_in1k:layer3.1:rmse``
    A layer of one of timm's networks.

A printed spec lists layers from input to output, whatever order they were given in. Parsing a
printed spec and printing it again gives the same text. In a spec that you write, ``joint`` can be
left out for readouts that have this form.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from iqa_metrics.backbones import BACKBONES, Backbone, all_backbones, backbone
from iqa_metrics.backbones.timm_models import PREFIX
from iqa_metrics.names import UnknownNameError, lookup, same_letters, spelt
from iqa_metrics.readouts import CONCATENATIONS, Concatenation, Readout, all_readouts, readout
from iqa_metrics.registry import Registry

Named = TypeVar("Named")
Found = TypeVar("Found")


@dataclass(frozen=True)
class NamedSpec:
    """A metric that has a name of its own."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class DeepSpec:
    """A deep distance.

    Attributes
    ----------
    backbone
        Name of the backbone.
    layers
        Names of its layers, from input to output.
    readout
        Name of the readout.
    concatenation
        How several layers give one distance; None for the plain distance of a single layer.
    layer_weights
        The weights of the layers in a sum, in the order of the layers; None if all are 1.
    """

    backbone: str
    layers: tuple[str, ...]
    readout: str
    concatenation: Concatenation | None = None
    layer_weights: tuple[float, ...] | None = None

    def __str__(self) -> str:
        weights = self.layer_weights or (1.0,) * len(self.layers)
        terms = [
            name if weight == 1 else f"{_number(weight)}*{name}"
            for name, weight in zip(self.layers, weights, strict=True)
        ]
        parts = [self.backbone, "+".join(terms), self.readout]
        return ":".join([*parts, self.concatenation] if self.concatenation else parts)


MetricSpec = NamedSpec | DeepSpec

_NUMBER = re.compile(r"-?[0-9]*\.?[0-9]+(e-?[0-9]+)?|inf|nan", re.ASCII)


def deep_spec(
    record: Backbone,
    layers: Sequence[str],
    read_by: str | Readout,
    concatenation: str | None = None,
    layer_weights: Sequence[float] | None = None,
) -> DeepSpec:
    """Check every part of a deep distance, and return its spec in the canonical form.

    Parameters
    ----------
    record
        The backbone.
    layers
        Names of layers, in any order.
    read_by
        A readout, or its name.
    concatenation
        ``joint``, ``sum`` or ``sum_per_element``. The default for several layers is ``joint``.
    layer_weights
        The weights of the layers in a sum, in the order of ``layers``.

    Raises
    ------
    UnknownNameError
        If a name is unknown.
    ValueError
        If layers are missing or named twice, if the weights do not fit, or if the concatenation is
        ``joint``, given or by default, and the readout has no such form.
    """
    chosen = readout(read_by)
    ordered = record.in_order(layers)
    if not ordered:
        raise ValueError("layers: expected at least one layer name, got none")
    if len(ordered) != len(layers):
        raise ValueError(f"layers: expected each layer once, got {'+'.join(layers)}")
    weights = _in_order(layer_weights, layers, ordered)
    kind = _concatenation(concatenation, chosen, len(ordered), weights)
    return DeepSpec(record.name, ordered, chosen.name, kind, weights)


def parse_spec(text: str, named: Registry[Named], networks: Iterable[str] = ()) -> MetricSpec:
    """Parse a spec, and check every name in it.

    Parameters
    ----------
    text
        The spec.
    named
        The metrics that have a name of their own.
    networks
        Names of backbones, in which a name that is neither is looked for among the layers.

    Raises
    ------
    UnknownNameError
        If the text is not a spec, or has an unknown name. The message gives the nearest names, and
        the error's ``code`` says which kind of name is unknown.
    """
    if not isinstance(text, str):
        raise _bad_spec(f"expected a metric spec as text, got {type(text).__name__}")
    text = text.strip()
    if ":" not in text:
        name = named.canonical(text)
        if name is not None:
            return NamedSpec(name)
        raise _unknown_metric(text, named, networks)
    # The colon after "timm" belongs to the backbone's name.
    of_timm = PREFIX if text.startswith(PREFIX) else ""
    parts = text.removeprefix(of_timm).split(":")
    if len(parts) not in (3, 4) or not all(parts):
        raise _bad_spec(
            f"spec {text!r} has {len(parts)} parts or an empty part; expected "
            f"{_FORM}, such as efficientnet_lite0:block12:euclidean"
        )
    terms = [_term(term, text) for term in parts[1].split("+")]
    layers, weights = zip(*terms, strict=True)
    kind = parts[3] if len(parts) == 4 else None
    try:
        return deep_spec(backbone(of_timm + parts[0]), layers, parts[2], kind, weights)
    except UnknownNameError as error:
        near = _corrected(of_timm + parts[0], layers, parts[2], kind, weights)
        if near is None:
            raise
        message = f"{error} The whole spec would be {near!r}"
        raise UnknownNameError(message, error.code, error.suggestions) from None
    except ValueError as error:
        raise _bad_spec(f"spec {text!r}: {error}") from error


_FORM = "BACKBONE:LAYER[+LAYER...]:READOUT[:CONCATENATION]"


def _corrected(
    network: str,
    layers: Sequence[str],
    read_by: str,
    kind: str | None,
    weights: Sequence[float],
) -> str | None:
    """Return a spec in which the nearest known names stand for unknown ones, or None."""
    kinds: dict[str, str] = {name: name for name in CONCATENATIONS}
    try:
        record = _nearest(backbone, network)
        known = [_nearest(record.layer, layer).name for layer in layers]
        chosen = _nearest(readout, read_by)
        if kind is not None:
            kind = _nearest(lambda name: lookup("concatenation", name, kinds), kind)
        return str(deep_spec(record, known, chosen, kind, weights))
    except ValueError:
        return None


def _nearest(find: Callable[[str], Found], name: str) -> Found:
    """Return what has that name, or else what has the nearest one."""
    try:
        return find(name)
    except UnknownNameError as error:
        if not error.suggestions:
            raise
        return find(error.suggestions[0])


def _unknown_metric(text: str, named: Registry[Named], networks: Iterable[str]) -> UnknownNameError:
    try:
        backbones = [record.name for record in all_backbones()]
    except ValueError:  # one of the user's own records can't be read
        backbones = [record.name for record in BACKBONES]
    error = named.unknown(text, f"Expected one of those or {_FORM}", backbones)
    if any(same_letters(text, near) for near in error.suggestions if near not in backbones):
        return error  # a metric's name, spelt otherwise
    other = _other_kind(text, backbones, networks)
    if other is None:
        return error
    sentence, near = other
    others = [name for name in error.suggestions if name != near]
    return UnknownNameError(sentence, "unknown_metric", (near, *others))


def _other_kind(
    text: str, backbones: Iterable[str], networks: Iterable[str]
) -> tuple[str, str] | None:
    """Say that a name is a backbone's, a layer's or a readout's, if it is; return the name too."""
    name = spelt(text, backbones)
    if name is not None:
        return (
            f"{text!r} is a backbone, not a metric{_spelt(text, name)}; expected {_FORM}, such as "
            f"{name}:{backbone(name).layers[-1].name}:rmse; 'iqa list layers {name}' lists its "
            "layers",
            name,
        )
    for network in networks:
        name = spelt(text, [layer.name for layer in backbone(network).layers])
        if name is not None:
            return (
                f"{text!r} is a layer of {network}, not a metric{_spelt(text, name)}; expected "
                f"{_FORM}, such as {network}:{name}:rmse",
                name,
            )
    name = spelt(text, [one.name for one in all_readouts()])
    if name is not None:
        return (
            f"{text!r} is a readout, not a metric{_spelt(text, name)}; expected {_FORM}, such as "
            f"efficientnet_lite0:block12:{name}",
            name,
        )
    return None


def _spelt(text: str, name: str) -> str:
    return "" if text == name else f" (spelt {name!r})"


def _bad_spec(message: str) -> UnknownNameError:
    return UnknownNameError(message, "bad_spec")


def _term(term: str, text: str) -> tuple[str, float]:
    """Return the layer and the weight in ``[WEIGHT*]LAYER``."""
    weight, star, layer = term.rpartition("*")
    if star and not _NUMBER.fullmatch(weight):
        raise _bad_spec(f"spec {text!r}: expected a number before '*', got {weight!r}")
    return layer, float(weight) if star else 1.0


def _in_order(
    weights: Sequence[float] | None, layers: Sequence[str], ordered: Sequence[str]
) -> tuple[float, ...] | None:
    """Return the weights in the order of the network's layers, or None if all are 1."""
    if weights is None:
        return None
    if len(weights) != len(layers):
        raise ValueError(
            f"layer_weights: expected {len(layers)} weights for {len(layers)} layers, got "
            f"{len(weights)}"
        )
    if all(weight == 1 for weight in weights):
        return None
    if not all(math.isfinite(weight) and weight > 0 for weight in weights):
        raise ValueError(f"layer_weights: expected positive numbers, got {list(weights)}")
    of_layer = dict(zip(layers, weights, strict=True))
    return tuple(float(of_layer[name]) for name in ordered)


def _concatenation(
    asked: str | None, chosen: Readout, layers: int, weights: tuple[float, ...] | None
) -> Concatenation | None:
    known: dict[str, Concatenation] = {name: name for name in CONCATENATIONS}
    kind = None if asked is None else lookup("concatenation", asked, known)
    if weights is not None and kind in (None, "joint"):
        raise ValueError(
            "layer weights need a concatenation: expected 'sum' or 'sum_per_element', got "
            f"{kind or 'none'}"
        )
    if chosen.joint is None and (kind == "joint" or (kind is None and layers > 1)):
        raise ValueError(
            f"readout {chosen.name!r} has no 'joint' form; expected the concatenation 'sum' or "
            "'sum_per_element'"
        )
    if layers > 1:
        return kind or "joint"
    # For a single layer, joint and plain are the same.
    return kind if kind == "sum_per_element" or weights is not None else None


def _number(value: float) -> str:
    """Return the shortest text that reads back as the value, without ``+``, which joins layers."""
    text = repr(float(value)).replace("e+", "e")
    return text.removesuffix(".0")
