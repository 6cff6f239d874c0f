"""Batch normalisation folded into the convolution before it: less work for the same response.

A network is changed only where that surely changes no response. Both modules have to be torch's own
as they come, ``nn.Conv2d`` and ``nn.BatchNorm2d``: no subclass, which may compute something else,
no hook, no parametrisation. The code that calls them has to call each once, one after the other,
and to do nothing else with the convolution's response; that is read off a symbolic trace, which
holds for images of any size. And nothing else in the network may call or read either, which is seen
in a pass on torch's meta device. Everything else stays as it is.
"""

import inspect
from collections import Counter
from collections.abc import Collection, Iterable, Iterator

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from iqa_metrics.backbones.probing import Call, Shape, passed, without_values


def is_untouched(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Say whether a module is of that very class, without hooks, parametrisations or the like.

    Weight and spectral normalisation show as hooks, or as a class of their own.
    """
    hooks = (
        module._forward_pre_hooks,
        module._forward_hooks,
        module._backward_pre_hooks,
        module._backward_hooks,
    )
    return type(module) is kind and not any(hooks) and runs_as_its_class(module)


def runs_as_its_class(module: nn.Module) -> bool:
    """Say whether a call of a module runs its class's ``forward``, with nothing around but hooks.

    It does not where the instance has a ``forward`` of its own, or was compiled in place.
    """
    return (
        "forward" not in vars(module)
        and type(module).__call__ is nn.Module.__call__
        and module._compiled_call_impl is None
    )


def folded(network: nn.Module, keep: Collection[str], shape: Shape) -> nn.Module:
    """Fold a network's batch normalisations into the convolutions before them, in place.

    Parameters
    ----------
    network
        A network in eval mode, the caller's to change.
    keep
        Paths of the modules whose responses are asked for. A convolution among them stays, and so
        does what runs after the last of them.
    shape
        ``[N, C, H, W]`` of images that reach these modules. Where the network can't pass them on
        the meta device, nothing is folded.
    """
    candidates = [(path, parent) for path, parent in network.named_modules() if _holds_both(parent)]
    if not candidates:
        return network
    seen = passed(without_values(network), shape, until=keep)
    if seen.error is not None:
        return network
    calls: dict[str, list[Call]] = {}
    for call in seen.calls:
        calls.setdefault(call.path, []).append(call)
    # A module that has two places in the network can't be replaced in one.
    places = Counter(child for parent in network.modules() for child in parent._modules.values())
    for path, parent in candidates:
        if not _called_without_options(parent, seen.arguments.get(path, set())):
            continue
        pairs = []
        for conv, bn in _pairs(parent):
            paths = [f"{path}.{name}" if path else name for name in (conv, bn)]
            if (
                paths[0] not in keep
                and places[parent._modules[conv]] == places[parent._modules[bn]] == 1
                and seen.shared.isdisjoint(paths)
                and _called_in_turn(calls.get(paths[0], []), calls.get(paths[1], []), path)
            ):
                pairs.append((conv, bn))
        _fold(parent, pairs)
    return network


def _holds_both(parent: nn.Module) -> bool:
    """Say whether a module's own children may be a convolution and its norm."""
    children = list(parent.children())
    return runs_as_its_class(parent) and all(
        any(is_untouched(child, kind) for child in children) for kind in (nn.Conv2d, nn.BatchNorm2d)
    )


def _called_without_options(
    parent: nn.Module, arguments: Iterable[tuple[int, tuple[str, ...]]]
) -> bool:
    """Say whether a module is always called without options, as it is traced."""
    options = _options(parent)
    needed = len(inspect.signature(parent.forward).parameters) - len(options)
    return all(
        count + len(names) <= needed and options.keys().isdisjoint(names)
        for count, names in arguments
    )


def _called_in_turn(convs: list[Call], bns: list[Call], caller: str) -> bool:
    """Say whether one module alone calls both, and the norm on each of the other's responses."""
    return (
        len(convs) == len(bns) > 0
        and {call.caller for call in (*convs, *bns)} == {caller}
        and {call.source for call in bns} == {convs[0].path}
    )


def _pairs(parent: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield the names of children that a module's code calls in turn, convolution and norm."""
    graph = _trace(parent)
    if graph is None:
        return
    calls = [node for node in graph.nodes if node.op == "call_module"]
    times = Counter(str(node.target) for node in calls)
    for node in calls:
        before = node.args[0] if node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        names = str(before.target), str(node.target)
        conv, bn = (parent._modules.get(name) for name in names)
        if times[names[0]] > 1 or times[names[1]] > 1 or conv is None or bn is None:
            continue
        if (
            is_untouched(conv, nn.Conv2d)
            and is_untouched(bn, nn.BatchNorm2d)
            and bn.running_mean is not None
            and bn.running_mean.dtype == conv.weight.dtype
            and not bn.training
        ):
            yield names


def _fold(parent: nn.Module, pairs: Collection[tuple[str, str]]) -> None:
    """Replace convolutions and their norms, unless the module's code has them by other names."""
    if not pairs:
        return
    before = _steps(parent)
    originals = {name: parent.get_submodule(name) for pair in pairs for name in pair}
    for conv, bn in pairs:
        fused = fuse_conv_bn_eval(originals[conv], originals[bn])  # type: ignore[type-var, arg-type]
        setattr(parent, conv, fused)
        setattr(parent, bn, nn.Identity())
    if _steps(parent) != before:
        for name, module in originals.items():
            setattr(parent, name, module)


class _Shallow(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def _trace(parent: nn.Module) -> fx.Graph | None:
    """Return what a module's code does, called without options; None if it can't be traced."""
    try:
        return _Shallow().trace(parent, concrete_args=_options(parent))
    except Exception:  # tracing runs the module's own code, which may refuse it in any way
        return None


def _steps(parent: nn.Module) -> list[str] | None:
    graph = _trace(parent)
    return None if graph is None else [node.format_node() or "" for node in graph.nodes]


def _options(module: nn.Module) -> dict[str, object]:
    """Return the parameters of a module's code that may be left out, and their defaults."""
    return {
        name: parameter.default
        for name, parameter in inspect.signature(module.forward).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
