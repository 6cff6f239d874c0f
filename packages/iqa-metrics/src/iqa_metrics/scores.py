"""From pairs of images to a table of scores; a failure is a row with its reason."""

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TextIO

import torch
from torch import Tensor

from iqa_metrics.decoding import ImageError
from iqa_metrics.devices import pick_device
from iqa_metrics.images import Background, ImageSource, check_pair, read_image
from iqa_metrics.metrics import Metric, MetricSpec, create_metric

PAIR_COLUMNS = ("reference", "distorted")
SCORE_COLUMNS = (*PAIR_COLUMNS, "metric", "value", "error")


class PairsError(ValueError):
    """A table of pairs that can't be read."""

    code = "bad_pairs"


@dataclass(frozen=True)
class Pair:
    """Two images to compare, as a row of a table names them.

    Attributes
    ----------
    reference, distorted
        As the table names them.
    folder
        What relative paths are relative to.
    carried
        The row's other columns.
    problem
        Why the row itself is unusable; empty where it is fine.
    """

    reference: str
    distorted: str
    folder: Path = Path()
    carried: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True)
class Score:
    """One metric's value for one pair, or the reason why there is none.

    ``value`` is None exactly where ``error`` is not empty; ``error`` begins with a stable code.
    """

    reference: str
    distorted: str
    metric: str
    value: float | None
    error: str = ""
    carried: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PairTable:
    """A CSV table of pairs, checked at its head and read row by row."""

    path: Path
    carried: tuple[str, ...]

    @classmethod
    def open(cls, path: Path) -> "PairTable":
        """Check a table's header.

        Raises
        ------
        PairsError
            If the file can't be read, lacks a column, names one twice, or has one that the table
            of scores needs for itself.
        """
        with _csv(path) as file:
            header = next(csv.reader(file), [])
        missing = [c for c in PAIR_COLUMNS if c not in header]
        if missing:
            raise PairsError(
                f"{path}: no column {' and no column '.join(missing)}; expected a header line with "
                f"{' and '.join(PAIR_COLUMNS)}, got {', '.join(header) or 'an empty file'}"
            )
        if len(set(header)) != len(header):
            raise PairsError(f"{path}: a column name stands twice in {', '.join(header)}")
        taken = [c for c in header if c in SCORE_COLUMNS and c not in PAIR_COLUMNS]
        if taken:
            raise PairsError(
                f"{path}: the scores have columns {', '.join(taken)} of their own; rename yours"
            )
        return cls(path, tuple(c for c in header if c not in PAIR_COLUMNS))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __iter__(self) -> Iterator[Pair]:
        with _csv(self.path) as file:
            for row in csv.DictReader(file, restval=""):
                surplus = row.pop(None, None)
                problem = f"bad_row: {len(surplus)} more fields than the header" if surplus else ""
                reference, distorted = (row[c].strip() for c in PAIR_COLUMNS)
                if not problem and not (reference and distorted):
                    problem = "bad_row: no path for reference or distorted"
                carried = {c: row[c] for c in self.carried}
                yield Pair(reference, distorted, self.path.parent, carried, problem)


@contextmanager
def _csv(path: Path) -> Iterator[TextIO]:
    """Open a CSV file for reading; what goes wrong is a PairsError."""
    if path.exists() and not path.is_file():
        # A pipe could be read only once, and the table is read anew for each purpose.
        raise PairsError(f"{path}: not a regular file; save the table first")
    try:
        # utf-8-sig: spreadsheets write a byte order mark before the first column's name.
        file = path.open(newline="", encoding="utf-8-sig")
    except OSError as error:
        raise PairsError(f"{path}: can't be opened ({error.strerror})") from error
    try:
        with file:
            yield file
    except (UnicodeDecodeError, csv.Error) as error:
        raise PairsError(f"{path}: not a CSV file in UTF-8 ({error}); save it as one") from error


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
        A spec, such as ``"default"`` or ``"ssim"``, or a metric object. Metrics named by a spec are
        built once and kept, so calling this in a loop is cheap.
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; a metric object stays on its own device.
    background
        Colour under transparent images; without it they are refused.

    Returns
    -------
    float
        The metric's value; whether higher is better, the metric says.

    Raises
    ------
    ImageError
        If an image can't be read, or the two can't be compared.
    UnknownNameError
        If the spec names nothing.
    WeightsError
        If the metric's network has no weights here.

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
        chosen = _kept_metric(str(metric), str(pick_device(device)))
    images = [
        read_image(source, background=background, name=_name(role, source))
        for role, source in (("reference", reference), ("distorted", distorted))
    ]
    for role, image in zip(PAIR_COLUMNS, images, strict=True):
        if image.shape[0] != 1:
            raise ImageError(
                f"{role}: {image.shape[0]} images came; score() takes one pair. For a batch, call "
                "a metric object: create_metric(spec)(references, distorted)"
            )
    with torch.no_grad():
        return _value(chosen, *images)


def score_pairs(
    pairs: Iterable[Pair],
    metrics: Mapping[str, Metric],
    *,
    background: Background | None = None,
) -> Iterator[Score]:
    """Score pairs one after another, yielding a row a pair and metric.

    Parameters
    ----------
    pairs
        The pairs. Where neighbours share a reference it is read once.
    metrics
        What the rows call a metric, and the metric.
    background
        Colour under transparent images; without it they are refused.

    Yields
    ------
    Score
        In the order of pairs, then of metrics. A pair that can't be scored gives rows with the
        reason and stops nothing.
    """

    # Two, since some tables alternate between references.
    @lru_cache(maxsize=2)
    def read_reference(path: str) -> Tensor:
        return read_image(path, background=background)

    for pair in pairs:
        images: tuple[Tensor, Tensor] | None = None
        problem = pair.problem
        if not problem:
            try:
                reference = read_reference(str(pair.folder / pair.reference))
                distorted = read_image(pair.folder / pair.distorted, background=background)
                check_pair(reference, distorted)
                images = reference, distorted
            except ImageError as error:
                problem = f"{error.code}: {error}"
        for name, metric in metrics.items():
            value, reason = None, problem
            if images is not None:
                value, reason = _value_or_reason(metric, images)
            yield Score(pair.reference, pair.distorted, name, value, reason, pair.carried)


def write_scores(
    scores: Iterable[Score], file: TextIO, carried: Sequence[str] = ()
) -> Iterator[Score]:
    """Write rows as CSV, each as soon as it is there, and pass them on.

    Values are written so that reading them back gives the same float.
    """
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*SCORE_COLUMNS, *carried])
    for row in scores:
        value = "" if row.value is None else repr(row.value)
        writer.writerow(
            [
                *(row.reference, row.distorted, row.metric, value, row.error),
                *(row.carried[column] for column in carried),
            ]
        )
        file.flush()
        yield row


def json_number(value: float) -> float | str:
    """Return a float, or the protobuf JSON mapping's text for what JSON has no number for."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


@lru_cache(maxsize=8)
def _kept_metric(spec: str, device: str) -> Metric:
    return create_metric(spec, device=device)


def _name(role: str, source: ImageSource) -> str:
    return f"{role} {source}" if isinstance(source, (str, Path)) else role


def _value(metric: Metric, reference: Tensor, distorted: Tensor) -> float:
    home = next(metric.parameters(), reference).device
    return float(metric(reference.to(home), distorted.to(home)))


def _value_or_reason(metric: Metric, images: tuple[Tensor, Tensor]) -> tuple[float | None, str]:
    try:
        with torch.no_grad():
            return _value(metric, *images), ""
    except ImageError as error:
        return None, f"{error.code}: {error}"
    except (RuntimeError, MemoryError) as error:  # out of memory, above all
        return None, f"failed: {type(error).__name__}: {error}"
