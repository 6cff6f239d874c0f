"""Tensors that stay in full precision, whatever precision their module's network computes in."""

from collections.abc import Callable

from torch import Tensor, nn


class Constant(nn.Module):
    """A float32 tensor that moves with its module to another device, but keeps its precision.

    Attributes
    ----------
    values
        The tensor.
    """

    values: Tensor

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.register_buffer("values", values.detach().float().clone())

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Constant":
        exact = self.values
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if not exact.is_meta:
            self.values = exact.to(self.values.device)
        return self
