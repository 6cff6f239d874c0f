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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from iqa_metrics.backbones import Backbone, backbone
from iqa_metrics.backbones.timm_models import PREFIX
from iqa_metrics.names import UnknownNameError, lookup
from iqa_metrics.readouts import CONCATENATIONS, Concatenation, Readout, readout
from iqa_metrics.registry import Registry

Named = TypeVar("Named")


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


def parse_spec(text: str, named: Registry[Named]) -> MetricSpec:
    """Parse a spec, and check every name in it.

    Parameters
    ----------
    text
        The spec.
    named
        The metrics that have a name of their own.

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
        if named.find(text) is not None:
            return NamedSpec(text)
        raise _unknown_metric(text, named)
    # The colon after "timm" belongs to the backbone's name.
    of_timm = PREFIX if text.startswith(PREFIX) else ""
    parts = text.removeprefix(of_timm).split(":")
    if len(parts) not in (3, 4) or not all(parts):
        raise _bad_spec(
            f"spec {text!r} has {len(parts)} parts or an empty part; expected "
            "BACKBONE:LAYER[+LAYER...]:READOUT[:CONCATENATION], such as "
            "efficientnet_lite0:block12:euclidean"
        )
    terms = [_term(term, text) for term in parts[1].split("+")]
    layers, weights = zip(*terms, strict=True)
    kind = parts[3] if len(parts) == 4 else None
    try:
        return deep_spec(backbone(of_timm + parts[0]), layers, parts[2], kind, weights)
    except UnknownNameError:
        raise
    except ValueError as error:
        raise _bad_spec(f"spec {text!r}: {error}") from error


def _unknown_metric(text: str, named: Registry[Named]) -> UnknownNameError:
    expected = "BACKBONE:LAYER[+LAYER...]:READOUT[:CONCATENATION]"
    try:
        backbone(text)
    except ValueError:  # not a backbone, or the file of the user's own record can't be read
        return named.unknown(text, f"Expected one of those or {expected}")
    return UnknownNameError(
        f"{text!r} is a backbone, not a metric; expected {expected}, such as {text}:LAYER:rmse; "
        f"'iqa list layers {text}' lists its layers",
        "unknown_metric",
    )


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
