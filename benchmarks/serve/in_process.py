"""The same work without a server: a loop around the library, and the scorer that a worker runs."""

import itertools
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from benchmarks.serve.pictures import pairs
from iqa_metrics import pick_device, score
from iqa_torchserve.archive import unpack_archive
from iqa_torchserve.container import pack
from iqa_torchserve.scorer import Scorer

BATCH = 8


@lru_cache(maxsize=1)
def scorer(built: Path) -> Scorer:
    """Return the scorer of an archive, made as a worker makes it."""
    with tempfile.TemporaryDirectory() as folder:
        unpack_archive(built, Path(folder))
        return Scorer.from_archive(Path(folder), device=str(pick_device("auto")))


@lru_cache(maxsize=1)
def _bodies(count: int) -> tuple[bytes, ...]:
    return tuple(pack([pair.reference, pair.distorted]) for pair in pairs(count))


def prepared(built: Path, count: int) -> dict[str, Any]:
    """Load and warm up everything; return the values of the pairs and the number of threads."""
    values = [score(pair.reference, pair.distorted) for pair in pairs(count)]
    _answer(built, _bodies(count))
    return {"values": values, "threads": torch.get_num_threads()}


def loop_rate(count: int, seconds: float) -> float:
    """Return the pairs per second of a plain loop of ``score(bytes, bytes)``."""
    turns = itertools.cycle(pairs(count))

    def one() -> int:
        pair = next(turns)
        score(pair.reference, pair.distorted)
        return 1

    return _rate(one, seconds)


def batch_rate(built: Path, count: int, seconds: float) -> float:
    """Return the pairs per second of the worker's scorer, in batches of eight requests."""
    turns = itertools.cycle(_bodies(count))

    def one() -> int:
        _answer(built, list(itertools.islice(turns, BATCH)))
        return BATCH

    return _rate(one, seconds)


def _answer(built: Path, bodies: Sequence[bytes]) -> None:
    for reply in scorer(built).answer([{"body": body} for body in bodies]):
        if reply.status != 200:
            raise RuntimeError(f"not scored: {reply.body}")


def _rate(run: Callable[[], int], seconds: float) -> float:
    start = time.perf_counter()
    done = 0
    while True:
        done += run()
        took = time.perf_counter() - start
        if took >= seconds:
            return done / took
