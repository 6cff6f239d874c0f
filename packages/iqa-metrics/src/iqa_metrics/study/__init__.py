"""The study: any networks on any database of opinions, every layer and readout, with statistics.

A :class:`Plan` says what is measured; :func:`run_study` measures it into a folder of tables, which
:func:`analyse` computes anew from the distances alone.
"""

import lazy_loader as _lazy

# Names load their modules when first used: a report needs the tables, and not torch.
__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
