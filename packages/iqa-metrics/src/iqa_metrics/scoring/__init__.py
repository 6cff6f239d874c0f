"""Score one pair or a table of pairs, and measure how well scores agree with human ratings."""

from iqa_metrics.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
