"""One pass through a network, to see which modules it calls and the shapes that they give.

On torch's meta device nothing is computed but shapes, so a pass takes milliseconds and no memory
whatever the size of the image. It runs the network's own code, hooks and parametrisations included.
"""

import copy
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Shape = tuple[int, ...]

_ONE_AT_A_TIME = threading.RLock()
"""Another thread's pass through the same network would fire these hooks too."""


@dataclass(frozen=True)
class Call:
    """One call of a module.

    Attributes
    ----------
    path, caller
        Paths of the module and of the one whose code called it. The network's own is ``""``, and so
        is the caller of the network itself.
    inputs
        Shapes of the tensors that it was given.
    output
        Shape of the tensor that it returned, or None where that was no tensor.
    returned
        Name of the type that it returned.
    source
        Path of the module whose very output was its first argument, or None.
    bytes
        Size of the tensors that it was given and returned.
    elementary
        Whether the module has no modules of its own.
    """

    path: str
    caller: str
    inputs: tuple[Shape, ...]
    output: Shape | None
    returned: str
    source: str | None
    bytes: int
    elementary: bool


@dataclass
class Pass:
    """What a pass showed.

    Attributes
    ----------
    calls
        The calls of modules, in the order in which they ended.
    error
        What ended the pass early, or None.
    arguments
        Paths of modules to how they were called: number of positional arguments, and names of
        keyword arguments.
    convolutions
        Shapes of the inputs of two-dimensional convolutions in one group, modules' or not.
    shared
        Paths of modules whose own tensors were used outside a call of the module.
    """

    calls: list[Call] = field(default_factory=list)
    error: Exception | None = None
    arguments: dict[str, set[tuple[int, tuple[str, ...]]]] = field(default_factory=dict)
    convolutions: list[Shape] = field(default_factory=list)
    shared: set[str] = field(default_factory=set)


class _Enough(BaseException):
    """Ends a pass once all that is asked for was seen; a network's ``except Exception`` lets it."""


def passed(
    network: nn.Module,
    shape: Shape,
    *,
    until: Iterable[str] | None = None,
    device: torch.device | str = "meta",
) -> Pass:
    """Pass an image through a network.

    Parameters
    ----------
    network
        The network, on ``device``, in eval mode; :func:`without_values` makes a copy there.
    shape
        ``[N, C, H, W]`` of the images.
    until
        Paths of modules: the pass ends once all of them have returned.
    device
        Where it runs. Anywhere but on the meta device the images are grey noise.
    """
    found = Pass()
    paths: dict[nn.Module, str] = {module: path for path, module in network.named_modules()}
    owners = {
        id(tensor): module
        for module in paths
        for tensor in (*module._parameters.values(), *module._buffers.values())
        if tensor is not None
    }
    remaining = None if until is None else set(until)
    running: list[nn.Module] = []
    # Outputs to the modules that gave them; the outputs may be freed, and others take their place.
    given: dict[int, tuple[weakref.ref[Tensor], str]] = {}

    def enter(module: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        running.append(module)
        found.arguments.setdefault(paths[module], set()).add((len(arguments), tuple(options)))

    def leave(
        module: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any], output: object
    ) -> None:
        while running and running.pop() is not module:
            pass  # an exception, caught by the network, ended these
        first = arguments[0] if arguments else None
        before = given.get(id(first))
        source = before[1] if before is not None and before[0]() is first else None
        tensors = [t for t in (*arguments, *options.values()) if isinstance(t, Tensor)]
        whole = output if isinstance(output, Tensor) else None
        path = paths[module]
        found.calls.append(
            Call(
                path=path,
                caller=paths[running[-1]] if running else "",
                inputs=tuple(tuple(t.shape) for t in tensors),
                output=None if whole is None else tuple(whole.shape),
                returned=type(output).__name__,
                source=source,
                bytes=sum(
                    t.numel() * t.element_size()
                    for t in (*tensors, *([] if whole is None else [whole]))
                ),
                elementary=not any(True for _ in module.children()),
            )
        )
        # What passes on another module's output gives nothing of its own.
        if whole is not None and not (whole is first and source is not None):
            given[id(whole)] = weakref.ref(whole), path
        if remaining is not None:
            remaining.discard(path)
            if not remaining:
                raise _Enough

    def use(function: object, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> None:
        if function is torch.conv2d and _groups(arguments, options) == 1:
            images = arguments[0] if arguments else options["input"]
            found.convolutions.append(tuple(images.shape))
        for argument in (*arguments, *options.values()):
            owner = owners.get(id(argument)) if isinstance(argument, Tensor) else None
            if owner is not None and (not running or running[-1] is not owner):
                found.shared.add(paths[owner])

    images = torch.empty(shape, dtype=precision(network), device=device)
    if images.device.type != "meta":
        images.uniform_(0.4, 0.6)
    with _ONE_AT_A_TIME, _hooked(paths, enter, leave), _Uses(use), torch.no_grad():
        try:
            network(images)
        except _Enough:
            pass
        except Exception as error:  # whatever a network has against these images, or the device
            found.error = error
    return found


def precision(network: nn.Module, default: torch.dtype = torch.float32) -> torch.dtype:
    """Return the precision in which a network computes: that of its first parameter."""
    parameter = next(network.parameters(), None)
    return default if parameter is None else parameter.dtype


def copied(network: nn.Module) -> nn.Module:
    """Return a copy that shares nothing with the network.

    Unlike ``copy.deepcopy`` it takes tensors that were computed from parameters and are kept as
    attributes, as ``torch.nn.utils.weight_norm`` keeps the weight.
    """
    with _Copying(lambda tensor: tensor.detach().clone()):
        return copy.deepcopy(network)


def without_values(network: nn.Module) -> nn.Module:
    """Return a copy on torch's meta device. Not a number is copied, and the network not touched."""
    copies: dict[int, Any] = {}
    for parameter in network.parameters():
        copies[id(parameter)] = nn.Parameter(
            torch.empty_like(parameter, device="meta"), requires_grad=False
        )
    for buffer in network.buffers():
        copies[id(buffer)] = torch.empty_like(buffer, device="meta")
    with _Copying(_empty):
        return copy.deepcopy(network, copies).eval()


def _empty(tensor: Tensor) -> Tensor:
    """Copy a tensor that is neither parameter nor buffer; a scalar keeps its value.

    Code may branch on a scalar, and it goes with tensors of any device.
    """
    return torch.empty_like(tensor, device="meta") if tensor.ndim else tensor.detach().clone()


class _Copying(TorchFunctionMode):
    """Inside, ``copy.deepcopy`` copies tensors by a function."""

    def __init__(self, copy_of: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._copy_of = copy_of

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Copy a tensor, once."""
        if func is not Tensor.__deepcopy__:
            return func(*args, **(kwargs or {}))
        tensor, memo = args
        if id(tensor) not in memo:
            memo[id(tensor)] = self._copy_of(tensor)
        return memo[id(tensor)]


class _Uses(TorchFunctionMode):
    """Inside, each function of torch is reported with its arguments."""

    def __init__(
        self, report: Callable[[object, tuple[Any, ...], Mapping[str, Any]], None]
    ) -> None:
        super().__init__()
        self._report = report

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Report a call, and call."""
        options = kwargs or {}
        self._report(func, args, options)
        if func is nn.functional.batch_norm and args and args[0].is_meta:
            # Torch would take milliseconds, for the shape that went in.
            return torch.empty_like(args[0])
        return func(*args, **options)


@contextmanager
def _hooked(
    modules: Iterable[nn.Module], enter: Callable[..., None], leave: Callable[..., None]
) -> Iterator[None]:
    handles = []
    try:
        for module in modules:
            handles.append(module.register_forward_pre_hook(enter, prepend=True, with_kwargs=True))
            handles.append(module.register_forward_hook(leave, with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _groups(arguments: tuple[Any, ...], options: Mapping[str, Any]) -> int:
    return int(arguments[6] if len(arguments) > 6 else options.get("groups", 1))
