"""Which layers a network has: found in the network itself, named, and measured.

A layer is a block as papers count them: a stem, a residual or inverted residual block, a fire
module, a transformer's block; in plain networks each convolution, activation and pooling.
:func:`blocks` finds them by taking sequences apart until something is no sequence of blocks any
more. Channels, stride and the smallest input come from passes on torch's meta device, which runs
the network's own code on shapes alone.

Depth is a number in (0, 1]: how many of the network's elementary modules have run when the layer is
there, over how many have run at the end of its last layer. So curves over the layers of unlike
networks share an axis.
"""

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from iqa_metrics.names import UnknownNameError, nearest

Names = Callable[[nn.Module], Mapping[str, str]]
"""Names a trunk's layers: to paths of modules, in the order in which they run."""

_SIDES = (256, 192)
SURELY_ENOUGH = max(_SIDES)
"""The input that layers are measured at; sides differ, to tell height from channels."""
_LARGER_SIDES = (1280, 960)
_FIXED_SIDES = (224, 384, 512, 299, 518, 336, 448, 256, 192, 160, 128, 96, 64, 32)
"""Sides to try where a network takes one size alone."""
_LARGEST = 1024
_MEASURING = threading.Lock()


@dataclass(frozen=True)
class Tokens:
    """The form of a transformer's response: ``[N, prefix + h w, C]``.

    Attributes
    ----------
    prefix
        Number of tokens before those of the patches, such as the class token.
    patch
        Side of a patch in pixels. The grid has as many rows and columns as patches cover the image.
    """

    prefix: int
    patch: int

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Return rows and columns of patches for an image."""
        return -(-height // self.patch), -(-width // self.patch)


CHANNELS_FIRST, CHANNELS_LAST = "channels first", "channels last"
Form = str | Tokens


def as_grid(response: Tensor, form: Form, height: int, width: int) -> Tensor:
    """Return a response of an image of that size as ``[N, C, h, w]``, as a view."""
    if isinstance(form, Tokens):
        rows, columns = form.grid(height, width)
        patches = response[:, form.prefix :].transpose(1, 2)
        return torch.unflatten(patches, 2, (rows, columns))
    return response.permute(0, 3, 1, 2) if form == CHANNELS_LAST else response


@dataclass(frozen=True)
class Layer:
    """One layer that can be read out.

    Attributes
    ----------
    name
        What specs call it.
    module
        Path of the module whose output it is, in the trunk.
    channels
        Number of channels of its response.
    stride
        Input pixels per response position.
    depth
        How far through the network it lies, in (0, 1].
    form
        How the module lays its response out; what is read out is ``[N, C, h, w]`` always.
    limits
        Names of the network's layers to the least height and width, in pixels, that reach them.
    """

    name: str
    module: str
    channels: int
    stride: int
    depth: float = 1.0
    form: Form = CHANNELS_FIRST
    limits: Mapping[str, int] = field(default_factory=dict, repr=False, compare=False)

    @property
    def smallest_input(self) -> int:
        """Least height and width, in pixels, that reach it.

        It is found when first asked for, in a handful of passes on the meta device. Images of
        :data:`SURELY_ENOUGH` pixels each way reach every layer of every network, but of one that
        takes a single size.
        """
        return self.limits.get(self.name, 1)


# Finding ----------------------------------------------------------------------------------------


def blocks(network: nn.Module) -> dict[str, str]:
    """Return the layers of any network, named by their paths, in the order of its modules."""
    found = list(_parts(network, "", root=True))
    kept = {}
    for (path, module), following in zip(found, [*found[1:], None], strict=True):
        activated = following is not None and _is_activation(following[1])
        if type(module).__name__ in _NO_LAYERS or (_is_norm(module) and activated):
            continue  # a norm and its activation count as one
        kept[path] = path
    return kept


_NO_LAYERS = {
    *("Dropout", "Dropout2d", "StochasticDepth", "Identity", "Flatten", "Permute"),
    *("Linear", "AdaptiveAvgPool2d"),
}


def _parts(module: nn.Module, path: str, *, root: bool = False) -> Iterator[tuple[str, nn.Module]]:
    children = list(module.named_children())
    of_blocks = isinstance(module, nn.Sequential | nn.ModuleList) and any(
        # A convolution that pads by a module of its own is elementary all the same.
        not isinstance(child, nn.Conv2d) and any(True for _ in child.children())
        for _, child in children
    )
    # A module around a list of others is a stage of a network, and so is what calls itself that.
    is_stage = type(module).__name__.endswith("Stage") or (
        bool(children) and all(isinstance(child, nn.ModuleList) for _, child in children)
    )
    if children and (root or of_blocks or is_stage):
        for name, child in children:
            yield from _parts(child, f"{path}.{name}" if path else name)
    else:
        yield path, module


def _is_norm(module: nn.Module) -> bool:
    return "Norm" in type(module).__name__ and not any(True for _ in module.children())


def _is_activation(module: nn.Module) -> bool:
    return type(module).__module__ == "torch.nn.modules.activation"


def every_module(network: nn.Module) -> dict[str, str]:
    """Return the paths of all modules but the network itself."""
    return {path: path for path, _ in network.named_modules() if path}


# Naming -----------------------------------------------------------------------------------------


def counted(network: nn.Module, *, stages: bool = False) -> dict[str, str]:
    """Name plain networks' layers: ``conv1``, ``relu1``, ``pool1``, ``fire2``...

    A layer has the number of the last convolution or block. With ``stages``, numbers begin anew
    after each pooling, as VGG's paper has it: ``conv1_1``, ``relu1_1``... ``pool1``.
    """
    named, stage, number = {}, 1, 0
    for path in blocks(network):
        module = network.get_submodule(path)
        kind = type(module).__name__.lower()
        if isinstance(module, nn.MaxPool2d):
            named[f"pool{stage if stages else number}"] = path
            if stages:
                stage, number = stage + 1, 0
            continue
        kind = "conv" if isinstance(module, nn.Conv2d) else "relu" if kind == "relu" else kind
        number += kind != "relu"
        named[f"{kind}{stage}_{number}" if stages else f"{kind}{number}"] = path
    return named


def staged(network: nn.Module) -> dict[str, str]:
    """Name a sequence of stages: ``stem``, ``block1`` or ``block1.0``..., ``down2``, ``head``.

    The numbers are those of the network itself.
    """
    found = list(blocks(network))
    named = {}
    for path in found:
        module = network.get_submodule(path)
        is_chain = isinstance(module, nn.Sequential)
        if path == found[0]:
            name = "stem"
        elif path == found[-1] and is_chain:
            name = "head"
        else:
            name = f"{'down' if is_chain or 'Merging' in type(module).__name__ else 'block'}{path}"
        named[name] = path
    return named


def residual(network: nn.Module) -> dict[str, str]:
    """Name a ResNet's layers: ``conv1``, ``relu1``, ``pool1``, ``layer1.0``..."""
    pretty = {"relu": "relu1", "maxpool": "pool1"}
    return {pretty.get(path, path): path for path in blocks(network)}


# Measuring --------------------------------------------------------------------------------------


class _AllSeen(Exception):  # noqa: N818 - no error
    """Ends a pass once all that is asked for was seen."""


@dataclass(frozen=True)
class _Seen:
    """A response on its way: its shape, and how many elementary modules had run."""

    shape: tuple[int, ...]
    ran: int


def measured(
    network: nn.Module, names: Mapping[str, str], channels: int = 3
) -> tuple[int | None, tuple[Layer, ...]]:
    """Measure layers of a network on the meta device.

    Parameters
    ----------
    network
        The network, on the meta device, in eval mode. A transformer whose responses are tokens
        says how many of them are no patches, and the patches' side, in an attribute ``tokens``.
    names
        Names to paths. Modules that never run, or whose output is no grid of positions, are left
        out.
    channels
        Number of channels of its input.

    Returns
    -------
    tuple
        The side of the only input that it takes, or None; and the layers as they run.

    Raises
    ------
    ValueError
        If the network runs at no size that was tried.
    """
    fixed, sides, seen = _first_pass(network, names, channels)
    grown = {} if fixed else _passed(network, names, channels, *_LARGER_SIDES)[0]
    tokens = getattr(network, "tokens", None)
    found: dict[str, tuple[_Seen, Form, int, int]] = {}
    for name, response in seen.items():
        larger = grown[name].shape if name in grown else None
        grid = _grid_of(response.shape, larger, tokens, sides)
        if grid is not None:
            found[name] = (response, *grid)
    total = max((response.ran for response, *_ in found.values()), default=1)
    limits: Mapping[str, int] = (
        dict.fromkeys(found, fixed)
        if fixed
        else _Limits(lambda: _smallest_inputs(network, names, channels, found))
    )
    layers = [
        Layer(name, names[name], c, stride, response.ran / total, form, limits=limits)
        for name, (response, form, c, stride) in found.items()
    ]
    return fixed, tuple(layers)


class _Limits(Mapping[str, int]):
    """A mapping that is made when it is first read."""

    def __init__(self, make: Callable[[], dict[str, int]]) -> None:
        self._make = make
        self._made: dict[str, int] | None = None

    def _there(self) -> dict[str, int]:
        if self._made is None:
            self._made = self._make()
        return self._made

    def __getitem__(self, name: str) -> int:
        return self._there()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._there())

    def __len__(self) -> int:
        return len(self._there())


def _first_pass(
    network: nn.Module, names: Mapping[str, str], channels: int
) -> tuple[int | None, tuple[int, int], dict[str, _Seen]]:
    complaint: Exception | None = None
    for fixed in (None, *_FIXED_SIDES):
        height, width = _SIDES if fixed is None else (fixed, fixed)
        seen, error = _passed(network, names, channels, height, width)
        if error is None:
            return fixed, (height, width), seen
        complaint = complaint or error
    raise ValueError(
        f"{type(network).__name__} takes no image [1, {channels}, H, W] of any size that was "
        f"tried, from {_SIDES[0]}x{_SIDES[1]} to {min(_FIXED_SIDES)}x{min(_FIXED_SIDES)}: "
        f"{complaint}"
    ) from complaint


def _passed(
    network: nn.Module, names: Mapping[str, str], channels: int, height: int, width: int
) -> tuple[dict[str, _Seen], Exception | None]:
    """Return what was seen of the layers in one pass, and what ended it early."""
    modules = dict(network.named_modules())
    of_module: dict[nn.Module, list[str]] = {}
    for name, path in names.items():
        of_module.setdefault(modules[path], []).append(name)
    seen: dict[str, _Seen] = {}
    ran = 0

    def hook(module: nn.Module, _: object, output: object) -> None:
        nonlocal ran
        ran += not any(True for _ in module.children())
        for name in of_module.get(module, ()):
            if name not in seen and isinstance(output, Tensor):
                seen[name] = _Seen(tuple(output.shape), ran)
        if len(seen) == len(names):
            raise _AllSeen

    parameter = next(network.parameters(), None)
    dtype = torch.float32 if parameter is None else parameter.dtype
    image = torch.empty(1, channels, height, width, dtype=dtype, device="meta")
    # Another thread's pass through the same network would fire these hooks too.
    with _MEASURING:
        handles = [module.register_forward_hook(hook) for module in modules.values()]
        try:
            with torch.no_grad():
                network(image)
        except _AllSeen:
            pass
        except Exception as error:  # whatever a network has against an input of that size
            return seen, error
        finally:
            for handle in handles:
                handle.remove()
    return seen, None


def _grid_of(
    shape: tuple[int, ...],
    larger: tuple[int, ...] | None,
    tokens: Tokens | None,
    sides: tuple[int, int],
) -> tuple[Form, int, int] | None:
    """Return form, channels and stride of a response, or None if it is no grid of positions.

    ``larger`` is the response's shape for a larger image: the sides that grow with it are height
    and width, and how fast they grow is the stride, whatever is padded.
    """
    if len(shape) == 3 and tokens is not None:
        rows, columns = tokens.grid(*sides)
        fits = shape[1] == tokens.prefix + rows * columns
        return (tokens, shape[2], tokens.patch) if fits else None
    if len(shape) != 4:
        return None
    for form, row, channel in ((CHANNELS_FIRST, 2, 1), (CHANNELS_LAST, 1, 3)):
        rows, columns, channels = shape[row], shape[row + 1], shape[channel]
        if larger is None:
            if rows == columns > 1:
                return form, channels, max(1, round(sides[0] / rows))
        elif larger[row] > rows and larger[row + 1] > columns and larger[channel] == channels:
            return form, channels, round((_LARGER_SIDES[0] - sides[0]) / (larger[row] - rows))
    return None


def _smallest_inputs(
    network: nn.Module, names: Mapping[str, str], channels: int, wanted: Iterable[str]
) -> dict[str, int]:
    """Return the least side that reaches each layer, by doubling and bisection."""
    paths = {name: names[name] for name in wanted}
    smallest: dict[str, int] = {}

    def reached(side: int, of: Iterable[str]) -> set[str]:
        seen, _ = _passed(network, {name: paths[name] for name in of}, channels, side, side)
        return {name for name, response in seen.items() if all(response.shape)}

    def bisect(low: int, high: int, between: set[str]) -> None:
        """Settle layers that ``low`` does not reach and ``high`` does."""
        if not between:
            return
        if high - low == 1:
            smallest.update(dict.fromkeys(between, high))
            return
        middle = (low + high) // 2
        there = reached(middle, between)
        bisect(low, middle, there)
        bisect(middle, high, between - there)

    low, high, left = 0, 1, set(paths)
    while left and high <= _LARGEST:
        there = reached(high, left)
        bisect(low, high, there)
        left -= there
        low, high = high, 2 * high
    smallest.update(dict.fromkeys(left, max(_SIDES)))
    return smallest


def unknown_layer(
    backbone: str, name: str, layers: Iterable[str], modules: Iterable[str]
) -> UnknownNameError:
    """Return the error that names what comes near, modules too where the name looks like a path."""
    known = [*layers, *modules] if re.search(r"[.]", name) else list(layers)
    said = f"unknown layer of {backbone} {name!r}; {nearest(name, known)}"
    return UnknownNameError(said, "unknown_layer")
