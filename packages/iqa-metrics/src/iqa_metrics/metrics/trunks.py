"""The pretrained network under a metric: the catalogue's, or the caller's own."""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from iqa_metrics.backbones import Backbone, Layer
from iqa_metrics.features import FeatureExtractor


def extractor_of(
    record: Backbone,
    layers: Iterable[str],
    weights: str | Path | None = None,
    trunk: nn.Module | None = None,
) -> FeatureExtractor:
    """Make the extractor of a backbone.

    Parameters
    ----------
    record
        The backbone.
    layers
        Names of the layers that will be visited; a trunk of the caller's need not have others.
    weights
        A file with the trunk's state dict whose content the caller has checked; by default the
        backbone's published weights.
    trunk
        The caller's own network instead; see :func:`adopted`.

    Raises
    ------
    ValueError
        If both weights and a trunk are given, or the trunk is another architecture.
    WeightsError
        If the weights are missing or damaged.
    """
    if trunk is not None and weights is not None:
        raise ValueError("give either weights or a trunk, not both")
    chosen = [record.layer(name) for name in layers]
    network = (
        record.network(None if weights is None else Path(weights))
        if trunk is None
        else adopted(trunk, record, chosen)
    )
    return FeatureExtractor(network, {layer.name: layer.module for layer in chosen}, record.scaling)


def adopted(network: nn.Module, record: Backbone, layers: Sequence[Layer]) -> nn.Module:
    """Return a copy of the caller's network as the trunk of a backbone.

    Parameters
    ----------
    network
        The trunk as :meth:`Backbone.network` builds it (such as torchvision's
        ``alexnet().features``) or the whole network (``alexnet()``). It stays as it is: what it
        learns later does not reach the copy.
    record
        The backbone whose architecture it has.
    layers
        The layers that it must have.

    Raises
    ------
    ValueError
        If it lacks one of those layers, or has one with another number of channels.
    """
    trunk = network
    if not _has(trunk, layers):
        try:
            trunk = record.trunk(network)
        except AttributeError:
            trunk = nn.Module()
    if not _has(trunk, layers):
        raise ValueError(
            f"trunk: expected {record.architecture}, whole or the part that holds its layers, got "
            f"a {type(network).__name__} without them"
        )
    trunk = copy.deepcopy(trunk).eval().requires_grad_(False)
    _check_channels(trunk, layers)
    return trunk


def visit_pair(
    extractor: FeatureExtractor,
    reference: Tensor,
    distorted: Tensor,
    layers: Iterable[str],
    visitor: Callable[[str, Tensor, Tensor], None],
) -> None:
    """Pass both images through the network in one batch.

    ``visitor(name, reference response, distorted response)`` is called layer by layer; see
    :meth:`FeatureExtractor.visit` for how long the responses live.
    """
    count = reference.shape[0]
    extractor.visit(
        torch.cat([reference, distorted]),
        layers,
        lambda name, response: visitor(name, response[:count], response[count:]),
    )


class ChannelWeights(nn.Module):
    """A weight for each channel of each layer, in float32 whatever the network's precision.

    Parameters
    ----------
    weights
        Layers' names to ``[C]``.
    layers
        The layers that need weights.

    Raises
    ------
    ValueError
        If a layer has no weights or not one a channel, or one is negative or not finite.
    """

    def __init__(
        self, weights: Mapping[str, Tensor | Sequence[float]], layers: Iterable[Layer]
    ) -> None:
        super().__init__()
        wanted = {layer.name: layer for layer in layers}
        if set(weights) != set(wanted):
            raise ValueError(
                f"channel_weights: expected layers {', '.join(wanted)}, got {', '.join(weights)}"
            )
        for name, layer in wanted.items():
            values = torch.as_tensor(weights[name], dtype=torch.float32).detach().clone()
            if values.shape != (layer.channels,):
                raise ValueError(
                    f"channel_weights: layer {name} has {layer.channels} channels; expected "
                    f"[{layer.channels}], got {list(values.shape)}"
                )
            if not bool((torch.isfinite(values) & (values >= 0)).all()):
                raise ValueError(
                    f"channel_weights: layer {name}: expected finite values of at least 0"
                )
            self.register_buffer(_buffer(name), values)

    def of(self, layer: str) -> Tensor:
        """Return a layer's weights, ``[C]``."""
        return self.get_buffer(_buffer(layer))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "ChannelWeights":
        # Follows the network to another device, but not to another precision.
        exact = dict(self.named_buffers())
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, values in exact.items():
            self._buffers[name] = values.to(self.get_buffer(name).device)
        return self


def _buffer(layer: str) -> str:
    return layer.replace(".", "_")  # torch refuses a dot in a buffer's name


def _has(network: nn.Module, layers: Iterable[Layer]) -> bool:
    return {layer.module for layer in layers} <= {path for path, _ in network.named_modules()}


def _check_channels(trunk: nn.Module, layers: Sequence[Layer]) -> None:
    channels: dict[str, int] = {}
    paths = {layer.name: layer.module for layer in layers}
    parameter = next(trunk.parameters(), torch.zeros(0))
    size = max(layer.smallest_input for layer in layers)
    blank = torch.zeros(1, 3, size, size, dtype=parameter.dtype, device=parameter.device)
    with torch.no_grad():
        FeatureExtractor(trunk, paths).visit(
            blank, paths, lambda name, response: channels.__setitem__(name, response.shape[1])
        )
    for layer in layers:
        if channels[layer.name] != layer.channels:
            raise ValueError(
                f"trunk: expected {layer.channels} channels in layer {layer.name}, got "
                f"{channels[layer.name]}"
            )
