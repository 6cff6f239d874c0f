"""A table of pairs scored by ``iqa score --pairs``: how busy the network is, and memory growth.

The command runs in this process as it does in a shell, with a clock around each of its passes.
"""

import csv
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks import photographs
from benchmarks.memory import MIB, resident
from iqa_metrics.cli import app
from iqa_metrics.metrics import contract

SIZES = ((512, 384), (384, 512), (450, 300), (640, 480), (320, 320))
DISTORTED_EACH = 40
QUICK_PAIRS = 80


def measure(job: Mapping[str, Any]) -> dict[str, Any]:
    """Score a table of the case's length and return how the time was spent."""
    count = QUICK_PAIRS if job["quick"] else job["options"]["pairs"]
    with tempfile.TemporaryDirectory() as folder:
        table = write_table(Path(folder), count)
        return scored(table, Path(folder) / "scores.csv", count)


def write_table(folder: Path, count: int) -> Path:
    """Write images and their table, with 40 distorted images per reference (TID2013 has 120)."""
    with (folder / "pairs.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["reference", "distorted"])
        for number in range(count):
            group, within = divmod(number, DISTORTED_EACH)
            if within == 0:
                picture = photographs.photograph(group, SIZES[group % len(SIZES)])
                reference = f"{group}.png"
                picture.save(folder / reference, compress_level=1)
            kind = "png" if within % 2 else "jpg"
            name = f"{group}_{within}.{kind}"
            worse = photographs.distorted(picture, within)
            worse.save(folder / name, **({"compress_level": 1} if kind == "png" else {}))
            table.writerow([reference, name])
    return folder / "pairs.csv"


def scored(table: Path, out: Path, count: int) -> dict[str, Any]:
    """Run the command and return the busy share, the speed and memory."""
    passes: list[tuple[float, float, int]] = []
    depth = 0

    def clocked(call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            nonlocal depth
            depth += 1
            start = time.perf_counter()
            try:
                return call(*arguments, **options)
            finally:
                depth -= 1
                if not depth:
                    passes.append((start, time.perf_counter(), resident()))

        return run

    begin = time.perf_counter()
    with (
        mock.patch.object(contract.Metric, "forward", clocked(contract.Metric.forward)),
        mock.patch.object(
            contract.SharedReference, "score", clocked(contract.SharedReference.score)
        ),
    ):
        status = app(
            ["score", "--pairs", str(table), "--out", str(out), "-m", "default", "--device", "cpu"],
            standalone_mode=False,
        )
    end = time.perf_counter()
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if status or len(rows) != count or any(row["error"] for row in rows):
        raise RuntimeError(f"iqa score: status {status}, {len(rows)} of {count} rows")
    return found(passes, begin, end, count)


def found(
    passes: list[tuple[float, float, int]], begin: float, end: float, count: int
) -> dict[str, Any]:
    """Return the figures of passes (start, end, resident bytes).

    Times count from the first pass on. The growth is the largest resident memory in the last
    quarter of the passes divided by that in the second quarter.
    """
    start = passes[0][0]
    busy = sum(last - first for first, last, _ in passes)
    sizes = [size for *_, size in passes]
    quarter = max(1, len(sizes) // 4)
    return {
        "busy": busy / (end - start),
        "growth": max(sizes[-quarter:]) / max(sizes[quarter : 2 * quarter] or sizes[:1]),
        "pairs_a_second": count / (end - start),
        "seconds": end - start,
        "seconds_before": start - begin,
        "passes": len(passes),
        "peak_mib": max(sizes) / MIB,
    }
