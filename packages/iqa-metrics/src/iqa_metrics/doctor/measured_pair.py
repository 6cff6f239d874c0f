"""A pair of images, measured with mistakes."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor

from iqa_metrics.doctor.hypotheses import Hypothesis
from iqa_metrics.io.decoding import ImageError
from iqa_metrics.io.images import ImageSource, check_images, check_pair, read_image
from iqa_metrics.metrics import MSE, MSSSIM, PSNR, SSIM, Metric, create_metric
from iqa_metrics.metrics.table_module import TableModule


class MeasuredPair:
    """A pair of images, and the values of a metric for what mistakes make of it.

    Parameters
    ----------
    reference, distorted
        The images, ``[1, 3, H, W]``.
    metric
        The metric.
    others
        Metric objects by their specs, for hypotheses of another metric; others are made.

    Raises
    ------
    ImageError
        If the images can't be compared.
    """

    def __init__(
        self,
        reference: Tensor,
        distorted: Tensor,
        metric: Metric,
        others: Mapping[str, Metric] | None,
    ) -> None:
        check_images(reference, "reference")
        check_pair(reference, distorted)
        home = next(metric.held(), reference).device
        # Pixel metrics compute in float64 anyway; a network has float32 weights.
        wide = isinstance(metric, MSE | PSNR | SSIM | MSSSIM)
        kind = torch.float64 if wide else torch.float32
        self._images = reference.to(home, kind), distorted.to(home, kind)
        self.metric = metric
        self.is_deep = isinstance(metric, TableModule)
        self._made: dict[str, Metric] = dict(others or {})
        self._values: dict[tuple[str, ...], float] = {}

    @classmethod
    def read(
        cls,
        reference: ImageSource,
        distorted: ImageSource,
        metric: Metric,
        others: Mapping[str, Metric] | None = None,
    ) -> "MeasuredPair":
        """Return the pair of two images of any source. Raises ImageError if one can't be read."""
        return cls(_image(reference, "reference"), _image(distorted, "distorted"), metric, others)

    def value(self, mistakes: tuple[Hypothesis, ...]) -> float:
        """Return the value with mistakes, made in order.

        Raises
        ------
        ImageError, ValueError, RuntimeError
            If it can't be computed, such as of an image that is smaller than a crop.
        """
        before = tuple(one for one in mistakes if one.value is None)
        key = tuple(one.name for one in before)
        if key not in self._values:
            self._values[key] = self._computed(before)
        value = self._values[key]
        for one in mistakes:
            if one.value is not None:
                value = one.value(value)
        return value

    def _computed(self, mistakes: tuple[Hypothesis, ...]) -> float:
        images, measure = self._images, None
        for one in mistakes:
            if one.images is not None:
                images = one.images(*images)
            measure = one.measure if one.measure is not None else measure
        with torch.no_grad():
            x, y = (i if i.is_contiguous() else i.contiguous() for i in images)
            if measure is None:
                return _unchecked(self.metric, x, y)
            if isinstance(measure, str):
                return _unchecked(self._named(measure), x, y)
            return float(measure(x, y))

    def _named(self, spec: str) -> Metric:
        if spec not in self._made:
            device = str(self._images[0].device)
            self._made[spec] = create_metric(spec, device=device, check="off")
        return self._made[spec]


def _unchecked(metric: Metric, x: Tensor, y: Tensor) -> float:
    """Return a metric's value for images of any range."""
    unchecked = copy.copy(metric)  # the caller's metric stays as it is, in other threads too
    unchecked.check = "off"
    return float(unchecked(x, y))


def _image(source: ImageSource, role: str) -> Tensor:
    image = read_image(source, name=role if not isinstance(source, str) else f"{role} {source}")
    if image.shape[0] != 1:
        raise ImageError(f"{role}: expected one image, got {image.shape[0]}")
    return image.detach()
