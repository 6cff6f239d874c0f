"""How much memory a study takes at most, and how much this machine has.

The bounds are for the memory that grows with the plan, and do not count what Python and torch take
to start. Their factors were measured.
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from iqa_metrics.compute.memory import CPU_BYTES
from iqa_metrics.datasets.opinions import OpinionDatabase
from iqa_metrics.io.decoding import ImageError, size_of_file
from iqa_metrics.io.readahead import AHEAD_BYTES, PART_BYTES, WINDOW, cores
from iqa_metrics.readouts import Readout
from iqa_metrics.statistics.correlations import AT_ONCE
from iqa_metrics.study.plan import WEIGHTED, Network, Plan
from iqa_metrics.study.settings import PlanError

_NUMBER = 8
_CELL = 41
"""Bytes for each distance while the table is read: twice the number itself, its size and places."""
_ROW = 1200
"""Bytes for a row of correlations."""
_SQUARES = 5
"""Copies of a layer's channel squares while its weights are learned."""
_COPIES_OF_WEIGHTS = 3
"""Copies of a network's weights while it is built and folded."""
_OUTCOME = 40
"""Bytes for a value that a pass returns, until its window is stored."""
_TEMPORARIES = 6
"""Arrays of the size of a block of bootstrap replicates, while their ranks are computed."""
_PIXEL = 12
"""Bytes for a decoded pixel."""
_PASSES = 4
"""Passes whose memory is held at once: the budgets of a pass, and its temporaries."""
_FEW = 200
"""Bootstrap replicates that a plan can do with in order to see whether it is worth running."""


@dataclass(frozen=True)
class SeriesCount:
    """How many series a plan has on each database.

    Attributes
    ----------
    single
        Baselines, and layers with a readout.
    concatenated
        Concatenations of layers.
    """

    single: int
    concatenated: int

    @property
    def total(self) -> int:
        """All series together."""
        return self.single + self.concatenated


@dataclass(frozen=True)
class Need:
    """The most memory that a step of a study takes.

    Attributes
    ----------
    step
        ``measuring``, ``channel weights`` or ``statistics``.
    bytes
        How many bytes it takes.
    what
        What takes them.
    """

    step: str
    bytes: int
    what: str


def series_of(plan: Plan) -> SeriesCount:
    """Count the series of a plan, without computing anything."""
    single = len(plan.baselines) + sum(len(n.layers) for n in plan.networks) * len(plan.readouts)
    concatenated = sum(
        _concatenations(len(network.layers), one, plan.concatenations)
        for network in plan.networks
        for one in plan.measured
    )
    return SeriesCount(single, concatenated)


def _concatenations(layers: int, one: Readout, kinds: object) -> int:
    """Count the concatenations of a backbone's layers with a readout."""
    chosen = [str(kind) for kind in kinds] if isinstance(kinds, list | tuple) else []
    found = 0
    for how in ("joint", "sum"):
        if layers < 2 or (how == "joint" and one.joint is None):
            continue
        cumulative, pairs = (f"{which}:{how}" in chosen for which in ("cumulative", "pairs"))
        found += (layers - 1) * cumulative + layers * (layers - 1) // 2 * pairs
        found -= cumulative and pairs  # the first two layers are both
    return found


def memory_needs(plan: Plan) -> tuple[Need, ...]:
    """Return the most memory that each step of a study takes."""
    found = [_measuring(plan)]
    if WEIGHTED in plan.readouts and plan.networks:
        found.append(_channel_weights(plan))
    return (*found, _statistics(plan))


def _measuring(plan: Plan) -> Need:
    images = sum(_decoded(database) for database in plan.databases.values())
    ahead = min(AHEAD_BYTES + PART_BYTES + _PASSES * CPU_BYTES, _PASSES * images)
    largest, name = 0, "images"
    for network in plan.networks:
        weights = sum(values.numel() for values in network.record.shape.parameters()) * 4
        columns = len(network.layers) * (1 + len(plan.measured))
        if WEIGHTED in plan.readouts:
            columns += sum(_channels(network))
        need = _COPIES_OF_WEIGHTS * weights + WINDOW * columns * (_NUMBER + _OUTCOME)
        if need > largest:
            largest, name = need, network.record.name
    return Need("measuring", ahead + largest, name)


def _decoded(database: OpinionDatabase) -> int:
    """Return about how many bytes all images of a database take, by the size of the first."""
    files = {file for pair in database.pairs for file in (pair.reference, pair.distorted)}
    try:
        width, height = size_of_file(str(database.pairs[0].distorted))
    except ImageError:  # an unreadable image is a row of the tables
        return AHEAD_BYTES
    return len(files) * width * height * _PIXEL


def _channel_weights(plan: Plan) -> Need:
    channels, name = max(
        (count, f"{network.record.name}:{layer}")
        for network in plan.networks
        for layer, count in zip(network.layers, _channels(network), strict=True)
    )
    pairs, database = max((len(one.pairs), name) for name, one in plan.databases.items())
    what = f"{channels:,} channels of {name} on {pairs:,} pairs of {database}"
    return Need("channel weights", _SQUARES * _NUMBER * channels * pairs, what)


def _channels(network: Network) -> list[int]:
    return [network.record.layer(layer).channels for layer in network.layers]


def _statistics(plan: Plan) -> Need:
    series = series_of(plan)
    scored = [one for one in plan.databases.values() if one.facts.asked == "score"]
    pairs = sum(len(one.pairs) for one in plan.databases.values())
    kinds = sum(len({p.distortion for p in one.pairs}) for one in scored)
    draws = plan.statistics.draws
    # The replicates of each series are kept, put together and turned, and then pooled.
    copies = 4 if len(scored) == 1 else 4 * len(scored) + 2
    # Each thread holds the ranks of some replicates, or sums over references for some series.
    most = max(len(one.pairs) for one in plan.databases.values())
    references = max(len({p.reference for p in one.pairs}) for one in plan.databases.values())
    block = min(AT_ONCE, draws * max(most, 2 * references * series.total))
    together = block * _NUMBER * _TEMPORARIES * cores()
    needed = {
        "the table of distances": _CELL * series.single * pairs,
        "bootstrap replicates": copies * _NUMBER * draws * series.total,
        "rows of correlations": _ROW
        * (series.total * (len(scored) + 1) + series.single * max(kinds, 1)),
    }
    what = f"{max(needed, key=lambda name: needed[name])}, {series.total:,} series"
    return Need("statistics", sum(needed.values()) + together, what)


def check_memory(plan: Plan) -> None:
    """Raise PlanError if a study would not fit into the memory that is free, with ways out."""
    free = available_memory()
    if free is None:
        return
    most = max(memory_needs(plan), key=lambda need: need.bytes)
    if most.bytes <= free:
        return
    ways = [f"{way} (then {written(bytes_)})" for way, bytes_ in _ways_out(plan, most)]
    raise PlanError(
        f"this plan would not fit into memory: {most.step} takes up to {written(most.bytes)} "
        f"({most.what}), and {written(free)} are free. "
        + (
            "Ways out: " + "; ".join(ways)
            if ways
            else "Use a machine with more memory, or split it"
        )
    )


def _ways_out(plan: Plan, most: Need) -> Iterator[tuple[str, int]]:
    """Yield changes that make a plan need less, and what it needs then."""
    plans: dict[str, Plan] = {}
    pairs = [kind for kind in plan.concatenations if kind.startswith("pairs")]
    if pairs:
        left = tuple(kind for kind in plan.concatenations if kind not in pairs)
        plans[f"leave out the concatenations {' and '.join(pairs)}"] = replace(
            plan, concatenations=left
        )
    if len(plan.concatenations) > len(pairs):
        plans["leave out all concatenations"] = replace(plan, concatenations=())
    if plan.statistics.draws > _FEW:
        few = replace(plan.statistics, draws=_FEW)
        plans[f"draws = {_FEW}"] = replace(plan, statistics=few)
    if WEIGHTED in plan.readouts:
        kept = tuple(name for name in plan.readouts if name != WEIGHTED)
        plans[f"leave out {WEIGHTED}"] = replace(plan, readouts=kept)
    if any(len(network.layers) > 1 for network in plan.networks):
        fewer = [replace(n, layers=n.layers[1::2] or n.layers) for n in plan.networks]
        plans["read half of the layers"] = replace(plan, networks=fewer)
    if len(plan.databases) > 1:
        name, one = max(plan.databases.items(), key=lambda item: len(item[1].pairs))
        plans["one database at a time"] = replace(plan, databases={name: one})
    for way, changed in plans.items():
        need = max(one.bytes for one in memory_needs(changed))
        if need < most.bytes:
            yield way, need


def written(count: float) -> str:
    """Return a number of bytes for people."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count / 2**10:,.0f} KiB"


def available_memory() -> int | None:
    """Return how many bytes of memory are free for this process, or None if that is unknown.

    Memory that the system only uses to cache files counts as free. The limit of a container counts
    where it is lower.
    """
    found = [one for one in (_of_system(), _of_container()) if one is not None]
    return min(found) if found else None


def _of_system() -> int | None:
    if sys.platform == "win32":
        return _of_windows()
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):  # not Linux
        pass
    try:  # macOS says only how much there is
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _of_container(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return what control groups of either version leave free, or None if there is no limit."""
    for limit, used, cached in (
        ("memory.max", "memory.current", "inactive_file"),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "total_inactive_file",
        ),
    ):
        try:
            most = int((root / limit).read_text(encoding="ascii"))
            now = int((root / used).read_text(encoding="ascii"))
            stat = (root / limit).with_name("memory.stat").read_text(encoding="ascii")
        except (OSError, ValueError):  # "max" where there is no limit
            continue
        facts = dict(line.split(maxsplit=1) for line in stat.splitlines() if " " in line)
        return max(0, most - now + int(facts.get(cached, 0)))
    return None


def _of_windows() -> int | None:
    class Status(ctypes.Structure):
        _fields_ = (
            ("dwLength", ctypes.c_ulong),
            ("dwMemoryLoad", ctypes.c_ulong),
            *(
                (name, ctypes.c_ulonglong)
                for name in (
                    *("ullTotalPhys", "ullAvailPhys", "ullTotalPageFile", "ullAvailPageFile"),
                    *("ullTotalVirtual", "ullAvailVirtual", "ullAvailExtendedVirtual"),
                )
            ),
        )

    status = Status()
    status.dwLength = ctypes.sizeof(status)
    library = getattr(ctypes, "windll", None)
    if library is None or not library.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        return None
    return int(status.ullAvailPhys)
