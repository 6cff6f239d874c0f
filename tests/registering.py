"""Catalogues that a test may add to, and plug-in packages that are not installed."""

import contextlib
import sys
from unittest import mock

from iqa_metrics import plugins, registry
from iqa_metrics.backbones import catalogue as of_backbones
from iqa_metrics.datasets import readers as of_databases
from iqa_metrics.entry_points import GROUP, Plugins
from iqa_metrics.metrics import catalogue as of_metrics
from iqa_metrics.readouts import catalogue as of_readouts

REGISTRIES = [room.REGISTRY for room in (of_metrics, of_readouts, of_backbones, of_databases)]


@contextlib.contextmanager
def own_catalogues():
    """Begin with what is built in, look for plug-ins again, and put things back afterwards."""
    before = [dict(one._registered) for one in REGISTRIES]
    for one in REGISTRIES:
        one._registered.clear()
    fresh = Plugins()
    with (
        mock.patch.object(registry, "PLUGINS", fresh),
        mock.patch.object(plugins, "PLUGINS", fresh),
    ):
        try:
            yield fresh
        finally:
            for one, kept in zip(REGISTRIES, before, strict=True):
                one._registered.clear()
                one._registered.update(kept)


def write_package(folder, name, code, *, function="register", version="1.0"):
    """Write a distribution with one module and an entry point, as an installer leaves it."""
    module = name.replace("-", "_")
    (folder / f"{module}.py").write_text(code)
    facts = folder / f"{module}-{version}.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (facts / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {module}:{function}\n")
    sys.modules.pop(module, None)
    return module
