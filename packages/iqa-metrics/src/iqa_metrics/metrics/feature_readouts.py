"""A layer table whose values have names instead of columns."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from iqa_metrics import backbones, readouts
from iqa_metrics.backbones import Backbone
from iqa_metrics.compute.pair_module import Check
from iqa_metrics.metrics.columns import Column, LayerWeights, weights_by_layer
from iqa_metrics.metrics.layer_table import LayerTable
from iqa_metrics.readouts import Readout


class FeatureReadouts(LayerTable):
    """Any readouts of any layers of a backbone, from one forward pass.

    Calling it takes images like a :class:`Metric`, with the same checks and precision, and returns
    ``{layer: {readout: [N]}}``, with layers from input to output. So does scoring against a shared
    reference: ``readouts.reference(image).score(distorted)``.

    Parameters
    ----------
    backbone
        A backbone, or its name.
    wanted
        The readouts of each layer, by the layer's name. A readout is a name or your own
        :class:`Readout`.
    channel_weights
        For the weighted readouts: non-negative weights ``[C]`` of each layer, by the layer's name.
    weights, trunk, persistent, check
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
    >>> black, white = torch.zeros(1, 3, 64, 64), torch.ones(2, 3, 64, 64)
    >>> values = readouts(black, white)
    >>> {layer: list(of_layer) for layer, of_layer in values.items()}
    {'block3': ['rmse', 'gram'], 'block9': ['cosine']}
    >>> values["block9"]["cosine"].shape
    torch.Size([2])
    """

    def __init__(
        self,
        backbone: Backbone | str,
        wanted: Mapping[str, Sequence[str | Readout]],
        *,
        channel_weights: LayerWeights | None = None,
        weights: str | Path | None = None,
        trunk: nn.Module | None = None,
        persistent: bool = False,
        check: Check = "error",
    ) -> None:
        record = backbone if isinstance(backbone, Backbone) else backbones.backbone(backbone)
        if not isinstance(wanted, Mapping) or any(
            isinstance(value, str | Readout) for value in wanted.values()
        ):
            raise ValueError(
                f"wanted: expected a list of readouts for each layer, {{layer: [readout, ...]}}, "
                f"got {wanted!r}"
            )
        if not wanted or not all(wanted.values()):
            raise ValueError(
                "wanted: expected at least one layer, and at least one readout for each layer"
            )
        pairs = [
            (layer, readout)
            for layer in record.in_order(wanted)
            for readout in _each_once(layer, map(readouts.readout, wanted[layer]))
        ]
        weighted = list(dict.fromkeys(layer for layer, readout in pairs if readout.weighted))
        of_layer = weights_by_layer(channel_weights, weighted)
        columns = [
            Column(layer, readout, of_layer[layer] if readout.weighted else None)
            for layer, readout in pairs
        ]
        super().__init__(
            record, columns, weights=weights, trunk=trunk, persistent=persistent, check=check
        )

    def presented(self, values: Tensor) -> dict[str, dict[str, Tensor]]:
        """Return the columns of the table by their names, ``{layer: {readout: [N]}}``."""
        named: dict[str, dict[str, Tensor]] = {}
        for column, (first, end) in zip(self.columns, self.spans, strict=True):
            value = values[:, first:end] if column.readout.per_channel else values[:, first]
            named.setdefault(column.layer, {})[column.readout.name] = value
        return named


def _each_once(layer: str, given: Iterable[Readout]) -> list[Readout]:
    """Return readouts without repetitions; two of one name are a ValueError."""
    found: dict[str, Readout] = {}
    for readout in given:
        if found.setdefault(readout.name, readout) != readout:
            raise ValueError(f"wanted: {layer} has two readouts of the name {readout.name!r}")
    return list(found.values())
