"""Files in and out: images, tables of pairs and of scores, files that are whole or absent."""

from iqa_metrics.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
