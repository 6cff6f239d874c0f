"""Run a study: any backbones, layers and readouts on any database of human ratings.

A :class:`Plan` says what is measured. :func:`run_study` measures it and writes a folder of tables.
:func:`analyse` computes the statistics again from the distances alone.
"""

from iqa_metrics.lazy import attach

# Modules are imported when one of their names is first used, so a report does not import torch.
__getattr__, __dir__, __all__ = attach(__name__, __file__)
