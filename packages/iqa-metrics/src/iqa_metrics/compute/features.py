"""The core: one pass through a network, each asked-for layer handed on as soon as it exists.

The core pushes. It never collects layers: a visitor gets a layer's response, does its work, and the
response is freed, so memory follows the widest layer and not the sum of them. The pass stops after
the last layer that was asked for.
"""

import itertools
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from iqa_metrics.backbones.forms import Form, as_grid
from iqa_metrics.backbones.probing import Pass, passed, precision, without_values
from iqa_metrics.backbones.scaling import InputScaling
from iqa_metrics.compute.chains import chain, may_overwrite
from iqa_metrics.compute.steady import Steady, lasting
from iqa_metrics.compute.tracing import recorded, traced, transformed
from iqa_metrics.forks import before_computing
from iqa_metrics.names import lookup

Visitor = Callable[[str, Tensor], None]
PairVisitor = Callable[[str, Tensor, Tensor], None]


class FeatureError(RuntimeError):
    """A layer that the pass did not reach, or whose output is not one tensor."""


class _LastLayerSeen(BaseException):
    """Ends a pass early, past a network's ``except Exception``; caught where it was begun."""


@dataclass(frozen=True)
class Remembered:
    """A reference and a network's responses to it, for as long as its distorted images come.

    Attributes
    ----------
    image
        The reference, ``[1, 3, H, W]``.
    responses
        Names of layers to responses, ``[1, ...]``.
    """

    image: Tensor
    responses: Mapping[str, Tensor]


Reference = Union[Tensor, Remembered]
"""A batch of references, ``[N or 1, 3, H, W]``, or what is remembered of one."""


_SMALL_CONVOLUTION = 20_480
"""Numbers in the input of a convolution from which on one image is computed as several are."""


class FeatureExtractor(Steady):
    """A frozen network whose layers can be visited.

    The network is put into eval mode and its parameters are frozen, and so they stay, whatever a
    model that holds the extractor does: see :class:`Steady`. Its parameters are laid out channels
    last.

    Parameters
    ----------
    network
        Any module that takes ``[N, 3, H, W]``.
    layers
        Names to module paths in the network, input to output.
    scaling
        What the network expects; None passes RGB in [0, 1] as it is.
    forms
        How layers lay out their responses. Of these layers visitors get ``[N, C, h, w]``, as a
        view; of others, what the module returns.
    """

    def __init__(
        self,
        network: nn.Module,
        layers: Mapping[str, str],
        scaling: InputScaling | None = None,
        forms: Mapping[str, Form] | None = None,
    ) -> None:
        super().__init__()
        with torch.inference_mode(False):
            self.network = _channels_last(lasting(_unfused(network.eval().requires_grad_(False))))
        self.layers = dict(layers)
        self.scaling = scaling
        self.forms = dict(forms or {})
        self._differing: dict[tuple[int | str, ...], bool] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        # Not registered as a submodule, so that a parent does not reach it.
        if name == "network":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def _own(self) -> Iterator[Tensor]:
        return itertools.chain(self.network.parameters(), self.network.buffers())

    def _move(self, device: torch.device) -> None:
        with torch.inference_mode(False):
            self.network.to(device)

    def _convert(self, dtype: torch.dtype) -> None:
        with torch.inference_mode(False):
            self.network.to(dtype)

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
            Gets a layer's name and its response in the network's dtype: ``[N, C, h, w]`` where the
            layer has a form, tokens of a transformer as the grid of their patches and vectors as
            ``[N, C, 1, 1]``; else as the module returns it. The response is the visitor's for the
            length of the call only: a later in-place activation may write into it.
        keep
            Hand out responses that stay as they are after the call, at the cost of a copy. Where a
            gradient is recorded they always stay, and are copied only if the network may write into
            them.

        Raises
        ------
        UnknownNameError
            If a layer is unknown.
        FeatureError
            If a layer is not reached, or gives anything but a tensor of its form.
        """
        self._visit([images], layers, visitor, keep=keep)

    def _visit(
        self,
        batches: Sequence[Tensor],
        layers: Iterable[str],
        visitor: Visitor,
        *,
        keep: bool = False,
    ) -> None:
        """Visit the layers with several batches of images as one."""
        before_computing()
        modules = self._modules_of(layers)
        if not modules:
            return
        # Two of it, where it would differ by itself.
        alone = sum(len(batch) for batch in batches) == 1 and self._differs_alone(
            batches[0], modules
        )
        if alone:
            batches = [*batches, *batches]

        def hand_out(name: str, output: object, overwritten: bool = True) -> None:
            if not isinstance(output, Tensor):
                raise FeatureError(
                    f"layer {name!r} gives {type(output).__name__}; expected one tensor"
                )
            if name in self.forms:
                try:
                    output = as_grid(output, self.forms[name], *batches[0].shape[-2:])
                except ValueError as error:
                    raise FeatureError(f"layer {name!r}: {error}") from error
            output = output[:1] if alone else output
            survives = keep or (overwritten and recorded(output))
            visitor(name, output.clone() if survives else output)

        # An enclosing autocast would change the values without a word.
        with torch.autocast(batches[0].device.type, enabled=False):
            steps = chain(self.network, modules)
            if steps is None:
                self._visit_by_hooks(batches, modules, hand_out)
                return
            response = self._prepare(batches)
            for step, (module, names) in enumerate(steps):
                response = module(response)
                overwritten = step + 1 < len(steps) and may_overwrite(steps[step + 1][0])
                for name in names:
                    hand_out(name, response, overwritten)

    def visit_pair(
        self, reference: Reference, distorted: Tensor, layers: Iterable[str], visitor: PairVisitor
    ) -> None:
        """Call ``visitor(name, reference's response, distorted images' response)`` layer by layer.

        References and distorted images go through the network in one batch; of a remembered
        reference only the distorted images do. Where the gradient of one side only is recorded, the
        other side goes through first and by itself, so that nothing of it is kept for the gradient.
        See :meth:`visit` for how long responses live.
        """
        if isinstance(reference, Remembered):
            kept = reference.responses
            self.visit(
                distorted, layers, lambda name, response: visitor(name, kept[name], response)
            )
            return
        layers = tuple(layers)
        if recorded(reference) != recorded(distorted) and self._can_part(
            reference, distorted, layers
        ):
            first, second = (
                (reference, distorted) if recorded(distorted) else (distorted, reference)
            )
            responses = self.responses(first, layers)

            def compare(name: str, response: Tensor) -> None:
                other = responses.pop(name)
                if second is distorted:
                    visitor(name, other, response)
                else:
                    visitor(name, response, other)

            self.visit(second, layers, compare)
            return
        count = reference.shape[0]
        self._visit(
            [reference, distorted],
            layers,
            lambda name, response: visitor(name, response[:count], response[count:]),
        )

    def responses(self, images: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        """Return the layers' responses, all held at once; ``visit`` holds one at a time."""
        kept: dict[str, Tensor] = {}
        self.visit(images, layers, kept.__setitem__, keep=True)
        return kept

    def remember(self, reference: Tensor, layers: Iterable[str]) -> Remembered:
        """Pass one reference ``[1, 3, H, W]`` through the network and keep those layers."""
        return Remembered(reference, self.responses(reference, layers))

    def widest(self, height: int, width: int, layers: Iterable[str]) -> int:
        """Return about how many bytes one image takes at the network's widest place.

        That is the largest sum of a module's input and output. It is found in a pass on torch's
        meta device, which computes nothing. 0 where the network can't do that.
        """
        seen = self._probed(height, width, layers)
        elementary = (call.bytes for call in seen.calls if call.elementary)
        return 0 if seen.error is not None else max(elementary, default=0)

    def _can_part(self, reference: Tensor, distorted: Tensor, layers: Iterable[str]) -> bool:
        """Say whether both sides go through the same kernels if they go through one by one."""
        if distorted.device.type != "cpu" or traced():
            return True
        if len(distorted) == 1:  # as two images, where one would go another way
            return not self._differs_alone(distorted, layers)
        # With one thread torch computes many images with other kernels than few.
        return len(reference) == len(distorted) or torch.get_num_threads() > 1

    def _differs_alone(self, image: Tensor, layers: Iterable[str]) -> bool:
        """Say whether an image by itself gives other values than the same one in a batch.

        On a CPU torch computes the convolution of one small image with another kernel, whose
        rounding differs. A reference that passes alone would then lie at a distance from itself.
        """
        if image.device.type != "cpu" or traced():
            return False
        height, width = image.shape[-2:]
        key: tuple[int | str, ...] = (height, width, *sorted(layers))
        if key not in self._differing:
            seen = self._probed(height, width, layers)
            small = any(math.prod(shape) <= _SMALL_CONVOLUTION for shape in seen.convolutions)
            self._differing[key] = small or seen.error is not None
        return self._differing[key]

    def _probed(self, height: int, width: int, layers: Iterable[str]) -> Pass:
        """Let an image of that size pass on torch's meta device."""
        channels = 3 if self.scaling is None else self.scaling.channels
        try:
            network = without_values(self.network)
        except Exception as error:  # whatever a network of the caller's own has against a copy
            return Pass(error=error)
        return passed(
            network, (1, channels, height, width), until=[self.layers[name] for name in layers]
        )

    def _modules_of(self, layers: Iterable[str]) -> dict[str, nn.Module]:
        paths = {name: lookup("layer", name, self.layers) for name in layers}
        known = dict(self.network.named_modules())
        return {name: lookup("module", path, known) for name, path in paths.items()}

    def _visit_by_hooks(
        self,
        batches: Sequence[Tensor],
        modules: Mapping[str, nn.Module],
        hand_out: Callable[[str, object], None],
    ) -> None:
        remaining = set(modules)
        caller = threading.get_ident()

        def hook_for(name: str) -> Callable[..., None]:
            def hook(module: nn.Module, inputs: object, output: object) -> None:
                # Another thread's pass through the same network fires this hook too.
                if threading.get_ident() != caller or name not in remaining:
                    return
                remaining.discard(name)
                hand_out(name, output)
                if not remaining:
                    raise _LastLayerSeen

            return hook

        handles: list[RemovableHandle] = []
        try:
            for name, module in modules.items():
                handles.append(module.register_forward_hook(hook_for(name)))
            self.network(self._prepare(batches))
        except _LastLayerSeen:
            return
        finally:
            for handle in handles:
                handle.remove()
        raise FeatureError(f"the network did not reach layers: {', '.join(sorted(remaining))}")

    def _prepare(self, batches: Sequence[Tensor]) -> Tensor:
        """Return batches as one, scaled, channels last, in the network's precision."""
        # Scaled in half precision, images would be rounded once more.
        batches = [batch.to(torch.promote_types(batch.dtype, torch.float32)) for batch in batches]
        first = batches[0]
        dtype = precision(self.network, first.dtype)
        scaling = self.scaling
        if traced() or recorded(*batches):
            whole = torch.cat(batches) if len(batches) > 1 else batches[0]
            # Scaled in the images' precision: 8-bit values times 255 do not fit bfloat16.
            whole = whole if scaling is None else scaling.apply(whole)
            # Inside vmap, images have a dimension more than they show.
            layout = torch.preserve_format if transformed() else torch.channels_last
            return whole.to(dtype=dtype, memory_format=layout)
        # Each written once, to where the network reads it.
        count = sum(len(batch) for batch in batches)
        whole = torch.empty(
            (count, first.shape[1] if scaling is None else scaling.channels, *first.shape[2:]),
            dtype=dtype,
            device=first.device,
            memory_format=torch.channels_last,
        )
        for batch, part in zip(batches, torch.split(whole, [len(b) for b in batches]), strict=True):
            part.copy_(batch if scaling is None else scaling.apply(batch))
        return whole


def _unfused(network: nn.Module) -> nn.Module:
    """Let torch's encoder layers call their modules, so that these can be visited.

    Old versions of torch, 2.4 among them, run one as a single fused operation even where its
    modules have hooks.
    """
    for module in network.modules():
        if isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0  # says that only modules can compute it
    return network


def _channels_last(network: nn.Module) -> nn.Module:
    """Lay parameters out channels last, which convolutions run fastest in; values stay."""

    def laid_out(tensor: Tensor) -> Tensor:
        return tensor.to(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor

    network._apply(laid_out)  # type: ignore[no-untyped-call]
    return network
