"""Make a backbone's feature extractor, with its published weights or the caller's own."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized, type_before_parametrizations

from iqa_metrics.backbones import Backbone, Layer
from iqa_metrics.backbones.layers import SURELY_ENOUGH, only_size
from iqa_metrics.backbones.probing import copied
from iqa_metrics.compute.features import FeatureExtractor
from iqa_metrics.compute.folding import folded
from iqa_metrics.compute.winograd import with_fewer_multiplications
from iqa_metrics.weights.checkpoints import Unfilled

_OF_NORMALISATION = ("g", "v", "u", "orig", "mask")
"""Suffixes of what ``torch.nn.utils``' older weight and spectral norms and pruning keep."""


def extractor_of(
    record: Backbone,
    layers: Iterable[str],
    weights: str | Path | None = None,
    trunk: nn.Module | None = None,
    *,
    network: nn.Module | None = None,
) -> FeatureExtractor:
    """Make the extractor of a backbone.

    Parameters
    ----------
    record
        The backbone.
    layers
        Names of the layers that will be visited; ``trunk`` need not have any others.
    weights
        A file with the network's state dict, whose content the caller has checked; by default the
        backbone's published weights.
    trunk
        The caller's own network instead; see :func:`adopted`.
    network
        The network that :meth:`Backbone.network` returned, if it was built already; it is changed.

    Raises
    ------
    ValueError
        If both weights and a trunk are given, or if the trunk has another architecture.
    WeightsError
        If the weights are missing or damaged.
    """
    if trunk is not None and weights is not None:
        raise ValueError("expected either weights or trunk, got both")
    if network is not None and not (trunk is None and weights is None):
        raise ValueError("network: it is built; leave out weights and trunk")
    if trunk is not None and not isinstance(trunk, nn.Module):
        raise ValueError(f"trunk: expected a module, got {trunk!r}")
    chosen = [record.layer(name) for name in layers]
    if trunk is not None:
        network = adopted(trunk, record, chosen)
    elif network is None:
        network = record.network(None if weights is None else Path(weights))
    modules = {layer.name: layer.module for layer in chosen}
    forms = {layer.name: layer.form for layer in chosen}
    side = only_size(chosen) or SURELY_ENOUGH
    images = (1, record.scaling.channels, side, side)
    fast = with_fewer_multiplications(folded(network, list(modules.values()), images))
    return FeatureExtractor(fast, modules, record.scaling, forms)


def adopted(network: nn.Module, record: Backbone, layers: Sequence[Layer]) -> nn.Module:
    """Return a copy of the caller's network, to be used in place of a backbone's own.

    Parameters
    ----------
    network
        The whole network, such as torchvision's ``alexnet()``, or only the part that
        :meth:`Backbone.network` returns, such as ``alexnet().features``. It is not changed, and
        training it later does not change the copy.
    record
        The backbone whose architecture the network has.
    layers
        The layers that the network must have.

    Raises
    ------
    ValueError
        If the network has another architecture, lacks one of these layers, or has no values.
    """
    with Unfilled():
        pattern = record.trunk(record.build())
    try:
        trunk = record.trunk(network)
    except AttributeError:  # not the whole network
        trunk = network
    if not _has(trunk, layers):
        raise ValueError(
            f"trunk: expected {record.architecture}, the whole network or the part that has its "
            f"layers, got a {type(network).__name__} without them"
        )
    _check_architecture(trunk, pattern, record)
    if any(tensor.is_meta for tensor in trunk.state_dict().values()):
        raise ValueError("trunk: its parameters are on the meta device and have no values")
    return copied(trunk).eval().requires_grad_(False)


def _has(network: nn.Module, layers: Iterable[Layer]) -> bool:
    return {layer.module for layer in layers} <= {path for path, _ in network.named_modules()}


def _check_architecture(trunk: nn.Module, pattern: nn.Module, record: Backbone) -> None:
    """Refuse a trunk with a module that the pattern lacks, or has otherwise."""
    expected = dict(pattern.named_modules())
    for path, module in trunk.named_modules():
        if not path or _is_of_a_parametrization(path):
            continue
        wanted = _description(expected[path]) if path in expected else "absent"
        found = _description(module)
        if found != wanted:
            raise ValueError(
                f"trunk: expected {record.architecture}, where module {path} is {wanted}; "
                f"got {found}"
            )


def _is_of_a_parametrization(path: str) -> bool:
    return "parametrizations" in path.split(".")


def _description(module: nn.Module) -> str:
    """Say what decides a module's response, but for its values: for comparison and messages.

    Of parameters that are computed from others, as by weight and spectral normalisation, it gives
    the computed ones.
    """
    # A class that only holds others may well be the caller's own.
    is_container = any(name != "parametrizations" for name, _ in module.named_children())
    kind = "a container" if is_container else type_before_parametrizations(module).__name__
    facts: dict[str, list[int]] = {}
    for name, tensor in (
        *module.named_parameters(recurse=False),
        *module.named_buffers(recurse=False),
    ):
        if name in module._non_persistent_buffers_set:
            continue  # computed, and perhaps for one size of images
        computed, _, suffix = name.rpartition("_")
        if suffix in _OF_NORMALISATION and isinstance(getattr(module, computed, None), Tensor):
            name, tensor = computed, getattr(module, computed)
        facts[name] = list(tensor.shape)
    if is_parametrized(module):
        for name in module.parametrizations:  # type: ignore[union-attr]
            facts[name] = list(getattr(module, name).shape)
    facts = dict(sorted(facts.items()))
    for name in ("kernel_size", "stride", "padding", "dilation", "groups", "ceil_mode"):
        if hasattr(module, name):
            value = getattr(module, name)
            facts[name] = list(value) if isinstance(value, tuple) else [value, value]
    return f"{kind} {facts}"
