"""Channel weights learned from opinion: fitted, judged on unseen references, kept in files."""

from iqa_metrics.lazy import attach

# Fitting needs no torch.
__getattr__, __dir__, __all__ = attach(__name__, __file__)
