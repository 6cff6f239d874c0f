"""A TorchServe endpoint for iqa-metrics: archive, server, client."""

from importlib.metadata import version as _version

__version__ = _version("iqa-torchserve")
