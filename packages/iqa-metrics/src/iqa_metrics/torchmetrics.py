"""Metrics for torchmetrics and Lightning: accumulated over batches and processes.

Needs the extra ``iqa-metrics[torchmetrics]``.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor

try:
    from torchmetrics import Metric as TorchMetric
    from torchmetrics.utilities import dim_zero_cat
    from torchmetrics.utilities.plot import plot_single_or_multi_val
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "iqa_metrics.torchmetrics needs torchmetrics: pip install 'iqa-metrics[torchmetrics]'"
    ) from error

from iqa_metrics.compute.devices import lacks_float64, returned
from iqa_metrics.compute.signature import digest_of
from iqa_metrics.metrics import Metric, MetricSpec, create_metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Reduction = Literal["mean", "sum", "none"]


class ImageQuality(TorchMetric):
    """Any metric of this package as a torchmetrics metric.

    ``update(preds, target)`` takes the distorted images and the references, in torchmetrics'
    order. Both are RGB in [0, 1], ``[N, 3, H, W]``, and are checked as :class:`iqa_metrics.Metric`
    checks them. Every image counts once, whatever the size of its batch. Values are summed in
    float64 (on mps in float32), also after ``set_dtype()``. TorchScript is not supported.

    Parameters
    ----------
    metric
        A spec, such as ``"default"`` or ``"ssim"``, or a metric object.
    reduction
        What ``compute()`` returns: the ``"mean"`` or ``"sum"`` over all images, float64, or with
        ``"none"`` all values ``[N]``, process by process. The mean of no images is NaN. PSNR of
        identical images is infinite, and so is a mean that includes it.
    options
        Options of torchmetrics, such as ``sync_on_compute``.

    Attributes
    ----------
    metric
        The metric.
    reduction
        As above.
    is_differentiable, higher_is_better
        As the metric says.
    plot_lower_bound, plot_upper_bound
        The metric's range, for plots. None where it has no bound, and for a sum.

    Raises
    ------
    UnknownNameError
        If the spec contains an unknown name.
    ValueError
        If the reduction is unknown.

    Examples
    --------
    >>> import torch
    >>> from iqa_metrics.torchmetrics import ImageQuality
    >>> quality = ImageQuality("psnr")
    >>> grey = torch.full((2, 3, 32, 32), 0.5)
    >>> quality.update(grey + 0.1, grey)
    >>> round(float(quality.compute()), 4)
    20.0
    """

    full_state_update = False

    def __init__(
        self,
        metric: str | MetricSpec | Metric = "default",
        *,
        reduction: Reduction = "mean",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if reduction not in get_args(Reduction):
            raise ValueError(
                f"reduction: expected one of {', '.join(get_args(Reduction))}, got {reduction!r}"
            )
        self.metric = metric if isinstance(metric, Metric) else create_metric(metric)
        self.reduction = reduction
        # The state's name tells metrics apart: a MetricCollection merges two metrics whose states
        # have the same names and, after the first batch, the same values.
        self._state = f"values_{_fingerprint(self.metric)}"
        if reduction == "none":
            self.add_state(self._state, default=[], dist_reduce_fx="cat")
        else:
            self.add_state(
                self._state, default=torch.zeros(2, dtype=torch.float64), dist_reduce_fx="sum"
            )

    @property
    def is_differentiable(self) -> bool:  # type: ignore[override]
        """Whether the metric can serve as a loss."""
        return self.metric.differentiable

    @property
    def higher_is_better(self) -> bool:  # type: ignore[override]
        """Whether a higher value means better quality."""
        return self.metric.higher_is_better

    @property
    def plot_lower_bound(self) -> float | None:  # type: ignore[override]
        """The lowest possible value, for plots."""
        return self._bound(self.metric.range[0])

    @property
    def plot_upper_bound(self) -> float | None:  # type: ignore[override]
        """The highest possible value, for plots, if there is one."""
        return self._bound(self.metric.range[1])

    def _bound(self, value: float) -> float | None:
        return value if math.isfinite(value) and self.reduction != "sum" else None

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch of distorted images and their references, ``[N, 3, H, W]`` each."""
        values = self.metric(target, preds)
        if not self.is_differentiable:
            values = values.detach()
        if self.reduction == "none":
            getattr(self, self._state).append(values)
            return
        wide = values if lacks_float64(values.device) else values.double()
        total = wide.sum()
        batch = torch.stack([total, torch.full_like(total, len(wide))])
        setattr(self, self._state, getattr(self, self._state) + batch)

    def compute(self) -> Tensor:
        """Return the mean, the sum, or the value of each image; see ``reduction``."""
        state = getattr(self, self._state)
        if self.reduction == "none":
            return dim_zero_cat(state) if len(state) else torch.zeros(0, device=self.device)
        total: Tensor = state[0]
        return total / state[1] if self.reduction == "mean" else total

    def plot(
        self, val: Tensor | Sequence[Tensor] | None = None, ax: "Axes | None" = None
    ) -> "tuple[Figure | None, Axes]":
        """Plot a value, or several that follow one another.

        Parameters
        ----------
        val
            What calling the metric or ``compute()`` returned, or a list of it; by default
            ``compute()`` is called.
        ax
            The axes to draw in; by default in a new figure.

        Returns
        -------
        tuple
            The figure, None if ``ax`` was given, and the axes.

        Raises
        ------
        ModuleNotFoundError
            If matplotlib is missing.
        """
        drawn: tuple[Figure | None, Axes] = plot_single_or_multi_val(
            self.compute() if val is None else val,
            ax=ax,
            higher_is_better=self.higher_is_better,
            lower_bound=self.plot_lower_bound,
            upper_bound=self.plot_upper_bound,
            legend_name="image",
            name=self.metric.name,
        )
        return drawn

    def extra_repr(self) -> str:
        """Return its reduction, for ``repr``."""
        return f"reduction={self.reduction!r}"

    def _apply(
        self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = ""
    ) -> "ImageQuality":
        """Move what was accumulated to another device, and change nothing else about it."""
        # torchmetrics converts it for set_dtype() and for a parent's to(torch.bfloat16). In such
        # sums the number of images would end at 256.
        kept = [self._computed, self._forward_cache]
        self._computed = self._forward_cache = None
        super()._apply(fn, [*exclude_state, self._state])
        device = fn(torch.empty(0, device=self._device)).device

        def moved(value: Any) -> Any:
            if isinstance(value, list):
                return [moved(one) for one in value]
            return returned(value, device) if isinstance(value, Tensor) else value

        self._defaults[self._state] = moved(self._defaults[self._state])
        setattr(self, self._state, moved(getattr(self, self._state)))
        self._computed, self._forward_cache = map(moved, kept)
        return self


def _fingerprint(metric: Metric) -> str:
    """Return a hash of a metric's name, weights and conventions, which tells it from others."""
    said = f"{metric.name} {metric.conventions} {digest_of(metric)}"
    return hashlib.sha256(said.encode()).hexdigest()[:16]
