"""The line that says what decides a metric's values."""

import torch
from torch import Tensor

from iqa_metrics.backbones.probing import precision
from iqa_metrics.compute.features import FeatureExtractor
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
    has_weights = next(module.held(), None) is not None
    terms = [
        module.name,
        *([] if colour is None else [f"colour:{colour}"]),
        *([] if background is None else [f"background:{_colour(background)}"]),
        str(module.conventions if conventions is None else conventions),
        *([] if mask is None else [f"mask:{digest_of_tensors([('mask', mask)])[:_DIGITS]}"]),
        f"weights:{digest_of(module)[:_DIGITS] if has_weights else 'none'}",
        f"precision:{'float64' if extractor is None else _name(precision(extractor.network))}",
        f"iqa-metrics:{__version__}",
        f"torch:{torch.__version__.split('+')[0]}",
    ]
    return "|".join(terms)


def digest_of(module: PairModule) -> str:
    """Return the SHA-256 of a module's weights, and of how its network is fed and read.

    Where the network is shared with modules that read deeper layers, more of it is folded, and the
    digest is another one.
    """
    extractor, facts = getattr(module, "extractor", None), ""
    if isinstance(extractor, FeatureExtractor):
        read = [(extractor.layers[name], extractor.forms.get(name)) for name in module.layers]  # type: ignore[union-attr]
        facts = f"{extractor.scaling} {read}"
    return digest_of_tensors(
        (f"{facts} {number}", tensor) for number, tensor in enumerate(module.held())
    )


def _colour(background: Background) -> str:
    values = background if isinstance(background, tuple) else (background,)
    return ",".join(f"{value:.6g}" for value in values)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
