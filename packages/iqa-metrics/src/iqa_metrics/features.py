"""The core: one pass through a network, each asked-for layer handed on as soon as it exists.

The core pushes. It never collects layers: a visitor gets a layer's response, does its work, and the
response is freed, so memory follows the widest layer and not the sum of them. The pass stops after
the last layer that was asked for.
"""

import threading
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from iqa_metrics.backbones import InputScaling
from iqa_metrics.names import lookup

Visitor = Callable[[str, Tensor], None]


class FeatureError(RuntimeError):
    """A layer that the pass did not reach, or whose output is not one tensor."""


class _LastLayerSeen(Exception):  # noqa: N818 - no error
    """Ends a pass early; raised in a hook and caught in :meth:`FeatureExtractor.visit`."""


class FeatureExtractor(nn.Module):
    """A frozen network whose layers can be visited.

    The network is put into eval mode and its parameters are frozen, and so they stay:
    ``train()`` on a model that holds the extractor does not reach the network. Its parameters are
    laid out channels last.

    Parameters
    ----------
    network
        Any module that takes ``[N, 3, H, W]``.
    layers
        Names to module paths in the network, input to output.
    scaling
        What the network expects; None passes RGB in [0, 1] as it is.
    """

    def __init__(
        self, network: nn.Module, layers: Mapping[str, str], scaling: InputScaling | None = None
    ) -> None:
        super().__init__()
        # Channels last is the layout that convolutions run fastest in; values do not depend on it.
        self.network = network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.layers = dict(layers)
        self.scaling = scaling

    def train(self, mode: bool = True) -> "FeatureExtractor":
        """Keep eval mode: batch statistics must not move a metric."""
        return super().train(False)

    def visit(
        self, images: Tensor, layers: Iterable[str], visitor: Visitor, *, keep: bool = False
    ) -> None:
        """Pass images through the network once and call ``visitor(name, response)`` layer by layer.

        Parameters
        ----------
        images
            RGB in [0, 1], ``[N, 3, H, W]``, on the network's device.
        layers
            Names of the layers to visit. They are visited in the network's order. Of a module that
            the network calls several times, the first call counts.
        visitor
            Gets a layer's name and its response, ``[N, ...]`` in the network's dtype. The response
            is the visitor's for the length of the call only: a later in-place activation may write
            into it.
        keep
            Hand out responses that stay as they are after the call, at the cost of a copy. Always
            so where a gradient is recorded.

        Raises
        ------
        UnknownNameError
            If a layer is unknown.
        FeatureError
            If a layer is not reached or gives anything but a tensor.
        """
        paths = {name: lookup("layer", name, self.layers) for name in layers}
        if not paths:
            return
        known = dict(self.network.named_modules())
        modules = {name: lookup("module", path, known) for name, path in paths.items()}
        remaining = set(paths)
        caller = threading.get_ident()

        def hook_for(name: str) -> Callable[..., None]:
            def hook(module: nn.Module, inputs: object, output: object) -> None:
                # Another thread's pass through the same network fires this hook too.
                if threading.get_ident() != caller or name not in remaining:
                    return
                remaining.discard(name)
                if not isinstance(output, Tensor):
                    raise FeatureError(
                        f"layer {name!r} gives {type(output).__name__}; expected one tensor"
                    )
                survives = keep or (torch.is_grad_enabled() and output.requires_grad)
                visitor(name, output.clone() if survives else output)
                if not remaining:
                    raise _LastLayerSeen

            return hook

        handles: list[RemovableHandle] = []
        try:
            for name, module in modules.items():
                handles.append(module.register_forward_hook(hook_for(name)))
            # An enclosing autocast would change the values without a word.
            with torch.autocast(images.device.type, enabled=False):
                self.network(self._prepare(images))
        except _LastLayerSeen:
            return
        finally:
            for handle in handles:
                handle.remove()
        raise FeatureError(f"the network did not reach layers: {', '.join(sorted(remaining))}")

    def responses(self, images: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        """Return the layers' responses, all held at once; ``visit`` holds one at a time."""
        kept: dict[str, Tensor] = {}
        self.visit(images, layers, kept.__setitem__, keep=True)
        return kept

    def _prepare(self, images: Tensor) -> Tensor:
        # Scaled in the images' own precision: 8-bit values times 255 do not fit bfloat16.
        scaled = images if self.scaling is None else self.scaling.apply(images)
        parameter = next(self.network.parameters(), None)
        dtype = scaled.dtype if parameter is None else parameter.dtype
        return scaled.to(dtype=dtype, memory_format=torch.channels_last)
