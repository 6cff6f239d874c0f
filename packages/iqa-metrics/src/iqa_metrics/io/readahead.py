"""Images decoded ahead of time by several threads, in parts that fit in memory.

Pairs are taken in *windows* of a fixed number of rows, and a window is cut into *parts* by the
sizes of its images. So the table alone decides which pairs are scored together, and timing never
does: every run forms the same batches, and values agree to the bit.
"""

import os
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from iqa_metrics.io.colour import Colour, ColourChoice
from iqa_metrics.io.conventions import AS_GIVEN
from iqa_metrics.io.decoding import ImageError, size_of_file
from iqa_metrics.io.images import MAX_PIXELS, Background, check_pair, read_with_colour
from iqa_metrics.io.masks import read_mask
from iqa_metrics.io.tables import Pair

WINDOW = 64
"""Rows in a window."""
PART_BYTES = 2**26
"""Most bytes of decoded images in a part of more than one pair."""
AHEAD_BYTES = 2**28
"""Most bytes of decoded images in waiting parts, if there is more than one such part."""
AHEAD_PARTS = 4

_PIXEL_BYTES = 3 * 4
_Image = tuple[Tensor, Colour]
_IN_MEMORY = "\0"  # no path begins like this


@dataclass(frozen=True)
class LoadedPair:
    """A pair with its images, or with the reason why it has none.

    Attributes
    ----------
    pair
        The pair.
    reference
        The reference's path, or a key of an image in memory: equal for pairs that share a
        reference.
    images
        Reference and distorted image, ``[1, 3, H, W]`` each, of the same size; None if there is a
        problem.
    problem
        A stable code and the reason; empty if there are images.
    metrics
        Names of the metrics that the pair is scored with; None for all of them.
    colour
        What was done about the colours of the images; empty if nothing was.
    mask
        The weights of pixels, ``[1, 1, H, W]``; None if there are none.
    """

    pair: Pair
    reference: str
    images: tuple[Tensor, Tensor] | None
    problem: str = ""
    metrics: frozenset[str] | None = None
    colour: str = ""
    mask: Tensor | None = None

    def wants(self, metric: str) -> bool:
        """Return whether the pair is scored with a metric."""
        return self.metrics is None or metric in self.metrics


@dataclass(frozen=True)
class Part:
    """Pairs that are scored together.

    Attributes
    ----------
    rows
        The pairs.
    then
        Path of the next part's first reference, or None if this is the last part.
    """

    rows: list[LoadedPair]
    then: str | None


def cores() -> int:
    """Return how many CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def read_ahead(
    pairs: Iterable[Pair],
    *,
    workers: int,
    background: Background | None,
    pin: bool,
    colour: ColourChoice = "srgb",
    peak: float | None = None,
) -> Generator[Part, None, None]:
    """Decode pairs in order, and the following ones in the meantime.

    An image is decoded only once while any waiting part needs it.

    Parameters
    ----------
    pairs
        The pairs. About a hundred rows are read ahead, whatever the sizes of their images.
    workers
        Number of decoding threads.
    background
        Colour behind transparent images; without it they are refused.
    pin
        Put the images into page-locked memory, from which copies to a GPU are asynchronous.
    colour
        As for :func:`iqa_metrics.read_image`. Images whose colours can't be converted are compared
        as stored where both of a pair state the same.
    peak
        As for :func:`iqa_metrics.read_image`, for pairs that have none of their own.

    Yields
    ------
    Part
        The next part. Release it before taking another: its memory counts as free by then.
    """
    pool = decoding_pool(workers)
    images: dict[str, Future[_Image | str]] = {}
    how = _How(background, colour, peak, pin)
    ahead: deque[_Planned] = deque()
    plan = _planned(pairs, pool)
    try:
        coming = next(plan, None)
        while coming or ahead:
            # The current part, and at least one to decode while the current one is scored.
            while coming and _has_room(ahead, coming):
                for path in coming.paths:
                    if path not in images:
                        images[path] = pool.submit(_decoded, coming.wanted[path], how)
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
class _How:
    """How images are read."""

    background: Background | None
    colour: ColourChoice
    peak: float | None
    pin: bool


@dataclass(frozen=True)
class _Wanted:
    """An image or mask to read: its path, or the object in memory."""

    source: Any
    peak: float | None = None
    is_mask: bool = False


@dataclass(frozen=True)
class _Row:
    """A pair and the keys of its images, which are None if the row is unusable.

    The key of an image is its path or, in memory, its identity, with the pair's own peak.
    """

    pair: Pair
    reference: str | None = None
    distorted: str | None = None
    mask: str | None = None
    wanted: Mapping[str, _Wanted] = field(default_factory=dict)

    @classmethod
    def of(cls, pair: Pair) -> "_Row":
        if pair.problem:
            return cls(pair)
        own = AS_GIVEN.with_changes(pair.conventions).peak
        keys: list[str] = []
        wanted: dict[str, _Wanted] = {}
        for name, source in zip((pair.reference, pair.distorted), pair.sources, strict=True):
            path = str(pair.folder / name) if source is None else f"{_IN_MEMORY}{id(source)}"
            key = path if own is None else f"{path}{_IN_MEMORY}peak {own!r}"
            wanted[key] = _Wanted(path if source is None else source, own)
            keys.append(key)
        if pair.mask is None:
            return cls(pair, keys[0], keys[1], wanted=wanted)
        is_file = isinstance(pair.mask, str | os.PathLike)
        source = str(pair.folder / pair.mask) if is_file else pair.mask  # type: ignore[operator]
        mask = f"{_IN_MEMORY}mask {source if is_file else id(source)}"
        wanted[mask] = _Wanted(source, is_mask=True)
        return cls(pair, keys[0], keys[1], mask, wanted)

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(self.wanted)


@dataclass(frozen=True)
class _Planned:
    """A part's rows, the keys of its images in order, and their decoded size in bytes."""

    rows: list[_Row]
    paths: tuple[str, ...]
    size: int

    @property
    def wanted(self) -> dict[str, _Wanted]:
        return {key: wanted for row in self.rows for key, wanted in row.wanted.items()}


def _has_room(ahead: deque[_Planned], part: _Planned) -> bool:
    # The first one is the current part, so two are always allowed.
    waiting = list(ahead)[1:]
    if not waiting:
        return True
    return len(waiting) < AHEAD_PARTS and sum(p.size for p in waiting) + part.size <= AHEAD_BYTES


def _planned(pairs: Iterable[Pair], pool: ThreadPoolExecutor) -> Iterator[_Planned]:
    """Cut pairs into windows and windows into parts, reading image headers one window ahead."""
    iterator = iter(pairs)
    waiting: tuple[list[_Row], dict[str, Future[int]]] | None = None
    while window := [_Row.of(pair) for pair in islice(iterator, WINDOW)]:
        wanted = {key: one for row in window for key, one in row.wanted.items()}
        sizes = {key: pool.submit(_decoded_bytes, one.source) for key, one in wanted.items()}
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


def _loaded(row: _Row, images: dict[str, "Future[_Image | str]"]) -> LoadedPair:
    if row.reference is None or row.distorted is None:
        return LoadedPair(row.pair, "", None, row.pair.problem)
    found: dict[str, _Image] = {}
    for key in row.paths:
        image = images[key].result()
        if isinstance(image, str):
            return LoadedPair(row.pair, row.reference, None, image)
        found[key] = image
    (reference, of_reference), (distorted, of_distorted) = (
        found[key] for key in (row.reference, row.distorted)
    )
    try:
        colour = check_pair(reference, distorted, (of_reference, of_distorted))
    except ImageError as error:
        return LoadedPair(row.pair, row.reference, None, reason(error))
    mask = None if row.mask is None else found[row.mask][0]
    return LoadedPair(row.pair, row.reference, (reference, distorted), colour=colour, mask=mask)


def reason(error: Exception) -> str:
    """Return a row's text for an error, which begins with a stable code."""
    if isinstance(error, ImageError):
        return f"{error.code}: {error}"
    return f"failed: {type(error).__name__}: {error}"


def _decoded(wanted: _Wanted, how: _How) -> _Image | str:
    """Return an image or a mask, or the reason why it can't be decoded.

    The exception itself is not kept: its traceback would keep the decoder's memory alive.
    """
    try:
        if wanted.is_mask:
            return _at_hand(read_mask(wanted.source, name=_name_of(wanted)), how.pin), Colour()
        image, found = read_with_colour(
            wanted.source,
            background=how.background,
            colour=how.colour,
            peak=how.peak if wanted.peak is None else wanted.peak,
        )
        if image.shape[0] != 1:
            raise ImageError(f"expected one image, got a batch of {image.shape[0]}")
        return _at_hand(image, how.pin), found
    except (ImageError, RuntimeError, MemoryError) as error:
        return reason(error)


def _name_of(wanted: _Wanted) -> str:
    return f"mask {wanted.source}" if isinstance(wanted.source, str) else "mask"


def _at_hand(image: Tensor, pin: bool) -> Tensor:
    if image.requires_grad or image.device.type != "cpu":  # a tensor of the caller's
        image = image.detach().cpu()
    return image.contiguous().pin_memory() if pin else image


def _decoded_bytes(source: Any) -> int:
    """Return the size of an image once decoded, in bytes, from its header.

    It is 0 for images that can't be decoded; decoding them reports the reason.
    """
    try:
        if isinstance(source, Tensor):
            height, width = source.shape[-2:]
        elif isinstance(source, np.ndarray):
            height, width = source.shape[:2] if source.ndim < 4 else source.shape[1:3]
        elif isinstance(source, Image.Image):
            width, height = source.size
        else:
            width, height = size_of_file(source)
    except (ImageError, ValueError):  # ValueError: an array of too few dimensions
        return 0
    pixels = width * height
    return _PIXEL_BYTES * pixels if pixels <= MAX_PIXELS else 0


def decoding_pool(workers: int) -> ThreadPoolExecutor:
    """Start threads in each of which torch uses a single thread.

    Otherwise each of them would start as many threads as the machine has cores just to divide by
    255, and take the cores away from the network.
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
    # set_num_threads also holds for threads that start later, which is undone here.
    torch.set_num_threads(threads)
    return pool
