"""Metrics: objects with a contract. See :class:`Metric` for what each one promises."""

from iqa_metrics.metrics.catalogue import (
    METRICS,
    MetricRecord,
    create_metric,
    parse_spec,
    resolve,
)
from iqa_metrics.metrics.contract import Metric
from iqa_metrics.metrics.deep import DeepDistance
from iqa_metrics.metrics.pixel import PSNR, SSIM
from iqa_metrics.metrics.specs import DeepSpec, MetricSpec, NamedSpec

__all__ = [
    "METRICS",
    "PSNR",
    "SSIM",
    "DeepDistance",
    "DeepSpec",
    "Metric",
    "MetricRecord",
    "MetricSpec",
    "NamedSpec",
    "create_metric",
    "parse_spec",
    "resolve",
]
