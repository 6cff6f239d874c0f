"""Input and output: images, tables of pairs and of scores, files written atomically."""

from iqa_metrics.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
