"""Which modules of a network are its layers, and what they are called.

A layer is a block as papers count them: a stem, a residual or inverted residual block, a fire
module, a transformer's block; in plain networks each convolution, activation and pooling; and what
follows the last block, such as a pooling over all positions and fully connected layers.
:func:`blocks` finds them in the structure of the network's modules: it opens what holds blocks
(sequences of them, stages, encoders, a network inside another) and stops at what is one.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

Names = Callable[[nn.Module], Mapping[str, str]]
"""Names a network's layers: to paths of modules, in the order in which they run."""

_ELEMENTARY = (_ConvNd, nn.Linear, _NormBase, nn.LayerNorm, nn.GroupNorm, nn.MultiheadAttention)
"""What counts as one operation whatever modules it holds, such as an activation of its own."""
_LISTS = (nn.Sequential, nn.ModuleList)

_VIEWS = {"Flatten", "Unflatten", "Permute", "Rearrange"}
"""Modules that lay a response out otherwise: no layers."""
_PASSING_ON = {
    *("Identity", "DropPath", "StochasticDepth", "PatchDropout"),
    *("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout"),
}


@dataclass(frozen=True)
class Stated:
    """Names that a caller stated; all of them have to be layers.

    Attributes
    ----------
    paths
        Names to paths of modules.
    """

    paths: Mapping[str, str]

    def __call__(self, network: nn.Module) -> Mapping[str, str]:
        """Return the names."""
        return self.paths


def blocks(network: nn.Module) -> dict[str, str]:
    """Return the layers of any network, named by their paths, in the order of its modules.

    Of a network without modules it is ``output``, what the network returns.
    """
    found = list(_Blocks(network))
    kept = {}
    for (path, module), following in zip(found, [*found[1:], None], strict=True):
        activated = following is not None and _is_activation(following[1])
        if type(module).__name__ in _VIEWS or (_is_norm(module) and activated):
            continue  # a norm and its activation count as one
        kept[path or "output"] = path
    return kept


def every_module(network: nn.Module) -> dict[str, str]:
    """Return the paths of all modules but the network itself."""
    return {path: path for path, _ in network.named_modules() if path}


def passes_on(module: nn.Module) -> bool:
    """Say whether a module returns what it is given, in eval mode."""
    return type(module).__name__ in _PASSING_ON


class _Blocks:
    """The parts of a network at which its structure is not opened any further."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        weights = _weights(network)
        # What holds most of a network is no block of it.
        self._largest = {
            m for m in network.modules() if 2 * _weights(m) > weights and not _is_called_block(m)
        }
        # A stage of a single block is of the same class as one of many.
        self._stages = {
            type(m)
            for m in network.modules()
            if _is_stage(m) or (m in self._largest and not isinstance(m, _LISTS))
        }

    def __iter__(self) -> Iterator[tuple[str, nn.Module]]:
        return self._parts(self._network, "")

    def _parts(self, module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
        if not self._opens(module):
            yield path, module
            return
        for name, child in module.named_children():
            yield from self._parts(child, f"{path}.{name}" if path else name)

    def _opens(self, module: nn.Module) -> bool:
        children = list(module.children())
        if not children or isinstance(module, _ELEMENTARY):
            return False
        if module is self._network or type(module) in self._stages:
            return True
        if isinstance(module, _LISTS) and not all(map(_is_elementary, children)):
            return True
        # A head of several fully connected layers.
        if isinstance(module, _LISTS) and sum(isinstance(c, nn.Linear) for c in children) > 1:
            return True
        return module in self._largest


def _is_stage(module: nn.Module) -> bool:
    """Say whether a module holds blocks one after another, by its name or by a list of them."""
    if isinstance(module, _LISTS):
        return False
    children = list(module.children())
    name = type(module).__name__
    if name.endswith(("Stage", "Head")) or (
        children and all(isinstance(child, nn.ModuleList) for child in children)
    ):
        return True
    return not _is_called_block(module) and any(map(_holds_blocks, children))


def _is_called_block(module: nn.Module) -> bool:
    return type(module).__name__.endswith(("Block", "Module", "Cell", "Unit"))


def _holds_blocks(module: nn.Module) -> bool:
    """Say whether a module is a list of two or more blocks of one kind."""
    children = list(module.children())
    return (
        isinstance(module, _LISTS)
        and len(children) > 1
        and len({type(child) for child in children}) == 1
        and not isinstance(children[0], _LISTS)
        and not _is_elementary(children[0])
        and _weights(children[0]) > 1
    )


def _is_elementary(module: nn.Module) -> bool:
    return isinstance(module, _ELEMENTARY) or not any(True for _ in module.children())


def _weights(module: nn.Module) -> int:
    """Return how many weighted operations a module holds, as papers count a network's depth."""
    return sum(
        any(p is not None and p.ndim > 1 for p in inner._parameters.values())
        for inner in module.modules()
    )


def _is_norm(module: nn.Module) -> bool:
    return "Norm" in type(module).__name__ and not any(True for _ in module.children())


def _is_activation(module: nn.Module) -> bool:
    return type(module).__module__ == "torch.nn.modules.activation" and not isinstance(
        module, nn.MultiheadAttention
    )


# Naming ------------------------------------------------------------------------------------------


def counted(network: nn.Module, *, stages: bool = False) -> dict[str, str]:
    """Name plain networks' layers: ``conv1``, ``relu1``, ``pool1``, ``fire2``...

    A layer has the number of the last convolution or block. With ``stages``, numbers start again
    after each pooling, as in VGG's paper: ``conv1_1``, ``relu1_1``... ``pool1``.
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
