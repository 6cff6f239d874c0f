"""Score one pair of images, or a stream of pairs."""

import math
from collections.abc import Generator, Iterable, Mapping
from contextlib import closing
from functools import lru_cache
from pathlib import Path

import torch

from iqa_metrics.compute.devices import pick_device
from iqa_metrics.forks import check_fork
from iqa_metrics.io.colour import ColourChoice, check_colour, settled
from iqa_metrics.io.conventions import Space
from iqa_metrics.io.decoding import ImageError
from iqa_metrics.io.images import Background, ImageSource, read_with_colour
from iqa_metrics.io.masks import read_mask
from iqa_metrics.io.readahead import cores, read_ahead
from iqa_metrics.io.tables import PAIR_COLUMNS, Pair, Score
from iqa_metrics.metrics import Metric, MetricSpec, create_metric
from iqa_metrics.registry import replaced
from iqa_metrics.scoring.batches import BatchScorer, taken, under
from iqa_metrics.scoring.inputs import Metrics, Pairs, metrics_of, pairs_of


def score(
    reference: ImageSource,
    distorted: ImageSource,
    metric: str | MetricSpec | Metric = "default",
    *,
    device: str = "auto",
    background: Background | None = None,
    colour: ColourChoice = "srgb",
    space: Space | None = None,
    border: int | None = None,
    peak: float | None = None,
    mask: ImageSource | None = None,
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
    colour
        ``srgb`` converts images that state another colour space to sRGB; ``ignore`` takes their
        values as stored. :func:`score_pairs` also says what was done.
    space, border, peak
        What is compared of the images; see :class:`Conventions`. By default what the metric object
        is set to.
    mask
        Weights of the pixels: a grey image, or an array ``[H, W]`` of numbers from 0 on. Only for
        metrics that are means over positions (``takes_mask``).

    Returns
    -------
    float
        The metric's value. ``higher_is_better`` of the metric says which direction is better.

    Raises
    ------
    ImageError
        If an image can't be read, or the two can't be compared. Its code is ``bad_colour`` if the
        colours of one can't be converted, and the other does not state the same; and ``bad_mask``
        if the mask can't be used, or if the metric takes none.
    UnknownNameError
        If the spec is unknown.
    WeightsError
        If the metric's weights are not on this machine.
    ValueError
        If ``colour`` is neither ``srgb`` nor ``ignore``, or if a convention has a value that it
        can't have.

    Examples
    --------
    >>> import numpy as np
    >>> from iqa_metrics import score
    >>> grey = np.full((64, 64), 0.5)
    >>> score(grey, grey)
    0.0
    >>> round(score(grey, grey + 0.1, "psnr"), 4)
    20.0
    >>> round(score(255 * grey, 255 * grey + 25.5, "psnr", peak=255), 4)
    20.0
    """
    if isinstance(metric, Metric):
        chosen = metric
    else:
        chosen = _kept_metric(str(metric), str(pick_device(device)), replaced())
    changes = {"space": space, "border": border, "peak": peak}
    white = chosen.conventions.with_changes(changes).peak
    chosen = under(chosen, changes)
    read = [
        read_with_colour(
            source, background=background, colour=colour, peak=white, name=_name(role, source)
        )
        for role, source in (("reference", reference), ("distorted", distorted))
    ]
    images = [image for image, _ in read]
    settled(*(found for _, found in read))
    for role, image in zip(PAIR_COLUMNS, images, strict=True):
        if image.shape[0] != 1:
            raise ImageError(
                f"{role}: expected one image, got {image.shape[0]}. To score a batch, call a "
                "metric object: create_metric(spec)(references, distorted)"
            )
    home = next(chosen.held(), images[0]).device
    masks = (
        {} if mask is None else taken(chosen, read_mask(mask, name=_name("mask", mask)).to(home))
    )
    with torch.no_grad():
        return float(chosen(*(image.to(home) for image in images), **masks))


def score_pairs(
    pairs: Pairs,
    metrics: Metrics = "default",
    *,
    device: str = "auto",
    background: Background | None = None,
    colour: ColourChoice = "srgb",
    space: Space | None = None,
    border: int | None = None,
    peak: float | None = None,
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
        The pairs: (reference, distorted) tuples or lists, mappings or named tuples with these keys,
        or :class:`Pair` objects, in any iterable; or a table of pandas, polars or pyarrow with
        these columns. Other keys and columns are carried: the rows have them. An image is a path,
        bytes, a PIL image, an array or a tensor, as for :func:`iqa_metrics.read_image`. A generator
        is read some hundred pairs ahead of the rows, so it must not write into arrays that it has
        already given.
    metrics
        A spec or a metric object, several of them in a list, or a mapping of the names that the
        rows give them. Without a mapping, rows have the canonical spec.
    device
        Where metrics that are given as specs compute; metric objects stay where they are.
    background
        The colour to show behind transparent images; by default they are refused.
    colour
        ``srgb`` converts images that state another colour space to sRGB; ``ignore`` takes their
        values as stored. If the colours of both images of a pair can't be converted, and both
        state the same, their values are compared as stored.
    space, border, peak
        What is compared of the images; see :class:`Conventions`. By default what each metric is set
        to. A pair may have its own, and a mask, under the keys ``space``, ``border``, ``peak`` and
        ``mask``.
    workers
        Number of threads that decode images; by default one for each CPU core.

    Yields
    ------
    Score
        One row per pair and metric, in the order of the pairs and then of the metrics, with what
        was done about colours. If a pair can't be scored, its rows have the reason, and scoring
        goes on. Close the generator to stop early and to end its threads.

    Raises
    ------
    ValueError
        If ``workers`` is less than 1, ``colour`` is neither ``srgb`` nor ``ignore``, a table lacks
        a column, a pair has not two images, or metrics have different peaks.
    TypeError
        If the pairs or metrics are of another kind. A wrong pair is reported with its position
        when it is reached.
    ForkedError
        When the first row is asked for, if this process was forked and can't compute.
    UnknownNameError, WeightsError
        As by :func:`iqa_metrics.create_metric`.

    Examples
    --------
    >>> import numpy as np
    >>> from iqa_metrics import score_pairs
    >>> grey = np.full((64, 64), 0.5)
    >>> for row in score_pairs([(grey, grey), (grey, grey + 0.1)], ["mse", "psnr"]):
    ...     print(row.metric, round(row.value, 4))
    mse 0.0
    psnr inf
    mse 0.01
    psnr 20.0
    """
    check_colour(colour)
    count = cores() if workers is None else workers
    if count < 1:
        raise ValueError(f"workers: expected a number of threads from 1 on, got {workers!r}")
    changes = {"space": space, "border": border, "peak": peak}
    chosen = {
        name: metric.under(metric.conventions.with_changes(changes))
        for name, metric in metrics_of(metrics, device).items()
    }
    peaks = {metric.conventions.peak for metric in chosen.values()}
    if len(peaks) > 1:
        raise ValueError(
            f"metrics: expected the same peak of all, since images are read once; got {peaks}"
        )
    white = next(iter(peaks), None)
    return _scored(pairs_of(pairs), chosen, background, colour, white, count)


def _scored(
    pairs: Iterable[Pair],
    metrics: Mapping[str, Metric],
    background: Background | None,
    colour: ColourChoice,
    peak: float | None,
    workers: int,
) -> Generator[Score, None, None]:
    check_fork()  # which would otherwise be the reason in every row
    pin = any(t.is_cuda for metric in metrics.values() for t in metric.held())
    parts = read_ahead(
        pairs, workers=workers, background=background, pin=pin, colour=colour, peak=peak
    )
    scores = BatchScorer(metrics, colour=colour, background=background)
    with closing(scores) as scorer, closing(parts):
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
