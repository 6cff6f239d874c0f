"""The study: any networks on any database of opinions, every layer and readout, with statistics.

A :class:`Plan` says what is measured; :func:`run_study` measures it into a folder of tables, which
:func:`analyse` computes anew from the distances alone.
"""

from iqa_metrics.lazy import attach

# Names load their modules when first used: a report needs the tables, and not torch.
__getattr__, __dir__, __all__ = attach(__name__, __file__)
