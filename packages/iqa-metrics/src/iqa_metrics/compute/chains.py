"""Networks, or the beginnings of them, that are chains of modules called one after another."""

from collections.abc import Mapping, Sequence

from torch import nn

from iqa_metrics.compute.folding import runs_as_its_class
from iqa_metrics.compute.winograd import WinogradConv2d

Step = tuple[nn.Module, Sequence[str]]

_ONLY_READS = (
    *(nn.Conv2d, WinogradConv2d, nn.Linear, nn.BatchNorm2d, nn.LayerNorm),
    *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
)
"""Modules that leave their input as it is."""


def may_overwrite(module: nn.Module) -> bool:
    """Say whether a module may write into its input, as an activation in place does."""
    return type(module) not in _ONLY_READS or not runs_as_its_class(module)


def chain(network: nn.Module, modules: Mapping[str, nn.Module]) -> list[Step] | None:
    """Return what to call one after another to reach those modules, with the names of each.

    A chain needs no hooks, stops by itself, and can be compiled. None where a module lies inside
    one that is no plain sequence.
    """
    names_of = {
        module: [n for n, m in modules.items() if m is module] for module in modules.values()
    }
    steps: list[Step] = []
    for module, ends in _links(network):
        names = [name for end in ends for name in names_of.pop(end, ())]
        steps.append((module, names))
        if not names_of:
            return steps
    return None


def _links(module: nn.Module) -> list[tuple[nn.Module, list[nn.Module]]]:
    """Return the modules that a sequence calls in turn, and what each is the end of."""
    # Not children(), which leaves out a module that is called a second time.
    children = list(module._modules.values()) if _is_plain_sequence(module) else []
    links = [link for child in children if child is not None for link in _links(child)]
    if not links:
        return [(module, [module])]
    last, ends = links[-1]
    return [*links[:-1], (last, [*ends, module])]


def _is_plain_sequence(module: nn.Module) -> bool:
    """Say whether calling a module is calling its children in turn, and nothing else."""
    kind = type(module)
    return (
        isinstance(module, nn.Sequential)
        and kind.forward is nn.Sequential.forward
        and getattr(kind, "__iter__", None) is nn.Sequential.__iter__
        and runs_as_its_class(module)
        and not (module._forward_hooks or module._forward_pre_hooks)
        and not (module._backward_hooks or module._backward_pre_hooks)
    )
