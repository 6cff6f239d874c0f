"""A table of pairs becomes a table of scores: checked first, written row by row, resumable."""

import contextlib
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TextIO

from iqa_metrics.compute.devices import pick_device
from iqa_metrics.io.images import Background
from iqa_metrics.io.readahead import WINDOW
from iqa_metrics.io.resuming import Written, written
from iqa_metrics.io.tables import Pair, PairTable, Score, write_scores
from iqa_metrics.metrics import Metric, MetricSpec, create_metric, parse_spec
from iqa_metrics.scoring.scores import score_pairs

Progress = Callable[[int, int], None]
"""Called with how many rows are written, and of how many."""


@dataclass(frozen=True)
class ScoredTable:
    """What became of a table of pairs.

    Attributes
    ----------
    rows
        How many scores the table has: one per pair and metric.
    failed
        How many of them could not be computed; their rows say why.
    """

    rows: int
    failed: int


class TableScorer(Protocol):
    """What scores the pairs of a table.

    Attributes
    ----------
    window
        How many pairs are scored together. A resumed table keeps whole windows of rows.
    """

    window: int

    def __call__(
        self, pairs: Iterable[Pair], metrics: Sequence[str]
    ) -> Generator[Score, None, None]:
        """Return the scores, in the order of pairs and then of metrics."""


def score_table(
    pairs: str | Path,
    out: str | Path | TextIO,
    metrics: Sequence[str | MetricSpec] | Mapping[str, Metric] = ("default",),
    *,
    resume: bool = False,
    device: str = "auto",
    background: Background | None = None,
    workers: int | None = None,
    scorer: TableScorer | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> ScoredTable:
    """Score a CSV table of pairs into a CSV table of scores.

    Everything is checked before the first row is written: the table of pairs, the specs, the
    networks' weights, and with ``resume`` the rows that are there. Memory does not grow with the
    table. A run that is stopped, at any byte, leaves rows that ``resume`` completes to the same
    bytes as a run that was never stopped.

    Parameters
    ----------
    pairs
        A CSV file with the columns ``reference`` and ``distorted``, paths relative to the file;
        other columns are carried through.
    out
        The CSV file to write, with the columns ``reference, distorted, metric, value, error`` and
        those that are carried; or a text stream, which can't be resumed.
    metrics
        Specs, or metric objects by the names that rows call them.
    resume
        Keep the rows that a stopped run left in ``out``, failed ones too, and score the rest. All
        other arguments must be those of that run.
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; metric objects stay on their own devices.
    background
        Colour under transparent images; without it they are refused.
    workers
        Number of threads that decode; by default one for each CPU core.
    scorer
        What scores the pairs, such as a client of a server; by default this process.
    progress
        Called with how many rows are written, and of how many.
    **options
        ``memory``, ``precision`` and ``compile``, as for :func:`iqa_metrics.create_metric`.

    Returns
    -------
    ScoredTable
        How many rows there are, and how many failed. A pair that can't be scored is a row with its
        reason and stops nothing.

    Raises
    ------
    PairsError
        If the table of pairs can't be read.
    ResumeError
        If ``out`` holds something else than the beginning of these scores.
    UnknownNameError
        If a spec names nothing.
    WeightsError
        If a metric's weights are not here.
    ValueError
        If an option is wrong, or ``out`` can't be written.

    Examples
    --------
    >>> from iqa_metrics import score_table
    >>> score_table("pairs.csv", "scores.csv", ["default", "psnr"], resume=True)  # doctest: +SKIP
    ScoredTable(rows=200, failed=0)
    """
    table = PairTable.open(Path(pairs))
    names = _names(metrics)
    if scorer is None:
        made = metrics if isinstance(metrics, Mapping) else None
        scorer = _Here(made, {"device": device, **options}, background, workers)
    kept = Written()
    if isinstance(out, str | Path):
        path = Path(out)
        if path.exists() and path.samefile(table.path):
            raise ValueError(f"{path} is the table of pairs itself; name another file for scores")
        kept = written(path, table, names, scorer.window) if resume else kept
    elif resume:
        raise ValueError("resume needs the file that the stopped run left, not a stream")
    total = len(table) * len(names)
    done, failed = kept.pairs * len(names), kept.failed
    if kept.finished:
        return ScoredTable(total, failed)
    scores = scorer(islice(table, kept.pairs, None), names)
    if progress is not None:
        progress(done, total)
    with closing(scores), _writable(out, kept.size) as file:
        for row in write_scores(scores, file, table.carried, header=not kept.size):
            done += 1
            failed += bool(row.error)
            if progress is not None:
                progress(done, total)
    return ScoredTable(total, failed)


class _Here:
    """Scores in this process, by metrics that are made when the first pair is asked for."""

    window = WINDOW

    def __init__(
        self,
        metrics: Mapping[str, Metric] | None,
        computing: Mapping[str, Any],
        background: Background | None,
        workers: int | None,
    ) -> None:
        self._metrics, self._computing = metrics, computing
        self._background, self._workers = background, workers

    def __call__(
        self, pairs: Iterable[Pair], metrics: Sequence[str]
    ) -> Generator[Score, None, None]:
        made = self._metrics
        if made is None:
            options = {**self._computing, "device": pick_device(self._computing["device"])}
            made = {name: create_metric(name, **options) for name in metrics}
        return score_pairs(pairs, made, background=self._background, workers=self._workers)


def _names(metrics: Sequence[str | MetricSpec] | Mapping[str, Metric]) -> tuple[str, ...]:
    """Return what rows call the metrics: two spellings of one spec are one."""
    if isinstance(metrics, Mapping):
        names = tuple(metrics)
    else:
        specs = [metrics] if isinstance(metrics, str) else metrics
        names = tuple(dict.fromkeys(str(parse_spec(str(spec))) for spec in specs))
    if not names:
        raise ValueError("metrics: expected at least one, got none")
    return names


@contextlib.contextmanager
def _writable(out: str | Path | TextIO, keep: int) -> Iterator[TextIO]:
    """Open the table of scores, behind as many bytes as are to be kept of it."""
    if not isinstance(out, str | Path):
        yield out
        return
    try:
        if keep:
            os.truncate(out, keep)
        with Path(out).open("a" if keep else "w", newline="", encoding="utf-8") as file:
            yield file
    except OSError as error:  # the last of it is written on closing
        raise ValueError(f"{out}: can't be written ({error.strerror})") from error
