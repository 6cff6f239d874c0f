"""The contract that every metric keeps."""

import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal, get_args

from torch import Tensor

from iqa_metrics.compute.pair_module import PairModule
from iqa_metrics.compute.signature import signature_of

Reduction = Literal["mean", "sum", "none"]


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
    takes_mask
        Whether pixels can be given weights.
    source
        The paper to cite.
    """

    higher_is_better: ClassVar[bool]
    range: ClassVar[tuple[float, float]]
    differentiable: ClassVar[bool] = True
    has_map: bool = False
    takes_mask: bool = False
    source: ClassVar[str]

    def forward(
        self,
        reference: Tensor,
        distorted: Tensor,
        *,
        map: bool = False,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Return the metric's value for each pair, ``[N]``, or its map, ``[N, 1, H, W]``.

        Parameters
        ----------
        reference, distorted
            The images.
        map
            Return the value at each position instead, with the height and width of the images
            (without the border that is cut off; see :class:`Conventions`).
        mask
            Weights of the pixels, from 0 on: ``[H, W]``, ``[N, H, W]`` or ``[N, 1, H, W]``. Means
            over positions become weighted means, in a network's layer with the means of the weights
            over its cells. Weights that are all equal change nothing. What is computed at a
            position with weight 0 still reaches the positions around it.

        Raises
        ------
        ImageError
            If the images break the convention above, differ in size, are too small, or are on
            different devices; or if the mask does not fit them.
        ValueError
            If the metric has no map, or takes no mask, and is given one; or if both are given.
        """
        compare: Callable[..., Tensor] = self._compare(map, masked=mask is not None)
        pair = self.prepared(reference, distorted)
        return self._streamed(*pair, compare, self._weights(mask, distorted))

    def loss(
        self,
        reference: Tensor,
        distorted: Tensor,
        *,
        reduction: Reduction = "mean",
        mask: Tensor | None = None,
    ) -> Tensor:
        """Return what to minimise so that the distorted images look like the references.

        Where lower is better, that is the value. Otherwise it is how far the value falls short of
        the best one, such as 1 - SSIM, or, where that is infinite, as for PSNR, the value with its
        sign changed.

        Parameters
        ----------
        reference, distorted, mask
            As when the metric is called.
        reduction
            ``"mean"`` or ``"sum"`` over the pairs, or ``"none"`` for ``[N]``.

        Raises
        ------
        ImageError
            As when the metric is called.
        ValueError
            If the reduction is unknown, or if the metric is not differentiable.

        Examples
        --------
        >>> import torch
        >>> from iqa_metrics import create_metric
        >>> ssim = create_metric("ssim")
        >>> restored = torch.full((2, 3, 32, 32), 0.4, requires_grad=True)
        >>> ssim.loss(torch.full((2, 3, 32, 32), 0.5), restored).backward()
        >>> bool((restored.grad < 0).all())
        True
        """
        if reduction not in get_args(Reduction):
            raise ValueError(
                f"reduction: expected one of {', '.join(get_args(Reduction))}, got {reduction!r}"
            )
        if not self.differentiable:
            raise ValueError(f"{self.name} is not differentiable, and can't be a loss")
        values: Tensor = self(reference, distorted, mask=mask)
        if self.higher_is_better:
            best = self.range[1]
            values = best - values if math.isfinite(best) else -values
        if reduction == "none":
            return values
        return values.mean() if reduction == "mean" else values.sum()

    @property
    def signature(self) -> str:
        """What decides the values, in one line to be printed with them.

        It has the spec, the versions, a digest of the weights, the precision, and what is compared
        of the images. Equal signatures mean equal values for equal images, up to rounding.
        """
        return signature_of(self)

    def compare(self, reference: Any, distorted: Tensor) -> Tensor:
        """Return ``[N]`` for images that were already checked. Every metric implements this.

        Both are float32 or both float64, the wider type of what was given. ``reference`` is a batch
        of N images, a single image, or what :meth:`remember` returned for one.
        """
        raise NotImplementedError

    def compare_map(self, reference: Any, distorted: Tensor) -> Tensor:
        """Return ``[N, 1, H, W]`` likewise. Metrics that have a map implement this."""
        raise NotImplementedError

    def compare_masked(self, reference: Any, distorted: Tensor, mask: Tensor) -> Tensor:
        """Return ``[N]`` likewise, given weights of pixels ``[N, 1, H, W]``.

        Metrics that take a mask implement this.
        """
        raise NotImplementedError

    def _compare(self, map: bool, *, masked: bool = False) -> Callable[..., Tensor]:
        if map and masked:
            raise ValueError("expected either map or mask, got both")
        if map and not self.has_map:
            raise ValueError(f"{self.name} has no map; has_map says which metrics have one")
        if masked and not self.takes_mask:
            raise ValueError(
                f"{self.name} takes no mask: its value is no mean over positions; takes_mask says "
                "which metrics take one"
            )
        if masked:
            return self.compare_masked
        return self.compare_map if map else self.compare
