"""Score a table of pairs into a table of scores that can be resumed."""

import contextlib
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TextIO

from iqa_metrics.compute.devices import pick_device
from iqa_metrics.io.colour import ColourChoice, check_colour
from iqa_metrics.io.images import Background, check_background
from iqa_metrics.io.readahead import WINDOW
from iqa_metrics.io.resuming import Written, written
from iqa_metrics.io.tables import Pair, PairTable, Score, write_scores
from iqa_metrics.metrics import Metric, MetricSpec, create_metric, parse_spec
from iqa_metrics.scoring.scores import score_pairs

Progress = Callable[[int, int], None]
"""Called with the number of rows that have been written, and the total."""


@dataclass(frozen=True)
class ScoredTable:
    """A table of scores that is complete.

    Attributes
    ----------
    rows
        The number of rows: one per pair and metric.
    failed
        The number of rows whose score could not be computed; they have the reason.
    """

    rows: int
    failed: int


class TableScorer(Protocol):
    """A function that scores the pairs of a table.

    Attributes
    ----------
    window
        The number of pairs that are scored together. Resuming keeps only complete windows.
    """

    window: int

    def __call__(
        self, pairs: Iterable[Pair], metrics: Sequence[str]
    ) -> Generator[Score, None, None]:
        """Yield the scores, in the order of the pairs and then of the metrics."""


def score_table(
    pairs: str | Path,
    out: str | Path | TextIO,
    metrics: Sequence[str | MetricSpec] | Mapping[str, Metric] = ("default",),
    *,
    resume: bool = False,
    device: str | None = None,
    background: Background | None = None,
    colour: ColourChoice = "srgb",
    workers: int | None = None,
    scorer: TableScorer | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> ScoredTable:
    """Score a CSV table of pairs into a CSV table of scores.

    Everything is checked before the first row is written: the table of pairs, the specs, the
    weights and, with ``resume``, the existing rows. Memory use does not grow with the table. If a
    run was stopped, at any byte, ``resume`` completes its table to the same bytes that an
    uninterrupted run would have written.

    Parameters
    ----------
    pairs
        A CSV file with the columns ``reference`` and ``distorted``, which have paths relative to
        the file. In the columns ``space``, ``border``, ``peak`` and ``mask``, which may be left
        out, pairs have conventions of their own, and paths of masks. Other columns are copied to
        the output, as these are.
    out
        The CSV file to write, with the columns ``reference, distorted, metric, value, error,
        colour, signature`` and the copied ones; or a text stream, which can't be resumed.
    metrics
        Specs, or metric objects by the names that the rows give them.
    resume
        Keep the rows that a stopped run left in ``out``, including failed ones, and score the rest.
        All other arguments must be the same as in that run.
    device
        ``auto`` (the default), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``. Metric objects stay on
        their own devices.
    background
        The colour to show behind transparent images; by default they are refused.
    colour
        As for :func:`iqa_metrics.score_pairs`. The column of the same name says what was done.
    workers
        Number of threads that decode images; by default one for each CPU core.
    scorer
        What scores the pairs, such as a client of a server; by default this process.
    progress
        Called with the number of rows that have been written, and the total.
    **options
        ``memory``, ``precision``, ``compile``, ``space``, ``border`` and ``peak``, as for
        :func:`iqa_metrics.create_metric`.

    Returns
    -------
    ScoredTable
        The number of rows, and how many of them failed. If a pair can't be scored, its rows have
        the reason, and scoring goes on.

    Raises
    ------
    PairsError
        If the table of pairs can't be read.
    ResumeError
        If ``out`` is not the beginning of the same table of scores.
    UnknownNameError
        If a spec is unknown.
    WeightsError
        If a metric's weights are not on this machine.
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
    check_colour(colour)
    _check_options(metrics, scorer, device, options, background, colour, workers)
    if scorer is None:
        made = metrics if isinstance(metrics, Mapping) else None
        computing = {"device": "auto" if device is None else device, **options}
        scorer = _LocalScorer(made, computing, background, colour, workers)
    kept = Written()
    if isinstance(out, str | Path):
        path = Path(out)
        if path.exists() and path.samefile(table.path):
            raise ValueError(f"{path} is the table of pairs itself; name another file for scores")
        kept = written(path, table, names, scorer.window) if resume else kept
    elif resume:
        raise ValueError("resume needs the file that the stopped run wrote, got a stream")
    total = len(table) * len(names)
    done, failed = kept.pairs * len(names), kept.failed
    if kept.finished:
        return ScoredTable(total, failed)
    scores = scorer(islice(table, kept.pairs, None), names)
    if progress is not None:
        progress(done, total)
    with closing(scores), _writable(out, kept.size) as file:
        checked = _checked(_apart(scores), kept, out)
        for row in write_scores(checked, file, table.carried, header=not kept.size):
            done += 1
            failed += bool(row.error)
            if progress is not None:
                progress(done, total)
    return ScoredTable(total, failed)


def _check_options(
    metrics: object,
    scorer: TableScorer | None,
    device: str | None,
    options: Mapping[str, Any],
    background: Background | None,
    colour: ColourChoice,
    workers: int | None,
) -> None:
    """Refuse what is no metric, and options that would have no effect."""
    if isinstance(metrics, Mapping):
        for name, metric in metrics.items():
            if not isinstance(metric, Metric):
                raise ValueError(f"metrics: expected {name!r} to be a Metric, got {metric!r}")
    check_background(background)
    given = {"device": device, **options}
    where = "metric objects" if isinstance(metrics, Mapping) else ""
    if scorer is not None:
        given |= {"background": background, "workers": workers}
        given["colour"] = None if colour == "srgb" else colour
        where = "a scorer of your own"
    useless = [name for name, value in given.items() if value is not None]
    if where and useless:
        raise ValueError(f"{', '.join(useless)}: no effect with {where}; leave them out")


class _NotOfTheFile(Exception):  # noqa: N818 - carries another error past a handler
    """An OSError of the scoring, which says nothing about the table that is written."""


def _apart(scores: Iterable[Score]) -> Iterator[Score]:
    """Yield scores; an OSError of their making is kept apart from those of writing them."""
    try:
        yield from scores
    except OSError as error:
        raise _NotOfTheFile from error


def _checked(scores: Iterable[Score], kept: Written, out: str | Path | TextIO) -> Iterator[Score]:
    """Yield scores; raise ResumeError at one that was not computed as those that are kept."""
    for row in scores:
        if isinstance(out, str | Path):
            kept.check(row, Path(out))
        yield row


class _LocalScorer:
    """Scores pairs in this process, with metrics that are made when it is called."""

    window = WINDOW

    def __init__(
        self,
        metrics: Mapping[str, Metric] | None,
        computing: Mapping[str, Any],
        background: Background | None,
        colour: ColourChoice,
        workers: int | None,
    ) -> None:
        self._metrics, self._computing = metrics, computing
        self._background, self._colour, self._workers = background, colour, workers

    def __call__(
        self, pairs: Iterable[Pair], metrics: Sequence[str]
    ) -> Generator[Score, None, None]:
        made = self._metrics
        if made is None:
            options = {**self._computing, "device": pick_device(self._computing["device"])}
            made = {name: create_metric(name, **options) for name in metrics}
        return score_pairs(
            pairs,
            made,
            background=self._background,
            colour=self._colour,
            workers=self._workers,
        )


def _names(metrics: Sequence[str | MetricSpec] | Mapping[str, Metric]) -> tuple[str, ...]:
    """Return the names that rows give the metrics; two spellings of one spec count once."""
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
    """Open the table of scores for writing, after the bytes that are kept of it."""
    if not isinstance(out, str | Path):
        yield out
        return
    try:
        if keep:
            os.truncate(out, keep)
        with Path(out).open("a" if keep else "w", newline="", encoding="utf-8") as file:
            yield file
    except _NotOfTheFile as error:
        raise error.__cause__ or error from None
    except OSError as error:  # also on closing, when the last rows are written
        raise ValueError(f"{out}: can't be written ({error.strerror})") from error
