"""Metrics for torchmetrics and Lightning: accumulated over batches and processes.

Needs the extra ``iqa-metrics[torchmetrics]``.
"""

import hashlib
import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor

try:
    from torchmetrics import Metric as TorchMetric
    from torchmetrics.utilities import dim_zero_cat
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "iqa_metrics.torchmetrics needs torchmetrics: pip install 'iqa-metrics[torchmetrics]'"
    ) from error

from iqa_metrics.metrics import Metric, MetricSpec, create_metric
from iqa_metrics.weights.checkpoints import digest_of_tensors

Reduction = Literal["mean", "sum", "none"]


class ImageQuality(TorchMetric):
    """Any metric of this package as a torchmetrics metric.

    ``update(preds, target)`` takes the distorted images and the references, in torchmetrics'
    order. Both are RGB in [0, 1], ``[N, 3, H, W]``, and are checked as :class:`iqa_metrics.Metric`
    checks them. Every image counts once, whatever the size of its batch. Values are summed in
    float64.

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

    is_differentiable = True
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
        if self.reduction == "none":
            getattr(self, self._state).append(values)
            return
        wide = values.double()
        batch = torch.stack([wide.sum(), wide.new_tensor(len(wide))])
        setattr(self, self._state, getattr(self, self._state) + batch)

    def compute(self) -> Tensor:
        """Return the mean, the sum, or the value of each image; see ``reduction``."""
        state = getattr(self, self._state)
        if self.reduction == "none":
            return dim_zero_cat(state) if len(state) else torch.zeros(0, device=self.device)
        total: Tensor = state[0]
        return total / state[1] if self.reduction == "mean" else total


def _fingerprint(metric: Metric) -> str:
    """Return a hash of a metric's name and weights, which tells it from others of its name."""
    held = digest_of_tensors((str(number), tensor) for number, tensor in enumerate(metric.held()))
    return hashlib.sha256(f"{metric.name} {held}".encode()).hexdigest()[:16]
