"""Perceptual distances between images, from any pretrained network, layer and readout.

>>> from iqa_metrics import score
>>> score("reference.png", "distorted.png")  # doctest: +SKIP
3.0863
"""

from importlib.metadata import version as _version

from iqa_metrics.lazy import attach as _attach

# Names load their modules when first used, so that `import iqa_metrics` and `iqa --help` do not
# wait for torch. __init__.pyi lists them.
__getattr__, __dir__, __all__ = _attach(__name__, __file__)

__version__ = _version("iqa-metrics")
