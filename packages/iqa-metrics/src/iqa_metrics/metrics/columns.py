"""Columns of a layer table: a layer, a readout, and the channel weights of those that need some."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from iqa_metrics.backbones import Layer
from iqa_metrics.compute.steady import Constant
from iqa_metrics.readouts import Readout

LayerWeights = Mapping[str, Tensor | Sequence[float]]
"""The channel weights ``[C]`` of each layer, by the layer's name."""


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


def constant_of(
    column: Column, readout: Readout, layer: Layer, *, persistent: bool = False
) -> nn.Module:
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
    return Constant(values, persistent=persistent)
