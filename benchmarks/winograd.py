"""Metrics with and without the Winograd convolution, on the same images."""

import copy

import torch
from torch import nn

from benchmarks import peers
from iqa_metrics import DISTS, LPIPS
from iqa_metrics.compute.winograd import WinogradConv2d
from iqa_metrics.metrics.table_module import TableModule


def with_it(of: str) -> TableModule:
    """Return the metric as it is: ``dists``, or ``alex`` or ``vgg`` for LPIPS."""
    return (
        DISTS(trunk=peers.bare("vgg")) if of == "dists" else LPIPS(of, trunk=peers.bare(of))  # type: ignore[arg-type]
    )


def without_it(metric: TableModule) -> TableModule:
    """Return a copy of a metric whose convolutions are torch's own.

    Raises
    ------
    ValueError
        If the metric has no Winograd convolution to begin with.
    """
    plain = copy.deepcopy(metric)
    replaced = 0
    for parent in list(plain.extractor.network.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is WinogradConv2d:
                setattr(parent, name, _torchs_own(child))
                replaced += 1
    if not replaced:
        raise ValueError(f"{metric.name} has no Winograd convolution to do without")
    plain.extractor.network.requires_grad_(False)
    return plain


def _torchs_own(convolution: WinogradConv2d) -> nn.Conv2d:
    made = nn.Conv2d(
        convolution.in_channels,
        convolution.out_channels,
        3,
        padding=convolution.padding,  # type: ignore[arg-type]
        bias=convolution.bias is not None,
    )
    made.load_state_dict(convolution.state_dict())
    return made.eval().to(memory_format=torch.channels_last)
