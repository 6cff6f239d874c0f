"""The catalogue of networks, each with the factors that the study compares.

A :class:`Backbone` is a record: what the network is (architecture), what it was trained for (goal)
and on (data), how an image must be scaled for it, its layers in order, and where its weights come
from. :data:`BACKBONES` holds those that this package knows, :func:`backbone` finds one by its name,
:func:`select` by its factors, and :func:`comparisons` sets that differ in one factor.
"""

from iqa_metrics.lazy import attach

# A report needs the factors, and not torch.
__getattr__, __dir__, __all__ = attach(__name__, __file__)
