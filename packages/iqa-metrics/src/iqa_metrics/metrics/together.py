"""Deep distances of one network, out of one pass."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from iqa_metrics.backbones import Backbone
from iqa_metrics.compute.features import Reference
from iqa_metrics.metrics.deep import DeepDistance
from iqa_metrics.metrics.trunks import NetworkModule, extractor_of
from iqa_metrics.readouts import elements, sharing


class DistancesTogether(NetworkModule):
    """Several deep distances in one network, computed in one pass.

    Its values are to the bit those of the metrics, once :func:`share_network` gave them one
    network.

    Parameters
    ----------
    metrics
        Metrics that share a network.

    Raises
    ------
    ValueError
        If there is none, or their networks are not the same object.
    """

    def __init__(self, metrics: Sequence[DeepDistance]) -> None:
        if not metrics:
            raise ValueError("metrics: expected at least one, got none")
        first = metrics[0]
        super().__init__(check=first.check)
        if any(metric.extractor is not first.extractor for metric in metrics):
            raise ValueError("metrics: they have networks of their own; share_network() first")
        self.name = " and ".join(metric.name for metric in metrics)
        self.metrics = torch.nn.ModuleList(metrics)
        self.extractor = first.extractor
        read = {layer.name: layer for metric in metrics for layer in metric._read}
        self.layers = tuple(name for name in self.extractor.layers if name in read)
        self._read = tuple(read[name] for name in self.layers)
        self.input_size = first.input_size
        self.memory = first.memory

    def forward(self, reference: Tensor, distorted: Tensor) -> Tensor:
        """Return the values, ``[N, metrics]``. Raises ImageError as a :class:`Metric` does."""
        self.check_inputs(reference, distorted)
        return self._streamed(reference, distorted, self._columns)

    def _compare(self, map: bool) -> Callable[[Reference, Tensor], Tensor]:
        if map:
            raise ValueError("each metric makes its map by itself")
        return self._columns

    def _columns(self, reference: Reference, distorted: Tensor) -> Tensor:
        metrics = [metric for metric in self.metrics if isinstance(metric, DeepDistance)]
        values: list[list[Tensor]] = [[] for _ in metrics]
        counts: list[list[int]] = [[] for _ in metrics]

        def read(layer: str, x: Tensor, y: Tensor) -> None:
            with sharing():
                for number, metric in enumerate(metrics):
                    if layer in metric.layers:
                        values[number].append(metric.read(layer, x, y))
                        counts[number].append(elements(y))

        self.extractor.visit_pair(reference, distorted, self.layers, read)
        return torch.stack(
            [
                metric.concatenated(of_metric, of_layers)
                for metric, of_metric, of_layers in zip(metrics, values, counts, strict=True)
            ],
            dim=1,
        )


def can_share(metric: object) -> bool:
    """Say whether a metric is a deep distance that can be computed together with others."""
    return isinstance(metric, DeepDistance) and type(metric).compare is DeepDistance.compare


def share_network(
    metrics: Sequence[DeepDistance], backbone: Backbone, weights: Path | None = None
) -> None:
    """Let metrics of a backbone compute in one network from now on.

    It takes the memory of one, and :class:`DistancesTogether` can compute the metrics in one pass.

    Parameters
    ----------
    metrics
        Metrics of that backbone, with those weights.
    backbone
        The backbone.
    weights
        A file with the trunk's state dict whose content the caller has checked; by default the
        backbone's published weights.

    Raises
    ------
    WeightsError
        If the weights are missing or damaged.
    """
    names = dict.fromkeys(name for metric in metrics for name in metric.layers)
    extractor = extractor_of(backbone, backbone.in_order(list(names)), weights)
    for metric in metrics:
        metric.extractor = extractor
