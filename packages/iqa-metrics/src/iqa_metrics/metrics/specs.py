"""Specs: one readable name for a metric, the same in Python, on the command line and over HTTP.

A spec is a metric's name (``psnr``, ``default``) or ``BACKBONE:LAYER[+LAYER...]:READOUT``, such as
``efficientnet_lite0:block12:euclidean``. Layers are written from input to output; parsing and
printing a spec gives the same text again.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from iqa_metrics.backbones import backbone
from iqa_metrics.names import UnknownNameError, nearest
from iqa_metrics.readouts import readout


@dataclass(frozen=True)
class NamedSpec:
    """A metric that has a name of its own."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class DeepSpec:
    """A deep distance: backbone, layers from input to output, readout."""

    backbone: str
    layers: tuple[str, ...]
    readout: str

    def __str__(self) -> str:
        return f"{self.backbone}:{'+'.join(self.layers)}:{self.readout}"


MetricSpec = NamedSpec | DeepSpec


def parse_spec(text: str, named: Iterable[str]) -> MetricSpec:
    """Parse a spec, checking every name in it.

    Parameters
    ----------
    text
        The spec.
    named
        The metrics that have names of their own.

    Raises
    ------
    UnknownNameError
        If it does not parse or holds an unknown name. The message gives the nearest names.
    """
    names = list(named)
    if not isinstance(text, str):
        raise UnknownNameError(f"expected a metric spec as text, got {type(text).__name__}")
    text = text.strip()
    if ":" not in text:
        if text in names:
            return NamedSpec(text)
        raise UnknownNameError(
            f"unknown metric {text!r}; {nearest(text, names)} "
            "Expected one of those or BACKBONE:LAYER[+LAYER...]:READOUT"
        )
    parts = text.split(":")
    if len(parts) != 3 or not all(parts):
        raise UnknownNameError(
            f"spec {text!r} has {len(parts)} parts, or an empty one; expected "
            "BACKBONE:LAYER[+LAYER...]:READOUT, such as efficientnet_lite0:block12:euclidean"
        )
    record = backbone(parts[0])
    layers = parts[1].split("+")
    ordered = record.in_order(layers)
    if len(ordered) != len(layers):
        raise UnknownNameError(f"spec {text!r} names a layer twice")
    return DeepSpec(record.name, ordered, readout(parts[2]).name)
