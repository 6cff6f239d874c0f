"""Telemetry: our own Prometheus metrics, and one line of JSON in the log per request.

TorchServe collects the metrics from its workers and publishes them at its metrics address. It must
know them beforehand, from the file that :func:`metrics_file` returns.
"""

import json
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

LOGGER = "iqa_torchserve.requests"

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True)
class Measure:
    """A Prometheus metric.

    Attributes
    ----------
    name
        The metric's name in Prometheus.
    kind
        ``counter``, ``gauge`` or ``histogram``.
    unit
        TorchServe's name of the unit.
    labels
        Names of the labels, to which TorchServe adds the host's name.
    """

    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...] = ("ModelName",)


PAIRS = Measure("iqa_pairs_scored_total", "counter", "Count", ("ModelName", "Metric"))
ERRORS = Measure("iqa_errors_total", "counter", "Count", ("ModelName", "Code"))
BATCH_REQUESTS = Measure("iqa_batch_requests", "histogram", "Count")
BATCH_PAIRS = Measure("iqa_batch_pairs", "histogram", "Count")
DECODE = Measure("iqa_decode_seconds", "histogram", "Seconds")
FORWARD = Measure("iqa_forward_seconds", "histogram", "Seconds", ("ModelName", "Metric"))
MEMORY = Measure("iqa_worker_memory_bytes", "gauge", "Bytes", ("ModelName", "Worker"))
MEASURES = (PAIRS, ERRORS, BATCH_REQUESTS, BATCH_PAIRS, DECODE, FORWARD, MEMORY)

_TORCHSERVE: Mapping[str, tuple[tuple[str, str, tuple[str, ...]], ...]] = {
    "counter": (
        ("Requests2XX", "Count", ("Level", "Hostname")),
        ("Requests4XX", "Count", ("Level", "Hostname")),
        ("Requests5XX", "Count", ("Level", "Hostname")),
        ("ts_inference_requests_total", "Count", ("model_name", "model_version", "hostname")),
        (
            "ts_inference_latency_microseconds",
            "Microseconds",
            ("model_name", "model_version", "hostname"),
        ),
        (
            "ts_queue_latency_microseconds",
            "Microseconds",
            ("model_name", "model_version", "hostname"),
        ),
    ),
    "gauge": (
        ("QueueTime", "Milliseconds", ("Level", "Hostname")),
        ("WorkerThreadTime", "Milliseconds", ("Level", "Hostname")),
        ("WorkerLoadTime", "Milliseconds", ("WorkerName", "Level", "Hostname")),
    ),
}
"""TorchServe's own metrics, which its frontend expects in the same file."""


def metrics_file() -> str:
    """Return TorchServe's metrics configuration as JSON, with its own metrics and ours."""
    own: dict[str, list[dict[str, Any]]] = {
        kind: [{"name": n, "unit": u, "dimensions": list(d)} for n, u, d in metrics]
        for kind, metrics in _TORCHSERVE.items()
    }
    ours: dict[str, list[dict[str, Any]]] = {}
    for measure in MEASURES:
        # TorchServe itself adds the host's name to metrics of models.
        ours.setdefault(measure.kind, []).append(
            {"name": measure.name, "unit": measure.unit, "dimensions": list(measure.labels)}
        )
    both = [metric for part in (own, ours) for metrics in part.values() for metric in metrics]
    labels = {name for metric in both for name in metric["dimensions"]}
    return json.dumps(
        {"dimensions": sorted(labels), "ts_metrics": own, "model_metrics": ours}, indent=1
    )


@dataclass
class BatchFacts:
    """Facts about a batch, for counting.

    Attributes
    ----------
    requests, pairs
        Numbers of requests and pairs.
    decode_seconds
        Time for decoding the images.
    passes
        For each pass its metric, or the backbone of several metrics; the number of pairs; seconds.
    scored
        For each metric the number of pairs with a value.
    errors
        Codes of refusals, one per refused request or distorted image.
    """

    requests: int
    pairs: int
    decode_seconds: float
    passes: Sequence[tuple[str, int, float]] = ()
    scored: Mapping[str, int] = field(default_factory=dict)
    errors: Sequence[str] = ()


class MetricsCache(Protocol):
    """The part of TorchServe's metrics that is used here."""

    def get_metric(self, metric_name: str, metric_type: Any) -> Any:
        """Return the metric of that name, or raise."""

    def add_metric_to_cache(
        self, metric_name: str, unit: str, dimension_names: list[str], metric_type: Any
    ) -> Any:
        """Return a new metric."""


class Counters:
    """Counts batches in TorchServe's metrics.

    Parameters
    ----------
    cache
        TorchServe's metrics.
    kind
        A function from our name of a kind to TorchServe's.
    model
        The model's name.
    """

    def __init__(self, cache: MetricsCache, kind: Callable[[str], Any], model: str) -> None:
        self._model = model
        self._metrics = {measure: _metric(cache, measure, kind) for measure in MEASURES}

    def count(self, batch: BatchFacts, worker: str) -> None:
        """Count a batch of the worker with that name."""
        self._add(BATCH_REQUESTS, batch.requests)
        if batch.pairs:
            self._add(BATCH_PAIRS, batch.pairs)
            self._add(DECODE, batch.decode_seconds)
        for metric, pairs in batch.scored.items():
            self._add(PAIRS, pairs, metric)
        for metric, _, seconds in batch.passes:
            self._add(FORWARD, seconds, metric)
        for code in dict.fromkeys(batch.errors):
            self._add(ERRORS, batch.errors.count(code), code)
        memory = resident_bytes()
        if memory:
            self._add(MEMORY, memory, worker)

    def _add(self, measure: Measure, value: float, *labels: str) -> None:
        # TorchServe reads metrics from lines of text in which a colon ends a label's name.
        plain = [label.replace(":", "/") for label in (self._model, *labels)]
        self._metrics[measure].add_or_update(value, plain)


def _metric(cache: MetricsCache, measure: Measure, kind: Callable[[str], Any]) -> Any:
    try:
        return cache.get_metric(measure.name, kind(measure.kind))
    except Exception:  # TorchServe runs with another metrics file, and writes them to its log
        labels = list(measure.labels)
        return cache.add_metric_to_cache(measure.name, measure.unit, labels, kind(measure.kind))


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        said: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "event": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            said["trace"] = self.formatException(record.exc_info)
        return json.dumps(said, default=str)


def request_log() -> logging.Logger:
    """Return the logger of requests, which writes one JSON object per line to standard output."""
    logger = logging.getLogger(LOGGER)
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(_JsonLines())
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    return logger


def resident_bytes() -> int:
    """Return the resident memory of this process in bytes, or 0 if it is unknown."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return 0
