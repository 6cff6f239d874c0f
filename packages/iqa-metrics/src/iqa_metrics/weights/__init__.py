"""Weights: where they are found, how they are fetched and checked, and how a network is filled."""

from iqa_metrics.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
