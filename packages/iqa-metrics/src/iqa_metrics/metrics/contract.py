"""The contract that every metric keeps."""

from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor

from iqa_metrics.compute.features import Reference
from iqa_metrics.compute.pair_module import PairModule


class Metric(PairModule):
    """A metric: one number per pair of images, for how much they differ or how alike they look.

    Calling a metric takes ``reference`` and ``distorted``, RGB in [0, 1], ``[N, 3, H, W]``, and
    returns ``[N]``. The value of a pair does not depend on the rest of its batch. A single
    reference ``[1, 3, H, W]`` can be compared with N distorted images; it is only processed once.
    If the metric is ``differentiable``, images that require a gradient get one, and it is finite
    everywhere, including at identical images.

    A batch may have any size. It is computed in chunks of at least one pair that stay within a
    memory budget (:meth:`configure`).

    A metric can be pickled and sent to other processes. Start these with ``spawn`` or
    ``forkserver``: a process that is forked after this one has computed in several threads can't
    compute in several threads itself, which raises a RuntimeError.

    Parameters
    ----------
    check
        ``"error"`` refuses values outside [0, 1], which costs a pass over all pixels. ``"off"``
        skips the check, for training loops.

    Attributes
    ----------
    name
        The spec from which this metric can be made again. It does not include the caller's own
        network or weights.
    higher_is_better
        Whether a larger value means a better-looking image.
    range
        The least and the greatest value.
    differentiable
        Whether it can serve as a loss.
    smallest_input
        Least height and width, in pixels.
    has_map
        Whether it can also give a value for each position.
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
            Return the value at each position instead, with the height and width of the images.

        Raises
        ------
        ImageError
            If the images break the convention above, differ in size, are too small, or are on
            different devices.
        ValueError
            If ``map`` is given and the metric has no map.
        """
        compare = self._compare(map)
        self.check_inputs(reference, distorted)
        return self._streamed(reference, distorted, compare)

    def compare(self, reference: Any, distorted: Tensor) -> Tensor:
        """Return ``[N]`` for images that were already checked. Every metric implements this.

        Both are float32 or both float64, the wider type of what was given. ``reference`` is a batch
        of N images, a single image, or what :meth:`remember` returned for one.
        """
        raise NotImplementedError

    def compare_map(self, reference: Any, distorted: Tensor) -> Tensor:
        """Return ``[N, 1, H, W]`` likewise. Metrics that have a map implement this."""
        raise NotImplementedError

    def _compare(self, map: bool) -> Callable[[Reference, Tensor], Tensor]:
        if map and not self.has_map:
            raise ValueError(f"{self.name} has no map; has_map says which metrics have one")
        return self.compare_map if map else self.compare
