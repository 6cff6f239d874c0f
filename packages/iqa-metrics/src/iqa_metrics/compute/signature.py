"""The line that says what decides a metric's values."""

from collections.abc import Iterable

import torch
from torch import Tensor

from iqa_metrics.backbones.probing import precision
from iqa_metrics.compute.pair_module import PairModule
from iqa_metrics.io.conventions import Conventions
from iqa_metrics.io.images import Background
from iqa_metrics.weights.checkpoints import digest_of_tensors

_DIGITS = 12


def signature_of(
    module: PairModule,
    *,
    conventions: Conventions | None = None,
    colour: str | None = None,
    background: Background | None = None,
    mask: Tensor | None = None,
) -> str:
    """Return a module's signature: ``key:value`` terms, joined by ``|``.

    Parameters
    ----------
    module
        The module.
    conventions
        What is compared of the images; by default what the module is set to.
    colour
        How the colours of image files were taken, where files were read.
    background
        The colour behind transparent images, where files were read and one was set.
    mask
        The weights of pixels, if there are any.
    """
    from iqa_metrics import __version__

    extractor = getattr(module, "extractor", None)
    network = None if extractor is None else extractor.network
    held = [(str(number), tensor) for number, tensor in enumerate(module.held())]
    if extractor is not None:
        # The same weights are another metric with another input, or other modules for layers.
        held.insert(
            0, (f"{extractor.scaling} {extractor.layers} {extractor.forms}", torch.zeros(0))
        )
    terms = [
        module.name,
        *([] if colour is None else [f"colour:{colour}"]),
        *([] if background is None else [f"background:{_colour(background)}"]),
        str(module.conventions if conventions is None else conventions),
        *([] if mask is None else [f"mask:{_digest([('mask', mask)])}"]),
        f"weights:{_digest(held) if held else 'none'}",
        f"precision:{'float64' if network is None else _name(precision(network))}",
        f"iqa-metrics:{__version__}",
        f"torch:{torch.__version__.split('+')[0]}",
    ]
    return "|".join(terms)


def _digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    return digest_of_tensors(tensors)[:_DIGITS]


def _colour(background: Background) -> str:
    values = background if isinstance(background, tuple) else (background,)
    return ",".join(f"{value:.6g}" for value in values)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
