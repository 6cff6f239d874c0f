"""The layers of a network, measured: channels, stride, depth, and the images that reach them.

They are read off passes on torch's meta device, which run the network's own code on shapes alone.
A network of the caller's own that the meta device can't run is passed real images instead.

Depth is a number in (0, 1]: how many of the network's elementary modules have run when the layer is
there, over how many have run at the end of its last layer. So curves over the layers of unlike
networks share an axis.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from iqa_metrics.backbones.finding import Names, Stated, every_module, passes_on
from iqa_metrics.backbones.forms import (
    BATCH,
    CHANNELS_FIRST,
    Form,
    Layout,
    layout_of_one,
    layout_of_two,
)
from iqa_metrics.backbones.image_sizes import patch_size, stated_sizes
from iqa_metrics.backbones.probing import Shape, passed
from iqa_metrics.names import nearest

_SIDES = (256, 192)
SURELY_ENOUGH = max(_SIDES)
"""The input that layers are measured at; sides differ, to tell height from channels."""
_LARGER_SIDES = (1280, 960)
_LARGER_REAL_SIDES = (512, 384)
"""The same where each pixel takes time."""
_FIXED_SIDES = (224, 384, 512, 299, 518, 336, 448, 256, 192, 160, 128, 96, 64, 32, 28)
"""Sides to try where a network takes one size alone."""
_LARGEST = 1024


@dataclass(frozen=True)
class Layer:
    """One layer that can be read out.

    Attributes
    ----------
    name
        What specs call it.
    module
        Path of the module whose output it is, in the network.
    channels
        Number of channels of its response.
    stride
        Input pixels per position of the response. None where there is no grid of positions that
        grows with the image: of a vector, such as an embedding, read out as ``[N, C, 1, 1]``.
    depth
        How far through the network it lies, in (0, 1].
    form
        How the module lays its response out; what is read out is ``[N, C, h, w]`` always.
    input_size
        The one height and width that reaches it, or None where any does.
    limits
        Names of the network's layers to the least height and width, in pixels, that reach them.
    """

    name: str
    module: str
    channels: int
    stride: int | None
    depth: float = 1.0
    form: Form = CHANNELS_FIRST
    input_size: int | None = None
    limits: Mapping[str, int] = field(default_factory=dict, repr=False, compare=False)

    @property
    def smallest_input(self) -> int:
        """Least height and width, in pixels, that reach it.

        It is found when first asked for, in a handful of passes on the meta device. Images of
        :data:`SURELY_ENOUGH` pixels each way reach every layer of every network, except of one that
        takes a single size.
        """
        return self.limits.get(self.name, 1)


@dataclass(frozen=True)
class Measured:
    """What was found out about a network.

    Attributes
    ----------
    layers
        Its layers, in the order in which they run.
    refused
        Names of modules that are no layers, to the reason.
    """

    layers: tuple[Layer, ...]
    refused: Mapping[str, str]

    @property
    def input_size(self) -> int | None:
        """The one height and width that the network takes, or None where it takes any."""
        sizes = {layer.input_size for layer in self.layers}
        return sizes.pop() if len(sizes) == 1 else None


def measured(
    network: nn.Module, names: Names, channels: int = 3, real: nn.Module | None = None
) -> Measured:
    """Measure layers of a network.

    Parameters
    ----------
    network
        The network, on the meta device, in eval mode.
    names
        Names the layers.
    channels
        Number of channels of its input.
    real
        The same network with its values: passed real images where the meta device can't run it.

    Raises
    ------
    ValueError
        If the network takes images of no size that was tried, or a layer that the caller stated
        can't be read out.
    """
    paths = names(network)
    try:
        view = _View.of(_Probe(network, paths, channels))
    except ValueError:
        if real is None:
            raise
        view = _View.of(_Probe(real, paths, channels, _home(real), _LARGER_REAL_SIDES))
    found: dict[str, tuple[_Seen, Layout]] = {}
    refused: dict[str, str] = {}
    for name, path in paths.items():
        layout = view.layout(name)
        if isinstance(layout, str):
            refused[path] = layout
        elif isinstance(names, Stated) or not _repeats(
            network.get_submodule(path), view.seen(name), layout
        ):
            found[name] = view.seen(name), layout
    if refused and isinstance(names, Stated):
        path, reason = next(iter(refused.items()))
        others = measured(network, every_module, channels, real).layers
        raise ValueError(
            f"module {path!r} of {type(network).__name__} {reason}; "
            f"{nearest(path, [layer.name for layer in others])}"
        )
    total = max((seen.ran for seen, _ in found.values()), default=1)
    limits = _Limits(view, tuple(found))
    return Measured(
        tuple(
            Layer(
                name=name,
                module=paths[name],
                channels=layout.channels,
                stride=layout.stride,
                depth=seen.ran / total,
                form=layout.form,
                input_size=view.only_size(name),
                limits=limits,
            )
            for name, (seen, layout) in sorted(found.items(), key=lambda item: item[1][0].place)
        ),
        refused,
    )


@dataclass(frozen=True)
class _Seen:
    """The first call of a module: what it returned, when, and how many elementary ones had run."""

    shape: Shape | None
    returned: str
    place: int
    ran: int
    source: str | None


@dataclass(frozen=True)
class _Probe:
    """A network and the layers that its passes are watched for."""

    network: nn.Module
    paths: Mapping[str, str]
    channels: int
    device: torch.device | str = "meta"
    larger: tuple[int, int] = _LARGER_SIDES

    def run(
        self, height: int, width: int, names: Iterable[str] | None = None
    ) -> tuple[dict[str, _Seen], Exception | None]:
        """Return what a pass shows of layers, and what ended it early."""
        wanted = {name: self.paths[name] for name in (self.paths if names is None else names)}
        found = passed(
            self.network,
            (BATCH, self.channels, height, width),
            until=wanted.values(),
            device=self.device,
        )
        first: dict[str, _Seen] = {}
        ran = 0
        for place, call in enumerate(found.calls):
            ran += call.elementary
            if call.path not in first:
                first[call.path] = _Seen(call.output, call.returned, place, ran, call.source)
        return {n: first[path] for n, path in wanted.items() if path in first}, found.error


@dataclass(frozen=True)
class _View:
    """What passes with images of several sizes show of a network's layers.

    Attributes
    ----------
    probe
        The network.
    small, large
        Layers that images of two sizes reach.
    one
        Layers that images of ``side`` reach, where a network takes no other.
    side
        The one size that it takes, or None.
    error
        What ended the pass with images of another size.
    """

    probe: _Probe
    small: Mapping[str, _Seen]
    large: Mapping[str, _Seen]
    one: Mapping[str, _Seen] = field(default_factory=dict)
    side: int | None = None
    error: str | None = None

    @classmethod
    def of(cls, probe: _Probe) -> "_View":
        """Look at a network.

        Raises
        ------
        ValueError
            If it takes images of no size that was tried.
        """
        small, error = probe.run(*_SIDES)
        large = probe.run(*probe.larger)[0] if small else {}
        if error is None:
            return cls(probe, small, large)
        view = cls(probe, small, large, error=str(error) or type(error).__name__)
        tried = list(dict.fromkeys((*stated_sizes(probe.network), *_FIXED_SIDES)))
        for side in tried:
            one, complaint = probe.run(side, side)
            if complaint is None:
                fixed = replace(view, one=one, side=side)
                # A head that takes one size alone leaves the layers before it to any size.
                after = [fixed.layout(name) for name in one if name not in small]
                if large and not any(isinstance(x, Layout) and x.stride for x in after):
                    return fixed
                return replace(fixed, small={}, large={})
        if large:
            return view
        height, width = _SIDES
        raise ValueError(
            f"{type(probe.network).__name__} takes no images [N, {probe.channels}, H, W] of any "
            f"size that was tried, {height}x{width} and "
            f"{', '.join(f'{side}x{side}' for side in tried)}: {error}"
        ) from error

    def seen(self, name: str) -> _Seen:
        """Return a layer's first call."""
        return self.small[name] if self.only_size(name) is None else self.one[name]

    def only_size(self, name: str) -> int | None:
        """Return the one height and width that reaches a layer, or None where any does."""
        return None if name in self.small else self.side

    def layout(self, name: str) -> Layout | str:
        """Return a layer's layout, or why it has none."""
        if name not in self.small and name not in self.one:
            return "is never called" if self.error is None else f"is not reached: {self.error}"
        here = self.seen(name)
        if here.shape is None:
            return f"returns {here.returned}, where one tensor is expected"
        if name in self.small:
            more = self.large.get(name, here).shape or ()
            found = layout_of_two(here.shape, more, _SIDES, self.probe.larger)
        else:
            found = layout_of_one(here.shape, self.side or 0, patch_size(self.probe.network))
        return found or (
            f"returns {_shown(here.shape)}, where [N, C, h, w], [N, h, w, C], [N, L, C] or [N, C] "
            "is expected"
        )

    def smallest(self, names: Iterable[str]) -> dict[str, int]:
        """Return the least side that reaches each layer, by doubling and bisection."""
        wanted = list(names)
        sizes = {name: self.only_size(name) for name in wanted}
        smallest = {name: size for name, size in sizes.items() if size is not None}

        def reached(side: int, of: Iterable[str]) -> set[str]:
            seen, _ = self.probe.run(side, side, of)
            return {name for name, here in seen.items() if here.shape and all(here.shape)}

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

        low, high, left = 0, 1, set(wanted) - set(smallest)
        while left and high <= _LARGEST:
            there = reached(high, left)
            bisect(low, high, there)
            left -= there
            low, high = high, 2 * high
        smallest.update(dict.fromkeys(left, max(_SIDES)))
        return smallest


class _Limits(Mapping[str, int]):
    """The least sides that reach layers, found when the first is asked for."""

    def __init__(self, view: _View, names: tuple[str, ...]) -> None:
        self._view = view
        self._names = names
        self._found: dict[str, int] | None = None

    def __reduce__(self) -> tuple[type, tuple[dict[str, int]]]:
        # Not with the network: before 2.5, torch sends nothing on the meta device to a process.
        return dict, (dict(self),)

    def __getitem__(self, name: str) -> int:
        if self._found is None:
            self._found = self._view.smallest(self._names)
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _repeats(module: nn.Module, seen: _Seen, layout: Layout) -> bool:
    """Say whether a module passes on what another one gave, or positions that the network made.

    What is left are the vectors that a network makes by itself, such as the class token.
    """
    is_vector = math.prod(seen.shape or ()) == BATCH * layout.channels
    return passes_on(module) and (seen.source is not None or not is_vector)


def _home(network: nn.Module) -> torch.device:
    parameter = next(network.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def _shown(shape: Shape) -> str:
    return f"[{', '.join('N' if i == 0 and n == BATCH else str(n) for i, n in enumerate(shape))}]"


def only_size(layers: Iterable[Layer]) -> int | None:
    """Return the one height and width that reaches layers, or None where any does."""
    return next((layer.input_size for layer in layers if layer.input_size is not None), None)
