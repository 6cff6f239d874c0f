"""What a backbone is: a pretrained network as a record of its factors.

:meth:`Backbone.network` builds the network; nothing is read before that. Layers are measured when
they are first asked for, on torch's meta device, which computes nothing.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from iqa_metrics.backbones.factors import UNTRAINED, Factors
from iqa_metrics.backbones.finding import Names, Stated, blocks, every_module
from iqa_metrics.backbones.layers import Layer, Measured, measured
from iqa_metrics.backbones.probing import copied, without_values
from iqa_metrics.backbones.scaling import AS_IT_IS, InputScaling
from iqa_metrics.forks import before_computing
from iqa_metrics.names import UnknownNameError, nearest, unknown
from iqa_metrics.weights.checkpoints import State, Unfilled, load
from iqa_metrics.weights.files import WeightsFile, check_here


def itself(network: nn.Module) -> nn.Module:
    """Return a network that is a trunk as it stands."""
    return network


def check_name(name: str) -> None:
    """Raise ValueError unless a backbone's name can stand in a spec."""
    if not name or any(character in name for character in ":+* "):
        raise ValueError(f"name: expected one without ':', '+', '*' and blanks, got {name!r}")


@dataclass(frozen=True, kw_only=True)
class Backbone(Factors):
    """A network, with its :class:`~iqa_metrics.backbones.factors.Factors`.

    Attributes
    ----------
    scaling
        The input it expects.
    weights
        Its weights, or None where there is no file: untrained, or a module of the caller's own.
    build
        Makes the network as its weights file knows it. On the meta device, unless untrained.
    trunk
        Takes from that network the part that holds the layers.
    names
        Names the trunk's layers: to paths of modules, from input to output.
    unpack
        Finds the state dict in its checkpoint, in the network's own keys.
    seed
        Of the random weights, where untrained.
    own
        Whether it was made from a module of the caller's.
    """

    scaling: InputScaling
    weights: WeightsFile | None
    build: Callable[[], nn.Module] = field(repr=False)
    trunk: Callable[[nn.Module], nn.Module] = field(repr=False)
    names: Names = field(repr=False)
    unpack: Callable[[State], State] | None = field(default=None, repr=False)
    seed: int | None = None
    own: bool = False

    @classmethod
    def from_module(
        cls,
        module: nn.Module,
        layers: Mapping[str, str] | Sequence[str] | None = None,
        scaling: InputScaling = AS_IT_IS,
        *,
        name: str = "mine",
        goal: str = "",
        data: str = "",
        **factors: str,
    ) -> "Backbone":
        """Describe a network of the caller's own.

        Its modules may have hooks and parametrisations, and be classes of the caller's own: they
        are run as they are.

        Parameters
        ----------
        module
            Takes ``[N, C, H, W]``. It is copied: what it learns later does not reach the record.
        layers
            Names to paths of modules, from input to output, or paths alone, which are names then.
            By default the blocks of the network are found: see
            :mod:`iqa_metrics.backbones.finding`.
        scaling
            The input it expects; by default RGB in [0, 1].
        name, goal, data, factors
            As the attributes of the same names.

        Raises
        ------
        UnknownNameError
            If a path is no module of the network.
        ValueError
            If a layer can't be read out, since the network does not call it or it returns anything
            but one tensor; if no layers are found; if the network takes images of no size that was
            tried; or if the name can't stand in a spec. The message says what can be named.

        Examples
        --------
        >>> from torch import nn
        >>> network = nn.Sequential(
        ...     nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        ... )
        >>> mine = Backbone.from_module(network, {"relu": "1", "embedding": "3"}, goal="none yet")
        >>> [(layer.name, layer.channels, layer.stride) for layer in mine.layers]
        [('relu', 8, 2), ('embedding', 8, None)]
        """
        check_name(name)
        if not isinstance(module, nn.Module):
            raise ValueError(f"module: expected a torch.nn.Module, got {module!r}")
        # What torch.compile returns is a wrapper of the network itself.
        kept = copied(getattr(module, "_orig_mod", module)).eval().requires_grad_(False)
        record = cls(
            name=name,
            architecture=type(kept).__name__,
            goal=goal,
            data=data,
            scaling=scaling,
            weights=None,
            build=partial(itself, kept),
            trunk=itself,
            names=blocks if layers is None else Stated(_paths(layers, kept)),
            own=True,
            **factors,  # type: ignore[arg-type]
        )
        _ = record.layers  # measured now: what is wrong with them is said here
        return record

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Its layers, input to output.

        Raises
        ------
        ValueError
            If none are found in the network.
        """
        found = self._measured.layers
        if not found:
            raise ValueError(
                f"{self.name}: no layers were found in {self.architecture}; name some by their "
                f"paths ({nearest('', [layer.name for layer in self.modules])})"
            )
        return found

    @property
    def input_size(self) -> int | None:
        """The one height and width that its layers take, or None where some take any."""
        return self._measured.input_size

    @cached_property
    def _measured(self) -> Measured:
        return self._measure(self.names)

    @cached_property
    def _every_module(self) -> Measured:
        return self._measure(every_module)

    def _measure(self, names: Names) -> Measured:
        real = self.build() if self.own else None
        return measured(self.shape, names, self.scaling.channels, real)

    @cached_property
    def shape(self) -> nn.Module:
        """The trunk on the meta device: all of it but the values."""
        with Unfilled():
            trunk = self.trunk(self.build())
        return without_values(trunk)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "shape"}

    @property
    def smallest_input(self) -> int:
        """Least height and width, in pixels, that reach every layer."""
        return max(layer.smallest_input for layer in self.layers)

    @property
    def modules(self) -> tuple[Layer, ...]:
        """Every module of the trunk that can be read out, named by its path.

        This is what ``all`` means where layers are asked for; any of them can stand in a spec.
        """
        return self._every_module.layers

    def network(self, weights: Path | None = None) -> nn.Module:
        """Build the trunk: on the CPU, float32, in eval mode, frozen.

        Parameters
        ----------
        weights
            A file whose content the caller has checked, for a trunk saved by this package; by
            default the published file, found on this machine and checked by its SHA-256.

        Raises
        ------
        WeightsError
            If the weights are missing, damaged, or do not fit.
        """
        before_computing()
        if weights is None and self.weights is None:
            return self._from_scratch().eval().requires_grad_(False)
        with Unfilled():
            whole = copied(self.build()) if self.own else self.build()
            trunk = self.trunk(whole)
        if weights is not None:
            load(trunk, weights)
        elif self.weights is not None:
            check_here((self.weights,), self.name)
            load(whole, self.weights.verified(), part=trunk, unpack=self.unpack)
            trunk = self.trunk(whole)  # what it holds itself was replaced
        return self._completed(trunk).eval().requires_grad_(False)

    def _completed(self, trunk: nn.Module) -> nn.Module:
        """Compute what no file holds, such as tables of positions."""
        empty = [name for name, buffer in trunk.named_buffers() if buffer.is_meta]
        if empty:
            plain = dict(self.trunk(self.build()).named_buffers())
            for name in empty:
                owner, _, key = name.rpartition(".")
                trunk.get_submodule(owner)._buffers[key] = plain[name]
        return trunk

    def _from_scratch(self) -> nn.Module:
        if self.seed is None:
            return copied(self.trunk(self.build()))
        # Not torch.manual_seed, which would reseed GPUs as well.
        before = torch.default_generator.get_state()
        try:
            torch.default_generator.manual_seed(self.seed)
            return self.trunk(self.build())
        finally:
            torch.default_generator.set_state(before)

    def untrained(self, seed: int = 0) -> "Backbone":
        """Return the same network with random weights: the control that training is compared with.

        The weights are drawn as the architecture's authors start training, by torch's generator
        from that seed, so they are the same wherever torch and torchvision are.

        Raises
        ------
        ValueError
            If it is a module of the caller's own, which can't be initialised again.
        """
        if self.own:
            raise ValueError(
                f"{self.name} is a module of your own, which can't be initialised again; "
                "give from_module another one"
            )
        suffix = UNTRAINED if seed == 0 else f"{UNTRAINED}{seed}"
        return replace(
            self,
            name=f"{self.name}.{suffix}",
            goal=UNTRAINED,
            method="",
            data="",
            start="",
            environment="",
            recipe=f"seed {seed}",
            weights=None,
            unpack=None,
            score=None,
            score_of="",
            note="",
            seed=seed,
        )

    def layer(self, name: str) -> Layer:
        """Return the layer of that name, or the module of that path.

        Raises
        ------
        UnknownNameError
            If there is none; the message gives the nearest names.
        """
        known = {layer.name: layer for layer in self._measured.layers}
        if name in known:
            return known[name]
        others = {layer.name: layer for layer in self.modules}
        if name in others:
            return others[name]
        reason = self._every_module.refused.get(name)
        if reason is not None:
            raise UnknownNameError(
                f"module {name!r} of {self.name} {reason}; {nearest(name, others)}",
                "unknown_layer",
            )
        # Modules too, where the name looks like a path.
        near = [*known, *others] if "." in name else list(known or others)
        raise unknown(f"layer of {self.name}", name, near, code="unknown_layer")

    def in_order(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return known layer names from input to output, each once."""
        wanted = {layer.name: layer for layer in map(self.layer, names)}
        running = self._measured.layers
        if not set(wanted) <= {layer.name for layer in running}:
            running = self.modules  # where the named ones are too, by their paths
        ranks = {layer.module: rank for rank, layer in enumerate(running)}
        return tuple(sorted(wanted, key=lambda name: ranks[wanted[name].module]))


def _paths(layers: Mapping[str, str] | Sequence[str], network: nn.Module) -> dict[str, str]:
    """Return names to paths of modules, checked."""
    if isinstance(layers, Mapping):
        paths = dict(layers)
    elif isinstance(layers, list | tuple):
        paths = {path: path for path in layers}
    else:
        paths = {}
    if not paths or not all(isinstance(text, str) for text in (*paths, *paths.values())):
        raise ValueError(
            f"layers: expected {{name: path of a module}} or a list of such paths, got {layers!r}"
        )
    known = dict(network.named_modules())
    for path in paths.values():
        if path not in known:
            raise UnknownNameError(
                f"{type(network).__name__} has no module {path!r}; "
                f"{nearest(path, every_module(network))}",
                "unknown_layer",
            )
    return paths
