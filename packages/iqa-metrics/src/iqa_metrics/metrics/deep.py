"""Distances inside pretrained networks."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from iqa_metrics import backbones, readouts
from iqa_metrics.backbones import Backbone
from iqa_metrics.features import FeatureExtractor
from iqa_metrics.metrics.contract import Check, Metric
from iqa_metrics.metrics.specs import DeepSpec


class DeepDistance(Metric):
    """A distance between the responses of a pretrained network to two images.

    The study's metric: pass both images, take one layer (or several, laid end to end), and measure
    how far apart the responses are. Range ``[0, inf)``; identical images give 0.

    Both images go through the network in one batch, one layer's response exists at a time, and
    nothing after the last layer is computed. The network is frozen and stays in eval mode.
    ``.to(device)`` and ``.to(dtype)`` move it; float16 and bfloat16 networks give float32 values.

    Parameters
    ----------
    backbone
        A record of the catalogue, or its name.
    layers
        Name of one layer, or of several.
    readout
        Name of the readout, such as ``"euclidean"``.
    weights
        A file with the trunk's state dict whose content the caller has checked; by default the
        backbone's published weights.
    check
        As for :class:`Metric`.

    Raises
    ------
    UnknownNameError
        If the backbone, a layer or the readout is unknown.
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
        weights: str | Path | None = None,
        check: Check = "error",
    ) -> None:
        super().__init__(check=check)
        record = backbone if isinstance(backbone, Backbone) else backbones.backbone(backbone)
        names = [layers] if isinstance(layers, str) else list(layers)
        self.layers = record.in_order(names)
        if not self.layers:
            raise ValueError("layers: expected at least one layer name, got none")
        self.readout = readouts.readout(readout)
        self.name = str(DeepSpec(record.name, self.layers, self.readout.name))
        self.smallest_input = record.smallest_input
        self.extractor = FeatureExtractor(
            record.network(None if weights is None else Path(weights)),
            {layer.name: layer.module for layer in record.layers},
            record.scaling,
        )

    def compare(self, reference: Tensor, distorted: Tensor) -> Tensor:
        references = reference.shape[0]
        values: list[Tensor] = []
        counts: list[int] = []

        def read(_: str, response: Tensor) -> None:
            values.append(self.readout.function(response[:references], response[references:]))
            counts.append(readouts.elements(response))

        self.extractor.visit(torch.cat([reference, distorted]), self.layers, read)
        return values[0] if len(values) == 1 else self.readout.join(values, counts)
