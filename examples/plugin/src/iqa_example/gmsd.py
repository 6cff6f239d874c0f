"""GMSD, the deviation of gradient magnitude similarity."""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from iqa_metrics import Metric, MetricRecord
from iqa_metrics.readouts import root

_LUMA = (0.299, 0.587, 0.114)
_CONSTANT = 170 / 255**2
_PREWITT = torch.tensor([[1, 0, -1]] * 3, dtype=torch.float64) / 3


class GMSD(Metric):
    """Gradient magnitude similarity deviation.

    The luminance of both images is halved, its gradients are compared position by position, and
    the standard deviation of that similarity is the value: how unevenly structure was lost. As in
    the authors' code, borders are filled with zeros. Range ``[0, 1)``; identical images give 0;
    symmetric.

    References
    ----------
    W. Xue, L. Zhang, X. Mou and A. C. Bovik, "Gradient Magnitude Similarity Deviation: A Highly
    Efficient Perceptual Image Quality Index", IEEE Transactions on Image Processing 23(2), 2014.
    """

    name = "gmsd"
    higher_is_better: ClassVar[bool] = False
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    smallest_input = 4
    source: ClassVar[str] = "Xue et al., IEEE TIP 2014, doi 10.1109/TIP.2013.2293423"

    def compare(self, reference: Tensor, distorted: Tensor) -> Tensor:
        """Return ``[N]``."""
        x, y = (_squared_gradients(images) for images in (reference, distorted))
        # One minus the similarity (2 |x| |y| + c) / (x² + y² + c): the same deviation, exactly 0
        # for identical images.
        loss = (root(x) - root(y)).square() / (x + y + _CONSTANT)
        return root(loss.flatten(1).var(dim=1))


def _squared_gradients(images: Tensor) -> Tensor:
    wide = images.to(torch.promote_types(images.dtype, torch.float32))
    luma = torch.einsum("nchw,c->nhw", wide, wide.new_tensor(_LUMA))[:, None]
    height, width = luma.shape[-2:]
    halved = F.avg_pool2d(F.pad(luma, (0, width % 2, 0, height % 2)), 2)
    kernel = _PREWITT.to(halved)
    kernels = torch.stack([kernel, kernel.T])[:, None]
    return F.conv2d(halved, kernels, padding=1).square().sum(dim=1)


RECORD = MetricRecord(
    name="gmsd", metric=GMSD, summary="deviation of the similarity of gradient magnitudes"
)
