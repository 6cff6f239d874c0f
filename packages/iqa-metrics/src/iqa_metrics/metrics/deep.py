"""Distances inside pretrained networks."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iqa_metrics import backbones, readouts
from iqa_metrics.backbones import Backbone
from iqa_metrics.compute.features import Reference
from iqa_metrics.metrics.contract import Check, Metric
from iqa_metrics.metrics.specs import deep_spec
from iqa_metrics.metrics.trunks import ChannelWeights, NetworkModule, extractor_of
from iqa_metrics.readouts import Readout

LayerWeights = Mapping[str, Tensor | Sequence[float]]


class DeepDistance(NetworkModule, Metric):
    """A distance between the responses of a pretrained network to two images.

    The study's metric: pass both images, take one layer (or several, concatenated), and measure how
    far apart the responses are. Identical images give 0. Range ``[0, inf)``; some readouts have a
    top, which their functions state.

    Both images go through the network in one batch, one layer's response exists at a time, and
    nothing after the last layer is computed. The network is frozen and stays in eval mode.
    ``.to(device)`` and ``.to(dtype)`` move it; float16 and bfloat16 networks give float32 values.

    There is a map where the readout has one: the layers' values at each position, enlarged to the
    images' size (bilinear) and concatenated as the values are. Networks that pad their convolutions
    little, such as PerceptNet and SqueezeNet, see less of the border: there the map is displaced by
    some pixels.

    Parameters
    ----------
    backbone
        A record of the catalogue, or its name.
    layers
        Name of one layer, or of several in any order.
    readout
        Name of the readout, such as ``"euclidean"``.
    concatenation
        How several layers make one distance: ``"joint"`` (laid end to end, the default where the
        readout has it), ``"sum"`` or ``"sum_per_element"``; see
        :mod:`iqa_metrics.readouts.concatenation`.
    layer_weights
        The layers' weights in a sum, in the order of ``layers``; by default 1.
    channel_weights
        For the weighted readouts: names of the layers to weights ``[C]``, not negative.
    weights
        A file with the trunk's state dict whose content the caller has checked; by default the
        backbone's published weights.
    trunk
        The caller's own network of the backbone's architecture, whole or its trunk. It is copied.
    check
        As for :class:`Metric`.

    Raises
    ------
    UnknownNameError
        If the backbone, a layer, the readout or the concatenation is unknown.
    ValueError
        If weights are missing or do not fit, layers can't be joined, or the trunk is another
        architecture.
    WeightsError
        If the weights are missing or damaged.

    References
    ----------
    P. Hernández-Cámara, J. Vila-Tomás, V. Laparra and J. Malo, "Analysis of Deep Image Quality
    Models", arXiv:2302.13345; Neural Networks 2025, doi 10.1016/j.neunet.2025.107189.
    """

    higher_is_better: ClassVar[bool] = False
    range: ClassVar[tuple[float, float]] = (0.0, math.inf)
    source: ClassVar[str] = "Hernández-Cámara et al., doi 10.1016/j.neunet.2025.107189"

    def __init__(
        self,
        backbone: Backbone | str,
        layers: str | Sequence[str],
        readout: str = "euclidean",
        *,
        concatenation: str | None = None,
        layer_weights: Sequence[float] | None = None,
        channel_weights: LayerWeights | None = None,
        weights: str | Path | None = None,
        trunk: nn.Module | None = None,
        check: Check = "error",
    ) -> None:
        super().__init__(check=check)
        record = backbone if isinstance(backbone, Backbone) else backbones.backbone(backbone)
        names = [layers] if isinstance(layers, str) else list(layers)
        spec = deep_spec(record, names, readout, concatenation, layer_weights)
        self.name = str(spec)
        self.layers = spec.layers
        self.layer_weights = spec.layer_weights or (1.0,) * len(spec.layers)
        self.concatenation = spec.concatenation
        self.readout = readouts.readout(spec.readout)
        self.has_map = self.readout.map is not None
        chosen = [record.layer(name) for name in self.layers]
        self._read = tuple(chosen)
        self.input_size = record.input_size
        if self.readout.weighted and channel_weights is None:
            raise ValueError(
                f"readout {self.readout.name!r} weighs channels: make the metric with "
                "channel_weights={layer: [C]}"
            )
        if channel_weights is not None and not self.readout.weighted:
            raise ValueError(
                f"readout {self.readout.name!r} takes no channel_weights; "
                "weighted_euclidean and weighted_lpips do"
            )
        self.channel_weights = ChannelWeights(
            channel_weights or {}, chosen if self.readout.weighted else []
        )
        self.extractor = extractor_of(record, self.layers, weights, trunk)

    def compare(self, reference: Reference, distorted: Tensor) -> Tensor:
        values: list[Tensor] = []
        counts: list[int] = []

        def read(name: str, x: Tensor, y: Tensor) -> None:
            values.append(self.read(name, x, y))
            counts.append(readouts.elements(y))

        self.extractor.visit_pair(reference, distorted, self.layers, read)
        return self.concatenated(values, counts)

    def compare_map(self, reference: Reference, distorted: Tensor) -> Tensor:
        maps: list[Tensor] = []
        counts: list[int] = []
        map_of = self.readout.map
        if map_of is None:
            raise ValueError(f"readout {self.readout.name!r} has no map")

        def read(name: str, x: Tensor, y: Tensor) -> None:
            layer_map = map_of(x, y, *self._weights_of(name))
            maps.append(enlarged(layer_map, distorted))
            counts.append(readouts.elements(y))

        self.extractor.visit_pair(reference, distorted, self.layers, read)
        return self.concatenated(maps, counts)

    def read(self, layer: str, reference: Tensor, distorted: Tensor) -> Tensor:
        """Return ``[N]`` for one layer's responses to checked images."""
        return self.readout.function(reference, distorted, *self._weights_of(layer))

    def _weights_of(self, layer: str) -> tuple[Tensor, ...]:
        return (self.channel_weights.of(layer),) if self.readout.weighted else ()

    def concatenated(self, values: list[Tensor], counts: list[int]) -> Tensor:
        """Return ``[N]`` out of the layers' values, and how many elements each layer has."""
        if self.concatenation is None:
            return values[0]
        if self.concatenation == "joint" and self.readout.joint is not None:
            return self.readout.joint(values, counts)
        per_element = self.concatenation == "sum_per_element"
        weights = [
            weight / count if per_element else weight
            for weight, count in zip(self.layer_weights, counts, strict=True)
        ]
        return readouts.weighted_sum(values, weights)


class FeatureReadouts(NetworkModule):
    """Any number of readouts over any layers of a network, out of one forward pass.

    Calling it takes images as a :class:`Metric` does, with the same checks and precision, and
    returns ``{layer: {readout: [N]}}``, layers from input to output.

    Parameters
    ----------
    backbone
        A record of the catalogue, or its name.
    wanted
        Names of layers to names of readouts.
    channel_weights
        For the weighted readouts: names of layers to weights ``[C]``, not negative.
    weights, trunk, check
        As for :class:`DeepDistance`.

    Raises
    ------
    UnknownNameError, ValueError, WeightsError
        As for :class:`DeepDistance`.

    Examples
    --------
    >>> import torch
    >>> from iqa_metrics import FeatureReadouts
    >>> readouts = FeatureReadouts(
    ...     "efficientnet_lite0", {"block3": ["rmse", "gram"], "block9": ["cosine"]}
    ... )
    >>> black, white = torch.zeros(2, 3, 64, 64), torch.ones(2, 3, 64, 64)
    >>> values = readouts(black, white)
    >>> {layer: list(of_layer) for layer, of_layer in values.items()}
    {'block3': ['rmse', 'gram'], 'block9': ['cosine']}
    >>> values["block9"]["cosine"].shape
    torch.Size([2])
    """

    def __init__(
        self,
        backbone: Backbone | str,
        wanted: Mapping[str, Sequence[str]],
        *,
        channel_weights: LayerWeights | None = None,
        weights: str | Path | None = None,
        trunk: nn.Module | None = None,
        check: Check = "error",
    ) -> None:
        super().__init__(check=check)
        record = backbone if isinstance(backbone, Backbone) else backbones.backbone(backbone)
        self.name = record.name
        if not isinstance(wanted, Mapping) or any(isinstance(v, str) for v in wanted.values()):
            raise ValueError(
                f"wanted: expected {{layer: [readout, ...]}}, lists of names, got {wanted!r}"
            )
        self.wanted: dict[str, tuple[Readout, ...]] = {
            layer: tuple(readouts.readout(name) for name in dict.fromkeys(wanted[layer]))
            for layer in record.in_order(wanted)
        }
        if not all(self.wanted.values()) or not self.wanted:
            raise ValueError("wanted: expected at least one layer, and a readout for each")
        self.layers = tuple(self.wanted)
        chosen = [record.layer(name) for name in self.layers]
        weighted = [layer for layer in chosen if self._weighs(layer.name)]
        self._read = tuple(chosen)
        self.input_size = record.input_size
        self.channel_weights = ChannelWeights(channel_weights or {}, weighted)
        self.extractor = extractor_of(record, self.wanted, weights, trunk)

    def forward(self, reference: Tensor, distorted: Tensor) -> dict[str, dict[str, Tensor]]:
        """Return ``{layer: {readout: [N]}}``. Raises ImageError as a :class:`Metric` does."""
        self.check_inputs(reference, distorted)
        table = self._streamed(reference, distorted, self._columns).unbind(dim=1)
        columns = iter(table)
        return {layer: {r.name: next(columns) for r in of} for layer, of in self.wanted.items()}

    def _weighs(self, layer: str) -> bool:
        return any(r.weighted for r in self.wanted[layer])

    def _columns(self, reference: Reference, distorted: Tensor) -> Tensor:
        """Return the values as a table, ``[N, readouts of all layers]``."""
        columns: list[Tensor] = []

        def read(layer: str, x: Tensor, y: Tensor) -> None:
            weights = [self.channel_weights.of(layer)] if self._weighs(layer) else []
            with readouts.sharing():
                for r in self.wanted[layer]:
                    columns.append(r.function(x, y, *(weights if r.weighted else [])))

        self.extractor.visit_pair(reference, distorted, self.layers, read)
        return torch.stack(columns, dim=1)


def enlarged(map_: Tensor, images: Tensor) -> Tensor:
    """Enlarge a layer's map ``[N, 1, h, w]`` to the images' height and width, bilinearly."""
    return F.interpolate(map_, images.shape[-2:], mode="bilinear", align_corners=False)
