"""Several deep distances in one network, computed in one pass."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from iqa_metrics.backbones import Backbone
from iqa_metrics.compute.extractors import extractor_of
from iqa_metrics.compute.features import Reference
from iqa_metrics.metrics.deep import DeepDistance
from iqa_metrics.metrics.layer_table import LayerTable
from iqa_metrics.metrics.table_module import TableModule


class DistancesTogether(TableModule):
    """Several deep distances in one network, computed in one pass.

    Values are bit-identical to those of the single metrics, which must share one network (see
    :func:`share_network`).

    Parameters
    ----------
    metrics
        Metrics that share a network.

    Raises
    ------
    ValueError
        If there is no metric, if their networks are not the same object, or if they compare
        different things of the images.
    """

    def __init__(self, metrics: Sequence[DeepDistance]) -> None:
        if not metrics:
            raise ValueError("metrics: expected at least one, got none")
        super().__init__(check=metrics[0].check)
        self.name = " and ".join(metric.name for metric in metrics)
        self.table = LayerTable.union([metric.table for metric in metrics])
        self.input_size = self.table.input_size
        self.memory = metrics[0].memory
        self.conventions = metrics[0].conventions
        if any(metric.conventions != self.conventions for metric in metrics):
            raise ValueError("metrics: expected the same space, border and peak of all")
        self._concatenated: list[Callable[[list[Tensor], list[int]], Tensor]] = [
            metric.concatenated for metric in metrics
        ]
        self._widths = [len(metric.table.columns) for metric in metrics]

    def forward(self, reference: Tensor, distorted: Tensor) -> Tensor:
        """Return the values, ``[N, metrics]``. Raises ImageError like a :class:`Metric`."""
        values: Tensor = super().forward(reference, distorted)
        return values

    def compare(self, reference: Reference, distorted: Tensor) -> Tensor:
        """Return the values of images that were already checked."""
        readings = self.table.readings(reference, distorted)
        found, first = [], 0
        for concatenated, width in zip(self._concatenated, self._widths, strict=True):
            part = slice(first, first + width)
            found.append(concatenated(readings.values[part], readings.elements[part]))
            first += width
        return torch.stack(found, dim=1)

    def _compare(self, map: bool, *, masked: bool = False) -> Callable[..., Tensor]:
        if masked:
            raise ValueError(f"{self.name}: a mask is given to a metric; expected none")
        if map:
            raise ValueError("several distances together have no map; ask each metric for its own")
        return self.compare


def can_share(metric: object) -> bool:
    """Say whether a metric is a deep distance that can be computed together with others."""
    return isinstance(metric, DeepDistance) and type(metric).compare is DeepDistance.compare


def share_network(
    metrics: Sequence[DeepDistance], backbone: Backbone, weights: Path | None = None
) -> None:
    """Let several metrics of one backbone use the same network from now on.

    This saves memory, and :class:`DistancesTogether` can then compute the metrics in one pass.

    Parameters
    ----------
    metrics
        Metrics of the backbone that use these weights.
    backbone
        The backbone.
    weights
        A file with the network's state dict, whose content the caller has checked; by default the
        backbone's published weights.

    Raises
    ------
    WeightsError
        If the weights are missing or damaged.
    """
    names = dict.fromkeys(name for metric in metrics for name in metric.layers)
    extractor = extractor_of(backbone, backbone.in_order(list(names)), weights)
    for metric in metrics:
        metric.table.extractor = extractor
