"""Score one pair of images, or a stream of pairs."""

import math
from collections.abc import Generator, Iterable, Mapping
from contextlib import closing
from functools import lru_cache
from pathlib import Path

import torch

from iqa_metrics.compute.devices import pick_device
from iqa_metrics.io.decoding import ImageError
from iqa_metrics.io.images import Background, ImageSource, read_image
from iqa_metrics.io.readahead import cores, read_ahead
from iqa_metrics.io.tables import PAIR_COLUMNS, Pair, Score
from iqa_metrics.metrics import Metric, MetricSpec, create_metric
from iqa_metrics.registry import replaced
from iqa_metrics.scoring.batches import BatchScorer


def score(
    reference: ImageSource,
    distorted: ImageSource,
    metric: str | MetricSpec | Metric = "default",
    *,
    device: str = "auto",
    background: Background | None = None,
) -> float:
    """Score one pair of images.

    Parameters
    ----------
    reference, distorted
        Anything that :func:`iqa_metrics.read_image` reads: a path, bytes, a PIL image, an array...
    metric
        A spec, such as ``"default"`` or ``"ssim"``, or a metric object. Metrics made from a spec
        are kept, so calling this function in a loop is cheap.
    device
        ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; a metric object stays on its own device.
    background
        The colour to show behind transparent images; by default they are refused.

    Returns
    -------
    float
        The metric's value. ``higher_is_better`` of the metric says which direction is better.

    Raises
    ------
    ImageError
        If an image can't be read, or the two can't be compared.
    UnknownNameError
        If the spec is unknown.
    WeightsError
        If the metric's weights are not on this machine.

    Examples
    --------
    >>> import numpy as np
    >>> from iqa_metrics import score
    >>> grey = np.full((64, 64), 0.5)
    >>> score(grey, grey)
    0.0
    >>> round(score(grey, grey + 0.1, "psnr"), 4)
    20.0
    """
    if isinstance(metric, Metric):
        chosen = metric
    else:
        chosen = _kept_metric(str(metric), str(pick_device(device)), replaced())
    images = [
        read_image(source, background=background, name=_name(role, source))
        for role, source in (("reference", reference), ("distorted", distorted))
    ]
    for role, image in zip(PAIR_COLUMNS, images, strict=True):
        if image.shape[0] != 1:
            raise ImageError(
                f"{role}: expected one image, got {image.shape[0]}. To score a batch, call a "
                "metric object: create_metric(spec)(references, distorted)"
            )
    home = next(chosen.held(), images[0]).device
    with torch.no_grad():
        return float(chosen(*(image.to(home) for image in images)))


def score_pairs(
    pairs: Iterable[Pair],
    metrics: Mapping[str, Metric],
    *,
    background: Background | None = None,
    workers: int | None = None,
) -> Generator[Score, None, None]:
    """Score pairs, yielding one row per pair and metric.

    Memory use does not grow with the number of pairs. Several threads decode images ahead. Pairs
    that share a reference share its pass through the network, and other pairs of the same size are
    scored in batches. How pairs are grouped depends on nothing but the pairs, so the same pairs
    give bit-identical values on the same machine.

    Parameters
    ----------
    pairs
        The pairs, which may come from a generator. It is read some hundred pairs ahead of the rows.
    metrics
        The metrics, by the names that the rows give them.
    background
        The colour to show behind transparent images; by default they are refused.
    workers
        Number of threads that decode images; by default one for each CPU core.

    Yields
    ------
    Score
        One row per pair and metric, in the order of the pairs and then of the metrics. If a pair
        can't be scored, its rows have the reason, and scoring goes on. Close the generator to stop
        early and to end its threads.

    Raises
    ------
    ValueError
        If ``workers`` is less than 1.
    """
    count = cores() if workers is None else workers
    if count < 1:
        raise ValueError(f"workers: expected a number of threads from 1 on, got {workers!r}")
    return _scored(pairs, metrics, background, count)


def _scored(
    pairs: Iterable[Pair],
    metrics: Mapping[str, Metric],
    background: Background | None,
    workers: int,
) -> Generator[Score, None, None]:
    pin = any(t.is_cuda for metric in metrics.values() for t in metric.held())
    parts = read_ahead(pairs, workers=workers, background=background, pin=pin)
    with closing(BatchScorer(metrics)) as scorer, closing(parts):
        for part in parts:
            rows = scorer.score(part)
            del part  # free its images before waiting for the next ones
            yield from rows


def json_number(value: float) -> float | str:
    """Return a finite number as it is, and others as text, as in protobuf's JSON mapping."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


@lru_cache(maxsize=8)
def _kept_metric(spec: str, device: str, replaced: int) -> Metric:
    return create_metric(spec, device=device)


def _name(role: str, source: ImageSource) -> str:
    return f"{role} {source}" if isinstance(source, (str, Path)) else role
