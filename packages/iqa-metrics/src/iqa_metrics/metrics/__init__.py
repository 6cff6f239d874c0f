"""Metrics: modules that compare two batches of images. :class:`Metric` documents their contract."""

from iqa_metrics.metrics.catalogue import (
    METRICS,
    all_metrics,
    create_metric,
    metric_record,
    needs,
    parse_spec,
    resolve,
)
from iqa_metrics.metrics.columns import Column
from iqa_metrics.metrics.contract import Metric
from iqa_metrics.metrics.deep import DeepDistance
from iqa_metrics.metrics.dists import DISTS
from iqa_metrics.metrics.feature_readouts import FeatureReadouts
from iqa_metrics.metrics.layer_table import LayerTable
from iqa_metrics.metrics.lpips import LPIPS
from iqa_metrics.metrics.perceptnet import PerceptNet
from iqa_metrics.metrics.pixel import MSE, MSSSIM, PSNR, SSIM
from iqa_metrics.metrics.record import MetricRecord, Needs
from iqa_metrics.metrics.specs import DeepSpec, MetricSpec, NamedSpec

__all__ = [
    "DISTS",
    "LPIPS",
    "METRICS",
    "MSE",
    "MSSSIM",
    "PSNR",
    "SSIM",
    "Column",
    "DeepDistance",
    "DeepSpec",
    "FeatureReadouts",
    "LayerTable",
    "Metric",
    "MetricRecord",
    "MetricSpec",
    "NamedSpec",
    "Needs",
    "PerceptNet",
    "all_metrics",
    "create_metric",
    "metric_record",
    "needs",
    "parse_spec",
    "resolve",
]
