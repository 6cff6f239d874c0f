"""The table under everything that reads layers: columns of layers and readouts, from one pass."""

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from iqa_metrics import readouts
from iqa_metrics.backbones import Backbone, Layer
from iqa_metrics.backbones.layers import SURELY_ENOUGH
from iqa_metrics.compute.constants import Constant
from iqa_metrics.compute.extractors import extractor_of
from iqa_metrics.compute.features import FeatureExtractor, Reference
from iqa_metrics.compute.pair_module import Check, PairModule
from iqa_metrics.readouts import Readout

LayerWeights = Mapping[str, Tensor | Sequence[float]]
"""The channel weights ``[C]`` of each layer, by the layer's name."""

_MOST_PAIRS_IN_ONE_THREAD = 7
"""With a single thread, torch computes 1x1 convolutions of 16 or more images (8 pairs) with another
kernel than those of fewer. Values would then depend on how many pairs share a pass."""


@dataclass(frozen=True, eq=False)
class Column:
    """A column of a table: one layer, read by one readout.

    Attributes
    ----------
    layer
        Name of the layer.
    readout
        A readout, or its name.
    weights
        Channel weights ``[C]`` for a readout that weighs channels, finite and at least 0.
    """

    layer: str
    readout: Readout | str
    weights: Tensor | Sequence[float] | None = None


@dataclass(frozen=True)
class Reading:
    """A column without its weights: the layer's name, and the readout itself."""

    layer: str
    readout: Readout


@dataclass(frozen=True)
class Readings:
    """The result of a pass, column by column.

    Attributes
    ----------
    values
        The values of each column: ``[N]``, or ``[N, C]`` if the readout gives one per channel. Maps
        are ``[N, 1, h, w]``.
    elements
        The number of elements of each column's feature map, for one image.
    """

    values: list[Tensor]
    elements: list[int]


class LayerTable(PairModule):
    """Any readouts of any layers of a backbone, from one forward pass.

    Calling it takes images like a :class:`Metric`, with the same checks, chunks and precision, and
    returns a table ``[N, K]``, one row per pair. Reference and distorted images go through the
    network in one batch, a layer's feature map exists only while its columns are read, and nothing
    after the last layer is computed.

    Parameters
    ----------
    backbone
        A backbone, or its name.
    columns
        What is read. A column takes one place in the table or, if its readout gives one value per
        channel, as many as the layer has channels; see :attr:`spans`.
    weights
        A file with the network's state dict, whose content the caller has checked; by default the
        backbone's published weights.
    trunk
        Your own network with the backbone's architecture: the whole network, or only the part that
        the backbone uses. It is copied.
    network
        The network that :meth:`Backbone.network` returned, if it was built already. The table may
        change it, so do not use it for anything else.
    extractor
        An extractor that has all the layers, to share it with another table.
    unreached
        What to do with images that are too small for some of the layers: ``"error"`` refuses them,
        ``"nan"`` gives NaN in the columns of those layers.
    check
        As for :class:`Metric`.

    Attributes
    ----------
    columns
        The layer and the readout of each column, in the given order.
    layers
        Names of the layers that are read, from input to output.
    spans
        The range of places that each column takes in the table, as ``(first, end)``; ``end`` is
        excluded.

    Raises
    ------
    UnknownNameError
        If the backbone, a layer or a readout is unknown.
    ValueError
        If there is no column, or if channel weights are missing, not needed, or do not fit.
    WeightsError
        If the backbone's weights are missing or damaged.

    Examples
    --------
    >>> import torch
    >>> from iqa_metrics import Column, LayerTable
    >>> table = LayerTable(
    ...     "efficientnet_lite0", [Column("block3", "rmse"), Column("block9", "cosine")]
    ... )
    >>> table(torch.zeros(2, 3, 64, 64), torch.ones(2, 3, 64, 64)).shape
    torch.Size([2, 2])
    """

    surely_enough = SURELY_ENOUGH

    def __init__(
        self,
        backbone: Backbone | str,
        columns: Iterable[Column],
        *,
        weights: str | Path | None = None,
        trunk: nn.Module | None = None,
        network: nn.Module | None = None,
        extractor: FeatureExtractor | None = None,
        unreached: str = "error",
        check: Check = "error",
    ) -> None:
        super().__init__(check=check)
        from iqa_metrics import backbones

        record = backbone if isinstance(backbone, Backbone) else backbones.backbone(backbone)
        wanted = tuple(columns)
        if not wanted:
            raise ValueError("columns: expected at least one")
        if unreached not in ("error", "nan"):
            raise ValueError(f"unreached: expected 'error' or 'nan', got {unreached!r}")
        layers = record.in_order(column.layer for column in wanted)
        read_layers = {name: record.layer(name) for name in layers}
        chosen = [readouts.readout(column.readout) for column in wanted]
        constants = [
            _constant(column, readout, read_layers[column.layer])
            for column, readout in zip(wanted, chosen, strict=True)
        ]
        self._assemble(
            record.name,
            record.input_size,
            read_layers,
            [Reading(c.layer, r) for c, r in zip(wanted, chosen, strict=True)],
            constants,
            extractor or extractor_of(record, layers, weights, trunk, network=network),
            unreached,
        )

    def _assemble(
        self,
        name: str,
        input_size: int | None,
        read_layers: Mapping[str, Layer],
        columns: Sequence[Reading],
        constants: Iterable[nn.Module],
        extractor: FeatureExtractor,
        unreached: str,
    ) -> None:
        self.name, self.input_size, self.unreached = name, input_size, unreached
        self.read_layers, self.layers = read_layers, tuple(read_layers)
        self.columns = tuple(columns)
        self.constants = nn.ModuleList(constants)
        widths = [
            read_layers[column.layer].channels if column.readout.per_channel else 1
            for column in columns
        ]
        ends = list(itertools.accumulate(widths))
        self.spans = tuple(zip([0, *ends[:-1]], ends, strict=True))
        self.extractor = extractor

    def forward(self, reference: Tensor, distorted: Tensor) -> Tensor:
        """Return the table, ``[N, K]``. Raises ImageError like a :class:`Metric`."""
        table: Tensor = super().forward(reference, distorted)
        return table

    def compare(self, reference: Reference, distorted: Tensor) -> Tensor:
        """Return the table for images that were already checked."""
        values = self.readings(reference, distorted).values
        return torch.cat([v if v.ndim == 2 else v[:, None] for v in values], dim=1)

    def readings(self, reference: Reference, distorted: Tensor) -> Readings:
        """Return the columns' values for images that were already checked."""
        return self._visit(reference, distorted, lambda readout: readout.function)

    def maps(self, reference: Reference, distorted: Tensor) -> Readings:
        """Return the columns' maps likewise. Each readout must have one, or it is a ValueError."""

        def map_of(readout: Readout) -> Callable[..., Tensor]:
            if readout.map is None:
                raise ValueError(f"readout {readout.name!r} has no map")
            return readout.map

        return self._visit(reference, distorted, map_of)

    def channel_weights(self, column: int) -> Tensor | None:
        """Return a column's channel weights, float32 ``[C]``, or None if it has none."""
        constant = self.constants[column]
        return constant.values if isinstance(constant, Constant) else None

    @property
    def smallest_input(self) -> int:  # type: ignore[override]
        """Least height and width, in pixels."""
        limits = [layer.smallest_input for layer in self.read_layers.values()]
        return max(limits) if self.unreached == "error" else min(limits)

    def remember(self, reference: Tensor) -> Reference:
        """Return the feature maps of one reference, in the layers that are read."""
        return self.extractor.remember(reference, self._reached(reference))

    def pair_bytes(self, height: int, width: int) -> int:
        """Return roughly the peak memory that one pair takes, in bytes."""
        pixels = height * width
        scaled_images = 2 * 3 * 4 * pixels
        if self._widest_per_pixel is None:
            widest = self.extractor.widest(height, width, self.layers)
            if not widest:  # the image does not reach all layers, or the network can't be probed
                return scaled_images
            self._widest_per_pixel = widest / pixels
        return scaled_images + math.ceil(2 * self._widest_per_pixel * pixels)

    def most_pairs(self, distorted: Tensor) -> int:
        """Return how many pairs go through the network at once, at most."""
        return _as_threads_allow(super().most_pairs(distorted), distorted)

    @classmethod
    def union(cls, tables: Sequence["LayerTable"]) -> "LayerTable":
        """Return one table with the columns of several tables, in their order.

        It shares the channel weights and the network of these tables.

        Raises
        ------
        ValueError
            If there is no table, or if the tables do not share one extractor.
        """
        if not tables:
            raise ValueError("tables: expected at least one, got none")
        first = tables[0]
        if any(table.extractor is not first.extractor for table in tables):
            raise ValueError(
                "tables: expected tables that share one network, but their networks are not the "
                "same object; call share_network() first"
            )
        layers = {name: layer for table in tables for name, layer in table.read_layers.items()}
        union = cls.__new__(cls)
        PairModule.__init__(union, check=first.check)
        union._assemble(
            first.name,
            first.input_size,
            {name: layers[name] for name in first.extractor.layers if name in layers},
            [column for table in tables for column in table.columns],
            [constant for table in tables for constant in table.constants],
            first.extractor,
            first.unreached,
        )
        union.memory = first.memory
        return union

    def _visit(
        self,
        reference: Reference,
        distorted: Tensor,
        function_of: Callable[[Readout], Callable[..., Tensor]],
    ) -> Readings:
        values: dict[int, Tensor] = {}
        elements = [0] * len(self.columns)

        def read(layer: str, x: Tensor, y: Tensor) -> None:
            here = [(n, column) for n, column in enumerate(self.columns) if column.layer == layer]
            # A compiler finds by itself what columns have in common, and one column shares nothing.
            alone = len(here) == 1 or torch.compiler.is_compiling()
            with contextlib.nullcontext() if alone else readouts.sharing():
                for number, column in here:
                    function, weights = function_of(column.readout), self.channel_weights(number)
                    value = function(x, y) if weights is None else function(x, y, weights)
                    if value.ndim != 1 + column.readout.per_channel and value.ndim != 4:
                        raise ValueError(
                            f"readout {column.readout.name!r}: expected one value per pair, [N], "
                            f"or [N, C] with per_channel=True; got {list(value.shape)}"
                        )
                    values[number] = value
                    elements[number] = readouts.elements(y)

        reached = self._reached(distorted)
        self.extractor.visit_pair(reference, distorted, reached, read)
        if len(reached) < len(self.layers):
            like = next(iter(values.values()))
            for number, (first, last) in enumerate(self.spans):
                if number not in values:
                    values[number] = like.new_full((len(like), last - first), math.nan)
        return Readings([values[number] for number in range(len(self.columns))], elements)

    def _reached(self, images: Tensor) -> tuple[str, ...]:
        least = min(images.shape[-2:])
        if self.unreached == "error" or least >= self.surely_enough:
            return self.layers
        return tuple(n for n in self.layers if self.read_layers[n].smallest_input <= least)

    def _compare(self, map: bool) -> Callable[[Reference, Tensor], Tensor]:
        if map:
            raise ValueError(
                f"a layer table has no map; make a DeepDistance of {self.name} for its map"
            )
        return self.compare

    # Measured for one size of image, and assumed to be proportional to the number of pixels.
    _widest_per_pixel: float | None = None


class TableModule(PairModule):
    """A module that computes its values from the columns of a :class:`LayerTable`.

    Attributes
    ----------
    table
        The table.
    """

    table: LayerTable
    surely_enough = SURELY_ENOUGH

    @property
    def extractor(self) -> FeatureExtractor:
        """The extractor with the table's network."""
        return self.table.extractor

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that are read, from input to output."""
        return self.table.layers

    @property
    def smallest_input(self) -> int:  # type: ignore[override]
        """Least height and width, in pixels."""
        return self.table.smallest_input

    def remember(self, reference: Tensor) -> Reference:
        """Return the feature maps of one reference, in the layers that are read."""
        return self.table.remember(reference)

    def pair_bytes(self, height: int, width: int) -> int:
        """Return roughly the peak memory that one pair takes, in bytes."""
        return self.table.pair_bytes(height, width)

    def most_pairs(self, distorted: Tensor) -> int:
        """Return how many pairs go through the network at once, at most."""
        return _as_threads_allow(super().most_pairs(distorted), distorted)


def weights_by_layer(
    weights: LayerWeights | None, wanted: Sequence[str]
) -> dict[str, Tensor | Sequence[float]]:
    """Return the channel weights by layer, after checking that they are complete.

    Parameters
    ----------
    weights
        The weights that were given.
    wanted
        Names of the layers that need weights.

    Raises
    ------
    ValueError
        If a layer that needs weights has none, or if another layer has some.
    """
    given = dict(weights or {})
    if set(given) != set(wanted):
        raise ValueError(
            "channel_weights: expected {layer: [C]} for "
            f"{', '.join(wanted) or 'no layer, since no readout weighs channels'}, got "
            f"{', '.join(given) or 'none'}"
        )
    return given


def _as_threads_allow(most: int, distorted: Tensor) -> int:
    if distorted.device.type == "cpu" and torch.get_num_threads() == 1:
        return min(most, _MOST_PAIRS_IN_ONE_THREAD)
    return most


def _constant(column: Column, readout: Readout, layer: Layer) -> nn.Module:
    """Return the module that holds a column's channel weights, once they are checked."""
    weights = column.weights
    if not readout.weighted:
        if weights is not None:
            raise ValueError(
                f"channel_weights: readout {readout.name!r} takes none; weighted_euclidean and "
                "weighted_lpips do"
            )
        return nn.Identity()
    if weights is None:
        raise ValueError(
            f"channel_weights: readout {readout.name!r} weighs channels; expected "
            f"{{{layer.name!r}: [{layer.channels}]}}, got none"
        )
    values = torch.as_tensor(weights, dtype=torch.float32)
    if values.shape != (*readout.weight_sets, layer.channels):
        raise ValueError(
            f"channel_weights: layer {layer.name} has {layer.channels} channels; expected "
            f"[{layer.channels}], got {list(values.shape)}"
        )
    if not bool((torch.isfinite(values) & (values >= 0)).all()):
        raise ValueError(
            f"channel_weights: layer {layer.name}: expected finite values of at least 0"
        )
    return Constant(values)
