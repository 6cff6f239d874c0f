"""Huber's distance: squared for small differences, absolute for large ones."""

import torch
from torch import Tensor
from torch.nn import functional as F

from iqa_metrics import Readout
from iqa_metrics.readouts import mean_over_elements


def huber(reference: Tensor, distorted: Tensor) -> Tensor:
    """Return the mean of Huber's loss over a layer's feature maps, ``[N]``."""
    return _losses(reference, distorted).flatten(1).mean(dim=1)


def huber_map(reference: Tensor, distorted: Tensor) -> Tensor:
    """Return the mean of Huber's loss over the channels at each position, ``[N, 1, ...]``."""
    return _losses(reference, distorted).mean(dim=1, keepdim=True)


def _losses(reference: Tensor, distorted: Tensor) -> Tensor:
    x, y = (r.to(torch.promote_types(r.dtype, torch.float32)) for r in (reference, distorted))
    difference = y - x
    return F.huber_loss(difference, torch.zeros_like(difference), reduction="none")


RECORD = Readout(
    name="huber",
    function=huber,
    summary="mean of Huber's loss of the difference",
    source="Huber, Annals of Mathematical Statistics 35, 1964",
    joint=mean_over_elements,
    map=huber_map,
)
