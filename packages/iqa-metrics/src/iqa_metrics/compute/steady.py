"""Modules whose numbers stay as they are, whatever the module that holds them does."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from typing_extensions import Self


class Steady(nn.Module):
    """A module that a parent can move to another device, but not change.

    Training code treats all of a model's modules alike: it freezes and unfreezes them, initialises
    them, hands their parameters to an optimiser, averages, saves and loads them, and converts them
    to half precision. A ruler must not bend, so what such a module measures with is kept beside
    torch's parameters, buffers and submodules. It is moved with the parent. It is in no
    ``state_dict()``, since it can be had again.

    Precision changes only where it is asked of the module itself: ``metric.double()`` and
    ``metric.to(torch.bfloat16)`` change it, the same calls of a parent do not.
    """

    def held(self) -> Iterator[Tensor]:
        """Yield all tensors that decide what this module and those inside it compute."""
        yield from self.parameters()
        yield from self.buffers()
        for module in self.modules():
            if isinstance(module, Steady):
                yield from module._own()

    def _own(self) -> Iterator[Tensor]:
        """Yield the tensors that this module keeps beside its parameters and buffers."""
        return iter(())

    def _move(self, device: torch.device) -> None:
        """Move these tensors to a device."""

    def _convert(self, dtype: torch.dtype) -> None:
        """Convert these tensors to another precision."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Self":
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        here = next(self._own(), None)
        if here is not None:
            # Where it moves a tensor to is all that is taken of a function. Its numbers may be
            # rounded (half()) or lost (to_empty()).
            device = fn(torch.empty(0, device=here.device)).device
            if device != here.device:
                self._move(device)
        return self

    def to(self, *args: Any, **options: Any) -> "Self":
        """Move to a device, convert to a precision, or both; as ``torch.nn.Module.to``."""
        dtype = torch._C._nn._parse_to(*args, **options)[1]
        if dtype is not None:
            for module in self.modules():
                if isinstance(module, Steady):
                    module._convert(dtype)
        return super().to(*args, **options)

    def float(self) -> "Self":
        """Convert to float32."""
        return self.to(torch.float32)

    def double(self) -> "Self":
        """Convert to float64."""
        return self.to(torch.float64)

    def half(self) -> "Self":
        """Convert to float16."""
        return self.to(torch.float16)

    def bfloat16(self) -> "Self":
        """Convert to bfloat16."""
        return self.to(torch.bfloat16)


def lasting(network: nn.Module) -> nn.Module:
    """Put usual tensors in the place of those that were made in inference mode, and return it.

    Torch refuses to record a gradient through the latter.
    """
    with torch.inference_mode(False):
        for module in network.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None and parameter.is_inference():
                    usual = nn.Parameter(parameter.clone(), parameter.requires_grad)
                    module._parameters[name] = usual
            for name, buffer in module._buffers.items():
                if buffer is not None and buffer.is_inference():
                    module._buffers[name] = buffer.clone()
    return network


class Constant(Steady):
    """A float32 tensor that stays in full precision, whatever precision its metric computes in.

    Parameters
    ----------
    values
        The tensor, which is copied.
    persistent
        Make it a buffer that is part of ``state_dict()``. Then loading another one changes it.

    Attributes
    ----------
    values
        The tensor.
    """

    values: Tensor

    def __init__(self, values: Tensor, *, persistent: bool = False) -> None:
        super().__init__()
        with torch.inference_mode(False):
            kept = values.detach().float().clone()
        if persistent:
            self.register_buffer("values", kept)
        else:
            self.values = kept

    def _own(self) -> Iterator[Tensor]:
        return iter(()) if "values" in self._buffers else iter((self.values,))

    def _move(self, device: torch.device) -> None:
        with torch.inference_mode(False):
            self.values = self.values.to(device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Constant":
        exact = self.values
        super()._apply(fn, recurse)
        if "values" in self._buffers and not exact.is_meta:
            self.values = exact.to(self.values.device)
        return self
