"""The table under everything that reads layers: columns of layers and readouts, from one pass."""

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from iqa_metrics import readouts
from iqa_metrics.backbones import Backbone, Layer
from iqa_metrics.backbones.layers import SURELY_ENOUGH, only_size
from iqa_metrics.compute.devices import with_float64
from iqa_metrics.compute.extractors import extractor_of
from iqa_metrics.compute.features import FeatureExtractor, Reference
from iqa_metrics.compute.pair_module import Check, PairModule
from iqa_metrics.compute.steady import Constant
from iqa_metrics.compute.tracing import traced
from iqa_metrics.io.decoding import ImageError
from iqa_metrics.metrics.columns import Column, Reading, Readings, constant_of
from iqa_metrics.readouts import Readout

_MOST_PAIRS_IN_ONE_THREAD = 7
"""With a single thread, torch computes 1x1 convolutions of 16 or more images (8 pairs) with another
kernel than those of fewer. Values would then depend on how many pairs share a pass."""


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
    persistent
        Save the channel weights in ``state_dict()``, and load them from it. The network's weights
        are never in it, since they can be had again.
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
        persistent: bool = False,
        check: Check = "error",
    ) -> None:
        super().__init__(check=check)
        from iqa_metrics import backbones

        record = backbone if isinstance(backbone, Backbone) else backbones.backbone(backbone)
        wanted = tuple(columns)
        if not wanted:
            raise ValueError("columns: expected at least one")
        if extractor is not None and not (weights is None and trunk is None and network is None):
            raise ValueError("extractor: it has a network; leave out weights, trunk and network")
        if unreached not in ("error", "nan"):
            raise ValueError(f"unreached: expected 'error' or 'nan', got {unreached!r}")
        layers = record.in_order(column.layer for column in wanted)
        if extractor is not None and not set(layers) <= set(extractor.layers):
            lacking = ", ".join(name for name in layers if name not in extractor.layers)
            raise ValueError(f"extractor: it was made without the layers {lacking}")
        read_layers = {name: record.layer(name) for name in layers}
        chosen = [readouts.readout(column.readout) for column in wanted]
        constants = [
            constant_of(column, readout, read_layers[column.layer], persistent=persistent)
            for column, readout in zip(wanted, chosen, strict=True)
        ]
        self._assemble(
            record.name,
            read_layers,
            [Reading(c.layer, r) for c, r in zip(wanted, chosen, strict=True)],
            constants,
            extractor or extractor_of(record, layers, weights, trunk, network=network),
            unreached,
        )

    def _assemble(
        self,
        name: str,
        read_layers: Mapping[str, Layer],
        columns: Sequence[Reading],
        constants: Iterable[nn.Module],
        extractor: FeatureExtractor,
        unreached: str,
    ) -> None:
        self.name, self.unreached = name, unreached
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
        # With "nan", a size is refused only if no layer takes it.
        sizes = {layer.input_size for layer in read_layers.values()}
        if unreached == "error" or (len(sizes) == 1 and None not in sizes):
            self.input_size = only_size(read_layers.values())

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
        return as_threads_allow(super().most_pairs(distorted), distorted)

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
        for option in ("unreached", "check"):
            if len({getattr(table, option) for table in tables}) > 1:
                raise ValueError(f"tables: expected the same {option} of all")
        layers = {name: layer for table in tables for name, layer in table.read_layers.items()}
        union = cls.__new__(cls)
        PairModule.__init__(union, check=first.check)
        union._assemble(
            first.name,
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
            x, y = with_float64(x, y)
            # A compiler finds by itself what columns have in common, and one column shares nothing.
            alone = len(here) == 1 or traced()
            with contextlib.nullcontext() if alone else readouts.sharing():
                for number, column in here:
                    function, weights = function_of(column.readout), self.channel_weights(number)
                    value = (
                        function(x, y) if weights is None else function(x, y, weights.to(y.device))
                    )
                    if value.ndim != 1 + column.readout.per_channel and value.ndim != 4:
                        raise ValueError(
                            f"readout {column.readout.name!r}: expected one value per pair, [N], "
                            f"or [N, C] with per_channel=True; got {list(value.shape)}"
                        )
                    values[number] = value
                    elements[number] = readouts.elements(y)

        reached = self._reached(distorted)
        if not reached:
            raise ImageError(
                f"{distorted.shape[-1]}x{distorted.shape[-2]} pixels reach no layer of {self.name}",
                "too_small",
            )
        self.extractor.visit_pair(reference, distorted, reached, read)
        if len(reached) < len(self.layers):
            like = next(iter(values.values()))
            for number, (first, last) in enumerate(self.spans):
                if number not in values:
                    values[number] = like.new_full((len(like), last - first), math.nan)
        return Readings([values[number] for number in range(len(self.columns))], elements)

    def refusal(self, layer: str, height: int, width: int) -> str:
        """Return why images of a size do not reach a layer, with a code; empty if they do."""
        facts = self.read_layers[layer]
        if facts.input_size is not None:
            if height == width == facts.input_size:
                return ""
            size = f"{facts.input_size}x{facts.input_size}"
            return f"wrong_size: {width}x{height} pixels; this layer needs exactly {size}"
        least = min(height, width)
        # Finding the smallest input takes a moment, so it is only done for small images.
        if least >= self.surely_enough or least >= facts.smallest_input:
            return ""
        return (
            f"too_small: the shorter side has {least} pixels; this layer needs at least "
            f"{facts.smallest_input}"
        )

    def _reached(self, images: Tensor) -> tuple[str, ...]:
        if self.unreached == "error":
            return self.layers
        height, width = images.shape[-2:]
        return tuple(name for name in self.layers if not self.refusal(name, height, width))

    def _compare(self, map: bool, *, masked: bool = False) -> Callable[..., Tensor]:
        if masked:
            raise ValueError(f"{self.name}: a mask is given to a metric; expected none")
        if map:
            raise ValueError(
                f"a layer table has no map; make a DeepDistance of {self.name} for its map"
            )
        return self.compare

    # Measured for one size of image, and assumed to be proportional to the number of pixels.
    _widest_per_pixel: float | None = None


def as_threads_allow(most: int, distorted: Tensor) -> int:
    """Return how many pairs may share a pass, so that values do not depend on that."""
    if distorted.device.type == "cpu" and torch.get_num_threads() == 1:
        return min(most, _MOST_PAIRS_IN_ONE_THREAD)
    return most
