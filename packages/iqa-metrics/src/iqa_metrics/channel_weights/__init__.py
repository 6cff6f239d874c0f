"""Learn channel weights from human ratings, test them on unseen references, and save them."""

from iqa_metrics.lazy import attach

# Modules are imported when one of their names is first used; fitting does not need torch.
__getattr__, __dir__, __all__ = attach(__name__, __file__)
