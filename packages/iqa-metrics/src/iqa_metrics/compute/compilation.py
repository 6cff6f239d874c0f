"""Compile the comparison of pairs for each size of image and batch that comes.

Compiled code is made by torch.compile with the network's weights frozen into it: convolutions take
their activation along, and a readout becomes a few loops without anything of a response's size in
between. A first call of a size takes seconds to minutes.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

MOST_SHAPES = 16
"""How many sizes are compiled; pairs of further sizes are compared uncompiled."""


class Compiled:
    """Compiled forms of a comparison, one for each size of its arguments.

    Attributes
    ----------
    warm_ups
        Sizes that were compiled to the seconds that it took: ``{((2, 3, 384, 512), ...): 31.5}``.
    """

    def __init__(self) -> None:
        self.warm_ups: dict[tuple[Any, ...], float] = {}
        self._functions: dict[tuple[Any, ...], Callable[..., Tensor]] = {}
        self._refused = False

    def __call__(self, compare: Callable[..., Tensor], reference: Any, distorted: Tensor) -> Tensor:
        """Return ``compare(reference, distorted)``, compiled where it can be.

        Raises
        ------
        RuntimeError
            If there is no compiler, or it fails: a subclass of torch's own.
        """
        images = getattr(reference, "image", reference)
        kept = "remembered" if images is not reference else ""
        key = (compare.__name__, kept, *_facts(images), *_facts(distorted))
        if key in self._functions:
            return self._run(self._functions[key], reference, distorted)
        if len(self._functions) >= MOST_SHAPES:
            if not self._refused:
                logger.warning(
                    "%d sizes are compiled, and no more will be; others run uncompiled. Crop or "
                    "group images to fewer sizes, or leave out compile.",
                    MOST_SHAPES,
                )
                self._refused = True
            return compare(reference, distorted)
        # One function a size: torch gives up on one that it has to compile again and again.
        function = torch.compile(
            lambda x, y: compare(x, y), dynamic=False, options={"freezing": True}
        )
        start = time.perf_counter()
        values = self._run(function, reference, distorted)
        self.warm_ups[key] = time.perf_counter() - start
        self._functions[key] = function
        logger.info("compiled for %s in %.1f s", key, self.warm_ups[key])
        return values

    def __deepcopy__(self, memo: object) -> "Compiled":
        return Compiled()

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return Compiled, ()

    @staticmethod
    def _run(function: Callable[..., Tensor], reference: Any, distorted: Tensor) -> Tensor:
        # Frozen weights are weights without a gradient; and tensors made in inference mode would
        # be another type, to be compiled anew.
        with torch.inference_mode(False), torch.no_grad():
            values = function(reference, distorted)
        return values.clone()


def _facts(images: Tensor) -> tuple[Any, ...]:
    return (tuple(images.shape), tuple(images.stride()), images.dtype, str(images.device))
