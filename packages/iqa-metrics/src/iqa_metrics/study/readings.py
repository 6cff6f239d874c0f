"""Everything that is read out of a network for one pair of images, in one pass."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from iqa_metrics import readouts
from iqa_metrics.backbones import Backbone
from iqa_metrics.compute.features import Reference
from iqa_metrics.metrics.trunks import NetworkModule, extractor_of

ELEMENTS = "elements"
"""Number of elements of a layer's response to one image: joint concatenations need it."""
SQUARES = "channel_squares"
"""Squared differences of each channel: weights of channels are learned from them."""


def squares_of(layer: str) -> str:
    """Return what the squares of a layer are kept as; each is asked for by itself."""
    return f"{SQUARES}:{layer}"


@dataclass(frozen=True)
class Column:
    """Some neighbouring columns of a table of readings.

    Attributes
    ----------
    layer
        Name of the layer.
    reading
        Name of a readout, ``elements`` or ``channel_squares``.
    first, last
        The columns: from the first, to before the last.
    """

    layer: str
    reading: str
    first: int
    last: int


class Readings(NetworkModule):
    """Readouts of layers, beside the layers' sizes and what weights of channels are learned from.

    Calling it takes images as a :class:`iqa_metrics.Metric` does and returns a table, float64
    ``[N, K]``, whose columns :attr:`columns` names. One pass of the images yields all of it.

    Parameters
    ----------
    record
        The network.
    layers
        Names of its layers.
    wanted
        Names of readouts without weights, of ``elements`` and of ``channel_squares``.
    network
        The record's own network, where it is built already; it is the module's from then on.

    Raises
    ------
    UnknownNameError
        If a layer or a readout is unknown.
    WeightsError
        If the network's weights are missing or damaged.
    """

    def __init__(
        self,
        record: Backbone,
        layers: Sequence[str],
        wanted: Sequence[str],
        network: nn.Module | None = None,
    ) -> None:
        super().__init__(check="off")  # what was decoded is in [0, 1]
        self.name = record.name
        self.layers = record.in_order(layers)
        self.wanted = tuple(dict.fromkeys(wanted))
        self._read = tuple(record.layer(name) for name in self.layers)
        self.input_size = record.input_size
        self.columns = tuple(self._columns())
        self.extractor = extractor_of(record, self.layers, network=network)

    def forward(self, reference: Tensor, distorted: Tensor) -> Tensor:
        """Return the table, ``[N, K]``. Raises ImageError as a metric does."""
        self.check_inputs(reference, distorted)
        return self._streamed(reference, distorted, self.compare)

    def compare(self, reference: Reference, distorted: Tensor) -> Tensor:
        """Return the table for images that were already checked."""
        columns: list[Tensor] = []

        def read(_: str, x: Tensor, y: Tensor) -> None:
            with readouts.sharing():
                columns.extend(_read(name, x, y) for name in self.wanted)

        self.extractor.visit_pair(reference, distorted, self.layers, read)
        return torch.cat(columns, dim=1)

    def _compare(self, map: bool) -> Callable[[Reference, Tensor], Tensor]:
        return self.compare

    def _columns(self) -> list[Column]:
        found: list[Column] = []
        at = 0
        for layer in self._read:
            for name in self.wanted:
                width = layer.channels if name == SQUARES else 1
                found.append(Column(layer.name, name, at, at + width))
                at += width
        return found


def _read(name: str, x: Tensor, y: Tensor) -> Tensor:
    if name == ELEMENTS:
        return y.new_full((len(y), 1), readouts.elements(y), dtype=torch.float64)
    if name == SQUARES:
        return readouts.channel_squares(x, y)
    values: Tensor = readouts.readout(name).function(x, y).double()
    return values[:, None]
