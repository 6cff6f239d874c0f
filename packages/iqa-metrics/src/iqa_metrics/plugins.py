"""Register your own metrics, readouts, databases and backbones, and use them like built-in ones.

A registered record can be named in Python, on the command line, in studies and in model archives.
It lasts as long as the process. A package registers its records in every process by an entry point
of the group ``iqa_metrics.plugins``, which names a function without arguments:

.. code-block:: toml

    [project.entry-points."iqa_metrics.plugins"]
    my-metrics = "my_metrics:register"

Importing ``iqa_metrics`` loads no plug-in. Plug-ins are loaded once, by the first look-up of a name
that is not built in, or by the first listing. A plug-in that fails registers nothing: a
:class:`PluginWarning` says why, :func:`failures` returns the exception, and the error for an
unknown name repeats the cause.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from iqa_metrics.entry_points import GROUP, PLUGINS, Failure, PluginError, PluginWarning, Provider
from iqa_metrics.registry import Registry

if TYPE_CHECKING:
    from iqa_metrics.backbones import Backbone
    from iqa_metrics.datasets import DatabaseReader
    from iqa_metrics.metrics import MetricRecord, MetricSpec
    from iqa_metrics.readouts import Readout

__all__ = [
    "GROUP",
    "Failure",
    "Kind",
    "PluginError",
    "PluginWarning",
    "Provider",
    "failures",
    "provider_of",
    "providers_of",
    "register_backbone",
    "register_database",
    "register_metric",
    "register_readout",
]

Kind = Literal["metric", "readout", "backbone", "database"]

# They load torch, and so are imported when they are needed.
_CATALOGUES = {
    "metric": "iqa_metrics.metrics.catalogue",
    "readout": "iqa_metrics.readouts.catalogue",
    "backbone": "iqa_metrics.backbones.catalogue",
    "database": "iqa_metrics.datasets.readers",
}


def register_metric(record: "MetricRecord", *, replace: bool = False) -> "MetricRecord":
    """Add a metric, and return its record.

    Parameters
    ----------
    record
        The metric. Its name becomes its spec: letters, digits, ``_``, ``-`` and ``.``.
    replace
        Replace a metric that was registered under the same name, for example when a notebook cell
        runs again. Built-in metrics can't be replaced.

    Raises
    ------
    PluginError
        If it is not a MetricRecord, if something in it can't be used, or if the name is taken; the
        message says by whom. Registering the same object again is fine.

    Examples
    --------
    >>> import torch
    >>> from iqa_metrics import Metric, MetricRecord, create_metric, register_metric
    >>> class LargestError(Metric):
    ...     name = "largest_error"
    ...     higher_is_better = False
    ...     range = (0.0, 1.0)
    ...     smallest_input = 1
    ...     source = "this example"
    ...
    ...     def compare(self, reference, distorted):
    ...         return (reference - distorted).abs().flatten(1).amax(1)
    >>> record = MetricRecord(
    ...     name="largest_error", metric=LargestError, summary="largest difference of a channel"
    ... )
    >>> _ = register_metric(record)
    >>> grey = torch.full((1, 3, 8, 8), 0.5)
    >>> create_metric("largest_error")(grey, grey + 0.25)
    tensor([0.2500])
    """
    from iqa_metrics.metrics.catalogue import REGISTRY

    return REGISTRY.register(record, replace=replace)


def register_readout(record: "Readout", *, replace: bool = False) -> "Readout":
    """Add a readout, and return its record. Specs can use it with any backbone and layer.

    Parameters
    ----------
    record
        The readout.
    replace
        As for :func:`register_metric`.

    Raises
    ------
    PluginError
        As for :func:`register_metric`.
    """
    from iqa_metrics.readouts.catalogue import REGISTRY

    return REGISTRY.register(record, replace=replace)


def register_database(record: "DatabaseReader", *, replace: bool = False) -> "DatabaseReader":
    """Add a database of opinion scores, and return its record.

    Parameters
    ----------
    record
        Its facts, and what reads its folder.
    replace
        As for :func:`register_metric`.

    Raises
    ------
    PluginError
        As for :func:`register_metric`.
    """
    from iqa_metrics.datasets.readers import REGISTRY

    return REGISTRY.register(record, replace=replace)


def register_backbone(record: "Backbone", *, replace: bool = False) -> "Backbone":
    """Add a backbone, and return its record.

    Parameters
    ----------
    record
        The network with its factors. :meth:`Backbone.from_module` makes a record of any module.
    replace
        As for :func:`register_metric`.

    Raises
    ------
    PluginError
        As for :func:`register_metric`.
    """
    from iqa_metrics.backbones.catalogue import REGISTRY

    return REGISTRY.register(record, replace=replace)


def provider_of(kind: Kind, name: str) -> Provider | None:
    """Return who registered a metric, readout, backbone or database.

    Parameters
    ----------
    kind
        ``metric``, ``readout``, ``backbone`` or ``database``.
    name
        Its name.

    Returns
    -------
    Provider or None
        None for built-in and for unknown names.
    """
    if kind not in _CATALOGUES:
        raise ValueError(f"kind: expected one of {', '.join(_CATALOGUES)}, got {kind!r}")
    registry: Registry[Any] = import_module(_CATALOGUES[kind]).REGISTRY
    return registry.provider(name)


def providers_of(spec: "MetricSpec | str") -> tuple[Provider, ...]:
    """Return who registered a metric, its backbone and its readout; empty if all are built in.

    Raises
    ------
    UnknownNameError
        If the spec names nothing.
    """
    from iqa_metrics.metrics import DeepSpec, needs, parse_spec, resolve

    parsed = parse_spec(str(spec))
    resolved = resolve(parsed)
    parts: list[tuple[Kind, str]] = []
    if not isinstance(parsed, DeepSpec):
        parts.append(("metric", parsed.name))
    if isinstance(resolved, DeepSpec):
        parts += [("backbone", resolved.backbone), ("readout", resolved.readout)]
    of_network = needs(parsed).backbone
    parts += [("backbone", of_network)] if of_network else []
    found = (provider_of(kind, name) for kind, name in parts)
    return tuple(dict.fromkeys(one for one in found if one is not None))


def failures() -> tuple[Failure, ...]:
    """Return the plug-ins of this environment that can't be loaded, and their exceptions."""
    PLUGINS.load()
    return PLUGINS.failures
