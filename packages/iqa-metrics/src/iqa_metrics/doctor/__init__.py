"""Which mistake gives a reported value: known mistakes are made on purpose, and compared with it.

:func:`diagnose` answers for a pair of images, a metric and a value from another program.
"""

from iqa_metrics.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
