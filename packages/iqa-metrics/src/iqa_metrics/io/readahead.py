"""Images decoded by several threads, ahead of need, in parts that fit in memory.

Pairs are taken in *windows* of so many rows, counted from the first, and a window is cut into
*parts* by the sizes of its images. So which pairs stand together follows from the table alone,
never from how fast anything was: every run forms the same batches, and values agree to the bit.
"""

import os
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import torch
from PIL import Image
from torch import Tensor

from iqa_metrics.io.decoding import ImageError, size_of_file
from iqa_metrics.io.images import MAX_PIXELS, Background, check_pair, read_image
from iqa_metrics.io.tables import Pair

WINDOW = 64
"""Rows in a window."""
PART_BYTES = 2**26
"""Most bytes of decoded images in a part of more than one pair."""
AHEAD_BYTES = 2**28
"""Most bytes of decoded images that wait for their turn, in more than one part."""
AHEAD_PARTS = 4

_PIXEL_BYTES = 3 * 4


@dataclass(frozen=True)
class LoadedPair:
    """A pair with its images, or with the reason why it has none.

    Attributes
    ----------
    pair
        The pair.
    reference
        The reference's path, by which pairs that share one are known.
    images
        Reference and distorted image, ``[1, 3, H, W]`` each, of one size; None where there is a
        problem.
    problem
        A stable code and the reason; empty where there are images.
    metrics
        What the metrics that it is scored with are called; None where it is all of them.
    """

    pair: Pair
    reference: str
    images: tuple[Tensor, Tensor] | None
    problem: str = ""
    metrics: frozenset[str] | None = None

    def wants(self, metric: str) -> bool:
        """Say whether it is scored with a metric."""
        return self.metrics is None or metric in self.metrics


@dataclass(frozen=True)
class Part:
    """Pairs that are scored together.

    Attributes
    ----------
    rows
        The pairs.
    then
        Path of the reference that the next part begins with, if there is one.
    """

    rows: list[LoadedPair]
    then: str | None


def cores() -> int:
    """Return how many CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def read_ahead(
    pairs: Iterable[Pair], *, workers: int, background: Background | None, pin: bool
) -> Generator[Part, None, None]:
    """Decode pairs in order, and those that come next meanwhile.

    An image is decoded once for as long as a part that needs it is at hand.

    Parameters
    ----------
    pairs
        The pairs. Some hundred rows are taken ahead, whatever the images' sizes.
    workers
        Number of threads that decode.
    background
        Colour under transparent images; without it they are refused.
    pin
        Put the images into page-locked memory, from which copies to a GPU need no waiting.

    Yields
    ------
    Part
        Let go of one before asking for the next: its images count as gone by then.
    """
    pool = decoding_pool(workers)
    images: dict[str, Future[Tensor | str]] = {}
    ahead: deque[_Planned] = deque()
    plan = _planned(pairs, pool)
    try:
        coming = next(plan, None)
        while coming or ahead:
            # The part whose turn it is, and at least one to decode while that one is scored.
            while coming and _has_room(ahead, coming):
                for path in coming.paths:
                    if path not in images:
                        images[path] = pool.submit(_decoded, path, background, pin)
                ahead.append(coming)
                coming = next(plan, None)
            now = ahead.popleft()
            rows = [_loaded(row, images) for row in now.rows]
            yield Part(rows, ahead[0].rows[0].reference if ahead else None)
            del rows
            needed = {path for part in ahead for path in part.paths}
            for path in images.keys() - needed:
                del images[path]
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class _Row:
    """A pair and the paths of its images; none where the row is unusable."""

    pair: Pair
    reference: str | None = None
    distorted: str | None = None

    @classmethod
    def of(cls, pair: Pair) -> "_Row":
        if pair.problem:
            return cls(pair)
        return cls(pair, str(pair.folder / pair.reference), str(pair.folder / pair.distorted))

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(path for path in (self.reference, self.distorted) if path is not None)


@dataclass(frozen=True)
class _Planned:
    """The rows of a part, the paths of its images in order, and their size when decoded."""

    rows: list[_Row]
    paths: tuple[str, ...]
    size: int


def _has_room(ahead: deque[_Planned], part: _Planned) -> bool:
    # The first of them is the one whose turn it is; so two are always let in.
    waiting = list(ahead)[1:]
    if not waiting:
        return True
    return len(waiting) < AHEAD_PARTS and sum(p.size for p in waiting) + part.size <= AHEAD_BYTES


def _planned(pairs: Iterable[Pair], pool: ThreadPoolExecutor) -> Iterator[_Planned]:
    """Cut pairs into windows and these into parts, reading images' headers one window ahead."""
    iterator = iter(pairs)
    waiting: tuple[list[_Row], dict[str, Future[int]]] | None = None
    while window := [_Row.of(pair) for pair in islice(iterator, WINDOW)]:
        paths = dict.fromkeys(path for row in window for path in row.paths)
        sizes = {path: pool.submit(_decoded_bytes, path) for path in paths}
        if waiting:
            yield from _parts(*waiting)
        waiting = window, sizes
    if waiting:
        yield from _parts(*waiting)


def _parts(window: list[_Row], sizes: dict[str, "Future[int]"]) -> Iterator[_Planned]:
    rows: list[_Row] = []
    paths: dict[str, int] = {}
    for row in window:
        added = {path: sizes[path].result() for path in row.paths if path not in paths}
        if rows and sum(paths.values()) + sum(added.values()) > PART_BYTES:
            yield _Planned(rows, tuple(paths), sum(paths.values()))
            rows, paths = [], {}
            added = {path: sizes[path].result() for path in row.paths}
        rows.append(row)
        paths |= added
    yield _Planned(rows, tuple(paths), sum(paths.values()))


def _loaded(row: _Row, images: dict[str, "Future[Tensor | str]"]) -> LoadedPair:
    if row.reference is None or row.distorted is None:
        return LoadedPair(row.pair, "", None, row.pair.problem)
    reference, distorted = (images[path].result() for path in (row.reference, row.distorted))
    if isinstance(reference, str) or isinstance(distorted, str):
        problem = reference if isinstance(reference, str) else str(distorted)
        return LoadedPair(row.pair, row.reference, None, problem)
    try:
        check_pair(reference, distorted)
    except ImageError as error:
        return LoadedPair(row.pair, row.reference, None, reason(error))
    return LoadedPair(row.pair, row.reference, (reference, distorted))


def reason(error: Exception) -> str:
    """Return what a row says of an error: a stable code first."""
    if isinstance(error, ImageError):
        return f"{error.code}: {error}"
    return f"failed: {type(error).__name__}: {error}"


def _decoded(path: str, background: Background | None, pin: bool) -> Tensor | str:
    """Return an image, or the reason why there is none.

    Not the exception: its traceback would keep what the decoder had in its hands.
    """
    try:
        image = read_image(path, background=background)
        return image.contiguous().pin_memory() if pin else image
    except (ImageError, RuntimeError, MemoryError) as error:
        return reason(error)


def _decoded_bytes(path: str) -> int:
    """Return what an image will take when decoded, by its header.

    0 for what won't be decoded; why, decoding says.
    """
    try:
        width, height = size_of_file(path)
    except ImageError:
        return 0
    pixels = width * height
    return _PIXEL_BYTES * pixels if pixels <= MAX_PIXELS else 0


def decoding_pool(workers: int) -> ThreadPoolExecutor:
    """Start threads in each of which torch computes alone.

    Else each would bring along a team of its own, as large as the machine, to divide by 255, and
    take the cores away from the network.
    """
    Image.init()  # here, rather than in several threads at once
    threads = torch.get_num_threads()
    all_here = threading.Barrier(workers)

    def alone(_: int) -> None:
        torch.set_num_threads(1)
        all_here.wait()

    pool = ThreadPoolExecutor(workers, thread_name_prefix="iqa-decode")
    try:
        for _ in pool.map(alone, range(workers)):
            pass
    except BaseException:
        all_here.abort()
        pool.shutdown(cancel_futures=True)
        raise
    # It holds for the thread that says it, but also for all that start later: take that back.
    torch.set_num_threads(threads)
    return pool
