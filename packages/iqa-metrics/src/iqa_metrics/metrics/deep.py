"""Distances inside pretrained networks."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from iqa_metrics import backbones, readouts
from iqa_metrics.backbones import Backbone
from iqa_metrics.compute.features import Reference
from iqa_metrics.compute.pair_module import Check
from iqa_metrics.metrics.columns import Column, LayerWeights, weights_by_layer
from iqa_metrics.metrics.contract import Metric
from iqa_metrics.metrics.layer_table import LayerTable
from iqa_metrics.metrics.specs import deep_spec
from iqa_metrics.metrics.table_module import TableModule
from iqa_metrics.readouts import Readout
from iqa_metrics.weights.files import WeightsFile


class DeepDistance(TableModule, Metric):
    """A distance between the feature maps of a pretrained network for two images.

    This is the study's metric: pass both images through the network, take the feature maps of one
    layer, or of several concatenated layers, and measure how far apart they are. Identical images
    give 0. The range is ``[0, inf)``; the functions of readouts that are bounded state their bound.

    The metric is a :class:`LayerTable` whose columns are concatenated. The network is frozen and
    stays in eval mode. ``.to(device)`` moves it and ``.to(dtype)`` converts it; float16 and
    bfloat16 networks give float32 values.

    There is a map if the readout has one: the layers' values at each position, enlarged bilinearly
    to the size of the images and concatenated like the values. The map of networks that pad their
    convolutions little, such as PerceptNet and SqueezeNet, is displaced by some pixels, because
    their feature maps do not reach the border of the image.

    Parameters
    ----------
    backbone
        A backbone, or its name.
    layers
        Name of one layer, or of several in any order.
    readout
        Name of the readout, such as ``"euclidean"``, or your own :class:`Readout`. In the latter
        case the metric's spec contains the readout's name; it can be parsed once the readout is
        registered.
    concatenation
        How several layers give one distance: ``"joint"`` (the readout of all feature maps laid end
        to end; the default if the readout has this form), ``"sum"`` or ``"sum_per_element"``; see
        :mod:`iqa_metrics.readouts.concatenation`.
    layer_weights
        The weights of the layers in a sum, in the order of ``layers``; by default 1.
    channel_weights
        For the weighted readouts: non-negative weights ``[C]`` of each layer, by the layer's name.
    weights
        A file with the network's state dict, whose content the caller has checked; by default the
        backbone's published weights.
    trunk
        Your own network with the backbone's architecture: the whole network, or only the part that
        the backbone uses. It is copied.
    persistent
        Save the channel weights in ``state_dict()``, and load them from it. The network's weights
        are never in it, since they can be had again.
    check
        As for :class:`Metric`.

    Raises
    ------
    UnknownNameError
        If the backbone, a layer, the readout or the concatenation is unknown.
    ValueError
        If layer or channel weights are missing or do not fit, if the layers can't be concatenated
        in this way, or if ``trunk`` has another architecture.
    WeightsError
        If the network's weights are missing or damaged.

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
        readout: str | Readout = "euclidean",
        *,
        concatenation: str | None = None,
        layer_weights: Sequence[float] | None = None,
        channel_weights: LayerWeights | None = None,
        weights: str | Path | None = None,
        trunk: nn.Module | None = None,
        persistent: bool = False,
        check: Check = "error",
    ) -> None:
        super().__init__(check=check)
        record = backbone if isinstance(backbone, Backbone) else backbones.backbone(backbone)
        names = [layers] if isinstance(layers, str) else list(layers)
        spec = deep_spec(record, names, readout, concatenation, layer_weights)
        self.name = str(spec)
        self.layer_weights = spec.layer_weights or (1.0,) * len(spec.layers)
        self.concatenation = spec.concatenation
        self.readout = readouts.readout(readout)
        if readouts.named_otherwise(self.readout):
            raise ValueError(
                f"readout {self.readout.name!r}: the catalogue has another readout of that name, "
                "which the metric's name would mean; give yours a name of its own"
            )
        if self.readout.per_channel:
            raise ValueError(
                f"readout {self.readout.name!r} gives a value per channel; use a LayerTable"
            )
        self.has_map = self.readout.map is not None
        self.takes_mask = self.has_map and self.readout.of_map is not None
        of_layer = weights_by_layer(channel_weights, spec.layers if self.readout.weighted else ())
        columns = [Column(name, self.readout, of_layer.get(name)) for name in spec.layers]
        self.table = LayerTable(
            record, columns, weights=weights, trunk=trunk, persistent=persistent
        )
        self.input_size = self.table.input_size

    @property
    def channel_weights(self) -> dict[str, Tensor]:
        """Names of layers to their channel weights, float32 ``[C]``; empty if there are none."""
        found = {layer: self.table.channel_weights(n) for n, layer in enumerate(self.layers)}
        return {layer: weights for layer, weights in found.items() if weights is not None}

    def compare(self, reference: Reference, distorted: Tensor) -> Tensor:
        readings = self.table.readings(reference, distorted)
        return self.concatenated(readings.values, readings.elements)

    def compare_map(self, reference: Reference, distorted: Tensor) -> Tensor:
        readings = self.table.maps(reference, distorted)
        maps = [enlarged(layer_map, distorted) for layer_map in readings.values]
        return self.concatenated(maps, readings.elements)

    def compare_masked(self, reference: Reference, distorted: Tensor, mask: Tensor) -> Tensor:
        of_map = self.readout.of_map
        if of_map is None:
            raise ValueError(f"readout {self.readout.name!r} takes no mask")
        readings = self.table.maps(reference, distorted)
        values = [of_map(layer_map, mask) for layer_map in readings.values]
        return self.concatenated(values, readings.elements)

    def concatenated(self, values: list[Tensor], counts: list[int]) -> Tensor:
        """Return ``[N]`` from the layers' values and the numbers of elements of the layers."""
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


def of_backbone(
    name: str, weights: str | Path | None, trunk: nn.Module | None
) -> tuple[WeightsFile, ...]:
    """Return the published file that a backbone is made from, if the caller gives nothing else."""
    file = backbones.backbone(name).weights
    return () if file is None or weights is not None or trunk is not None else (file,)


def enlarged(map_: Tensor, images: Tensor) -> Tensor:
    """Enlarge a layer's map ``[N, 1, h, w]`` to the images' height and width, bilinearly."""
    return F.interpolate(map_, images.shape[-2:], mode="bilinear", align_corners=False)
