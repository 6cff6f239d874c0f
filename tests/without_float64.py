"""A device that is to code what ``mps`` is: it has no float64, and nothing mixes with it.

Its tensors compute on the CPU. They say that they are on ``lazy``, since torch takes only names of
devices that it was built for, and on Linux nothing else uses this one.
"""

from contextlib import contextmanager

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

KIND = "lazy"
DEVICE = torch.device(KIND, 0)


class There(torch.Tensor):
    """A tensor on the device; ``inner`` has its values."""

    @staticmethod
    def __new__(cls, inner):
        if inner.dtype == torch.float64:
            raise TypeError("this device has no float64")
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=DEVICE,
        )
        made.inner = inner
        return made

    def __repr__(self, *, tensor_contents=None):
        return f"There({self.inner})"

    def tolist(self):
        return self.inner.tolist()

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return run(function, args, kwargs or {})


@contextmanager
def device():
    """Make the device exist inside this context."""
    with _Functions(), _Operations():
        yield


class _Functions(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if function is torch.tensor and torch.device(kwargs.get("device") or "cpu") == DEVICE:
            return torch.tensor(*args, **{**kwargs, "device": "cpu"}).to(DEVICE)  # no operation
        return function(*args, **kwargs)


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return run(function, args, kwargs or {})


def run(function, args, kwargs):
    """Run an operation where its arguments are, and say so of its results."""
    given = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, torch.Tensor)]
    here = any(isinstance(one, There) for one in given)
    moves = function in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
    alien = [one for one in given if not isinstance(one, There) and one.ndim]
    if here and alien and not moves:
        raise RuntimeError(f"{function}: expected all tensors on this device, got one on the CPU")
    device = kwargs.get("device")
    wanted = here if device is None else torch.device(device).type == KIND
    if device is not None and wanted:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    if moves and function is torch.ops.aten.copy_.default:
        wanted = isinstance(args[0], There)
    inner = tree_map(lambda one: one.inner if isinstance(one, There) else one, (args, kwargs))
    found = function(*inner[0], **inner[1])
    if function._schema.is_mutable and given:
        return args[0]
    if not wanted:
        return found
    return tree_map(lambda one: There(one) if type(one) is torch.Tensor else one, found)
