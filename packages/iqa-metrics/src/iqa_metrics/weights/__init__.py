"""Pretrained weights: finding, fetching and checking their files, and loading them."""

from iqa_metrics.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
