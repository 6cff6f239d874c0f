"""The line that says what decides a metric's values."""

import torch

from iqa_metrics.backbones.probing import precision
from iqa_metrics.compute.pair_module import PairModule
from iqa_metrics.weights.checkpoints import digest_of_tensors

_DIGITS = 12


def signature_of(module: PairModule, *, colour: str | None = None) -> str:
    """Return a module's signature: ``key:value`` terms, joined by ``|``.

    Parameters
    ----------
    module
        The module.
    colour
        How the colours of image files were taken, where files were read.
    """
    from iqa_metrics import __version__

    network = getattr(getattr(module, "extractor", None), "network", None)
    held = [(str(number), tensor) for number, tensor in enumerate(module.held())]
    terms = [
        module.name,
        *([] if colour is None else [f"colour:{colour}"]),
        str(module.conventions),
        f"weights:{digest_of_tensors(held)[:_DIGITS] if held else 'none'}",
        f"precision:{'float64' if network is None else _name(precision(network))}",
        f"iqa-metrics:{__version__}",
        f"torch:{torch.__version__.split('+')[0]}",
    ]
    return "|".join(terms)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
