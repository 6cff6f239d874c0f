"""Compile the comparison of pairs, once for each size of images and batch.

It is compiled by torch.compile, with the network's weights frozen into the code. Convolutions are
fused with their activations, and readouts become a few loops without intermediate results of a
feature map's size. The first call with a new size takes seconds to minutes.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

MOST_SHAPES = 16
"""Most sizes that are compiled; pairs of further sizes are compared uncompiled."""


class Compiled:
    """Compiled forms of a comparison, one for each size of its arguments.

    Attributes
    ----------
    warm_ups
        How many seconds the compilation of each size took: ``{((2, 3, 384, 512), ...): 31.5}``.
    """

    def __init__(self) -> None:
        self.warm_ups: dict[tuple[Any, ...], float] = {}
        self._functions: dict[tuple[Any, ...], Callable[..., Tensor]] = {}
        self._refused = False

    def clear(self) -> None:
        """Forget what was compiled."""
        self.warm_ups.clear()
        self._functions.clear()
        self._refused = False

    def __call__(self, compare: Callable[..., Tensor], reference: Any, distorted: Tensor) -> Tensor:
        """Return ``compare(reference, distorted)``, compiled unless there are too many sizes.

        Raises
        ------
        RuntimeError
            If there is no compiler, or if it fails; torch raises subclasses of it.
        """
        images = getattr(reference, "image", reference)
        kept = "remembered" if images is not reference else ""
        key = (compare.__name__, kept, *_facts(images), *_facts(distorted))
        if key in self._functions:
            return self._run(self._functions[key], reference, distorted)
        if len(self._functions) >= MOST_SHAPES:
            if not self._refused:
                logger.warning(
                    "%d sizes are compiled, which is the limit; other sizes run uncompiled. Crop "
                    "or group images to fewer sizes, or do without compile.",
                    MOST_SHAPES,
                )
                self._refused = True
            return compare(reference, distorted)
        # One function per size, because torch gives up on a function that it recompiles too often.
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
        # Weights can only be frozen without gradients. Tensors made in inference mode are of
        # another type, which would be compiled again.
        with torch.inference_mode(False), torch.no_grad():
            values = function(reference, distorted)
        return values.clone()


def _facts(images: Tensor) -> tuple[Any, ...]:
    return (tuple(images.shape), tuple(images.stride()), images.dtype, str(images.device))
