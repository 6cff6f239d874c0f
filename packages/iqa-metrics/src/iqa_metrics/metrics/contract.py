"""The contract that every metric keeps."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from iqa_metrics.compute.features import Reference
from iqa_metrics.compute.pair_module import PairModule


class Metric(PairModule):
    """How different two images look, as a number an image pair.

    Calling a metric takes ``reference`` and ``distorted``, RGB in [0, 1], ``[N, 3, H, W]``, and
    returns ``[N]``: the value of an image depends on nothing else in its batch. One reference
    ``[1, 3, H, W]`` may stand before N distorted images; it is looked at once. Where
    ``differentiable``, the gradient reaches the images that ask for one and is finite everywhere,
    identical images included.

    A batch may be of any size: it is computed in chunks that stay within a memory budget
    (:meth:`configure`), of at least one pair.

    Parameters
    ----------
    check
        ``"error"`` refuses values outside [0, 1], at the cost of one look at each pixel. ``"off"``
        trusts them, for training loops.

    Attributes
    ----------
    name
        The spec that makes this metric again, given what a spec can't say: a trunk or weights of
        the caller's own.
    higher_is_better
        Whether a larger value means a better looking image.
    range
        Least and greatest value.
    differentiable
        Whether it can serve as a loss.
    smallest_input
        Least height and width, in pixels.
    has_map
        Whether it has a value for each position too.
    source
        The paper to cite.
    """

    higher_is_better: ClassVar[bool]
    range: ClassVar[tuple[float, float]]
    differentiable: ClassVar[bool] = True
    has_map: bool = False
    source: ClassVar[str]

    def forward(self, reference: Tensor, distorted: Tensor, *, map: bool = False) -> Tensor:
        """Return the metric's value for each pair, ``[N]``, or its map, ``[N, 1, H, W]``.

        Parameters
        ----------
        reference, distorted
            The images.
        map
            Return the value at each position instead, of the images' own height and width.

        Raises
        ------
        ImageError
            If the images break the convention above, differ in size, are too small, or lie on
            different devices.
        ValueError
            If a map is asked of a metric that has none.
        """
        compare = self._compare(map)
        self.check_inputs(reference, distorted)
        return self._streamed(reference, distorted, compare)

    def compare(self, reference: Any, distorted: Tensor) -> Tensor:
        """Return ``[N]`` for images that were already checked. Each metric writes its own.

        ``reference`` holds N images, one image, or what :meth:`remember` made of one.
        """
        raise NotImplementedError

    def compare_map(self, reference: Any, distorted: Tensor) -> Tensor:
        """Return ``[N, 1, H, W]`` likewise, where the metric has a map."""
        raise NotImplementedError

    def _compare(self, map: bool) -> Callable[[Reference, Tensor], Tensor]:
        if map and not self.has_map:
            raise ValueError(f"{self.name} has no map; has_map says which metrics have one")
        return self.compare_map if map else self.compare


def at_least_float32(images: Tensor) -> Tensor:
    """Return images as float32, or as float64 where they are that."""
    return images if images.dtype == torch.float64 else images.float()
