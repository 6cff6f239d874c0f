"""A study's statistics: all of them on a table of a study's size, and parts compared with scipy.

Concatenations multiply the series by twenty. Their memory is measured in two steps, which are both
kept until the end: on all pairs with few bootstrap replicates, and with all replicates on few
pairs. Fits of the logistic, which take most of the time and no memory, are left out.

Intervals are compared with a plain version of the same bootstrap: draw references, concatenate
their pairs, call ``scipy.stats.spearmanr``. Channel weights are compared with
``scipy.optimize.nnls`` on the same problem.
"""

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.memory import MIB, peak
from iqa_metrics.channel_weights.fitting import fit_weights
from iqa_metrics.statistics import Resampling, srocc_interval
from iqa_metrics.study import Statistics, analyse, read_distances
from iqa_metrics.study.concatenated import concatenated
from iqa_metrics.study.correlations import Judged
from iqa_metrics.study.distances import Pairs, Series, written_distances
from iqa_metrics.study.facts import description_of
from iqa_metrics.study.plan import CONCATENATED
from iqa_metrics.study.scopes import scopes

REFERENCES, KINDS, LEVELS = 25, 24, 5
LAYERS = 20


def measure(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return times in seconds, and the peak resident memory."""
    quick = job["quick"]
    networks = 2 if quick else job["options"]["networks"]
    with tempfile.TemporaryDirectory() as folder:
        write_table(Path(folder), networks)
        start = time.perf_counter()
        analyse(folder, higher_is="better")
        seconds = time.perf_counter() - start
    rounds = 1 if quick else 3
    return {
        "networks": networks,
        "seconds": seconds,
        "peak_mib": peak() / MIB,
        "concatenations": concatenations(networks, 20 if quick else 1000),
        "intervals": in_turns(*intervals(5 if quick else 50), rounds),
        "weights": in_turns(*weights(40 if quick else 320), rounds),
    }


def write_table(folder: Path, networks: int, levels: int = LEVELS, kinds: int = KINDS) -> None:
    """Write distances like those on TID2013: 3000 pairs, networks of 20 layers, two metrics."""
    random = np.random.default_rng(0)
    each = kinds * levels
    n = REFERENCES * each
    level = np.tile(np.arange(levels), n // levels)
    opinion = 5 - level + random.normal(0, 0.6, n)
    pairs = Pairs(
        "tid2013",
        tuple(f"r{i // each}" for i in range(n)),
        tuple(f"d{i}" for i in range(n)),
        tuple(f"kind {i % each // levels}" for i in range(n)),
        opinion,
        level.astype(np.float64),
    )
    with written_distances(folder / "distances.parquet") as table:
        for name in ("ssim", "psnr"):
            values = opinion + random.normal(0, 2, n)
            series = [Series(name, "", "", np.nan)]
            table.add(pairs, series, values[None], np.full((1, n), ""))
        for number in range(networks):
            noise = random.normal(0, 1 + number / 30, (LAYERS, n))
            values = np.exp(-(opinion + noise) / 3)
            series = [
                Series(f"network{number}", f"l{i}", "euclidean", (i + 1) / LAYERS)
                for i in range(LAYERS)
            ]
            elements = np.full(values.shape, 1000.0)
            table.add(pairs, series, values, np.full(values.shape, ""), elements)


def concatenations(networks: int, draws: int) -> dict[str, float]:
    """Return the number of series with all concatenations, and the peak resident memory."""
    held = []
    for each, replicates in ((LEVELS, 20), (1, draws)):
        with tempfile.TemporaryDirectory() as folder:
            write_table(Path(folder), networks, each, KINDS if each == LEVELS else 2)
            table = read_distances(Path(folder) / "distances.parquet")
        settings = Statistics(draws=replicates)
        description = replace(
            description_of(table, "better", settings), concatenations=CONCATENATED
        )
        judged = {
            name: Judged(concatenated(one, CONCATENATED), settings, 0)
            for name, one in table.items()
        }
        held.append((judged, scopes(judged, description)))
    (_, (scope,)) = held[-1]
    return {"series": len(scope.series), "peak_mib": peak() / MIB}


def intervals(draws: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return functions for the intervals of eight series: ours, and loops around scipy."""
    from scipy.stats import spearmanr

    random = np.random.default_rng(1)
    references = [f"r{i:02}" for i in range(REFERENCES) for _ in range(KINDS * LEVELS)]
    opinion = random.normal(size=len(references))
    distances = opinion + random.normal(size=(8, len(references)))
    index = np.arange(len(references)).reshape(REFERENCES, -1)

    def ours() -> object:
        return srocc_interval(distances, opinion, references, draws=draws)

    def plainly() -> object:
        counts = Resampling(references, draws).counts()[:, :: KINDS * LEVELS].astype(int)
        for count in counts:
            drawn = index[np.repeat(np.arange(REFERENCES), count)].reshape(-1)
            for row in distances:
                spearmanr(row[drawn], opinion[drawn])
        return None

    return ours, plainly


def weights(channels: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return functions for channel weights: ours, and the same least squares by scipy's nnls."""
    from scipy.optimize import nnls

    random = np.random.default_rng(2)
    n, strength = 600, 0.01
    squares = random.gamma(1, 1, (n, channels)) * random.gamma(1, 1, (n, 1))
    opinion = np.sqrt(squares @ random.random(channels)) + random.normal(0, 0.5, n)

    def plainly() -> object:
        centred = (squares - squares.mean(0)) / squares.sum(1).std()
        moved = opinion - opinion.mean()
        penalty = strength * np.square(centred).sum() / n / channels
        uniform = max(0.0, float((centred.T @ moved).sum() / n))
        rows = np.concatenate([centred / np.sqrt(n), np.sqrt(penalty) * np.eye(channels)])
        wanted = np.concatenate([moved / np.sqrt(n), np.full(channels, np.sqrt(penalty) * uniform)])
        return nnls(rows, wanted)

    return lambda: fit_weights(squares, opinion, strength), plainly


def in_turns(
    ours: Callable[[], object], plainly: Callable[[], object], rounds: int
) -> dict[str, float]:
    """Return the median times of both in seconds; they take turns after a first call each."""
    times: dict[str, list[float]] = {"ours": [], "scipy": []}
    for timed in range(rounds + 1):
        for name, run in (("ours", ours), ("scipy", plainly)):
            start = time.perf_counter()
            run()
            if timed:
                times[name].append(time.perf_counter() - start)
    return {name: median(of) for name, of in times.items()}
