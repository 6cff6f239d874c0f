"""Scores of pairs: of one, of a table, and how well a table of them agrees with people."""

from iqa_metrics.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
