"""From a plan to the table of distances: measured window by window, kept, and put together."""

import os
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from iqa_metrics.compute.pair_module import PairModule
from iqa_metrics.datasets.opinions import OpinionDatabase, OpinionPair
from iqa_metrics.io.readahead import WINDOW, cores, read_ahead
from iqa_metrics.io.tables import Pair
from iqa_metrics.metrics import Column, LayerTable, create_metric, resolve
from iqa_metrics.metrics.catalogue import REGISTRY as METRICS
from iqa_metrics.readouts import CHANNEL_SQUARES, ELEMENTS
from iqa_metrics.readouts.catalogue import REGISTRY as READOUTS
from iqa_metrics.registry import Registry
from iqa_metrics.scoring.batches import BatchScorer, Outcome
from iqa_metrics.study.content import code_digest, network_digest
from iqa_metrics.study.distances import Pairs
from iqa_metrics.study.plan import WEIGHTED, Network, Plan
from iqa_metrics.study.store import Block, Store, joined, key_of
from iqa_metrics.weights.files import sha256_of

_FORMAT = 2
_Row = tuple[list[Outcome], int]
"""What modules give for a pair, and the shorter side of its images, in pixels."""


class Progress(Protocol):
    """Is told what is measured, and how many of all pairs and networks are done."""

    def __call__(self, what: str, done: int, total: int) -> None:
        """Take notice."""


@dataclass(frozen=True)
class Keys:
    """Where the readings of a database by one network, or by the baselines, are kept.

    Attributes
    ----------
    of
        Names of readings to the keys of their blocks, window by window.
    """

    of: Mapping[str, tuple[str, ...]]

    def block(self, store: Store, reading: str) -> Block:
        """Return a reading of all pairs."""
        return joined(store.read(key) for key in self.of[reading])


@dataclass(frozen=True)
class Place:
    """Where a reading lies in what a module gives.

    Attributes
    ----------
    module
        Name of the module.
    columns
        Its columns.
    least
        Of each column, or of all, the least height and width, in pixels, that it needs.
    """

    module: str
    columns: tuple[int, ...]
    least: tuple[int, ...]


@dataclass(frozen=True)
class Gauge:
    """What measures pairs, and where each reading lies in it.

    Attributes
    ----------
    name
        What progress calls it.
    content
        SHA-256 of what the network computes; empty for baselines.
    modules
        Names to modules: a backbone's table, or each baseline.
    places
        Names of readings to where they lie.
    facts
        Names of readings to what decides their values, besides the images and the code.
    """

    name: str
    content: str
    modules: Mapping[str, PairModule]
    places: Mapping[str, Place]
    facts: Mapping[str, Mapping[str, Any]]


def squares_of(layer: str) -> str:
    """Return the name of the reading with the channel squares of a layer.

    Squares are many, and are asked for layer by layer.
    """
    return f"{CHANNEL_SQUARES.name}:{layer}"


def gauge_of(network: Network, plan: Plan, device: torch.device) -> Gauge:
    """Build a backbone and the table of all that is read from it."""
    record = network.record
    built = record.network()
    content = network_digest(built)
    layers = [record.layer(name) for name in record.in_order(network.layers)]
    wanted = [ELEMENTS, *plan.measured, *([CHANNEL_SQUARES] if WEIGHTED in plan.readouts else [])]
    columns = [Column(layer.name, one) for one in wanted for layer in layers]
    # What was decoded is in [0, 1]; a layer that a small image does not reach fails by itself.
    table = LayerTable(record, columns, network=built, unreached="nan", check="off")
    spans = dict(zip(((c.layer, c.readout.name) for c in table.columns), table.spans, strict=True))
    places = {}
    for one in wanted:
        if one.per_channel:
            for layer in layers:
                span = tuple(range(*spans[layer.name, one.name]))
                places[squares_of(layer.name)] = Place(record.name, span, (layer.smallest_input,))
        else:
            firsts = tuple(spans[layer.name, one.name][0] for layer in layers)
            least = tuple(layer.smallest_input for layer in layers)
            places[one.name] = Place(record.name, firsts, least)
    common = {
        "network": content,
        "scaling": repr(record.scaling),
        "layers": [[one.name, one.module, repr(one.form)] for one in layers],
        "device": device.type,
    }
    facts = {name: {**common, "reading": name, **_plugin_code(READOUTS, name)} for name in places}
    modules = {record.name: table.to(device)}
    return Gauge(record.name, content, modules, places, facts)


def _plugin_code(registry: Registry[Any], name: str) -> dict[str, str]:
    """Return what decides a value that another package's code computes: that code."""
    provider = registry.provider(name)
    return {} if provider is None else {"plugin_code": provider.code_digest()}


def gauge_of_baselines(plan: Plan, device: torch.device) -> Gauge:
    """Build the metrics to compare with."""
    modules = {spec: create_metric(spec, device=device) for spec in plan.baselines}
    facts = {
        spec: {
            "metric": str(resolve(spec)),
            "network": network_digest(metric),
            "device": device.type,
            **_plugin_code(METRICS, spec),
        }
        for spec, metric in modules.items()
    }
    places = {spec: Place(spec, (0,), (0,)) for spec in modules}
    return Gauge("baselines", "", modules, places, facts)


class Measuring:
    """Measures databases, as far as that is not done yet.

    Parameters
    ----------
    plan
        What is measured.
    store
        Where blocks are kept.
    workers
        Threads that decode and hash images; by default one a core.
    progress
        Is told how far it is.
    """

    def __init__(
        self, plan: Plan, store: Store, workers: int | None, progress: Progress | None
    ) -> None:
        self._plan = plan
        self._store = store
        self._workers = cores() if workers is None else workers
        self._progress = progress
        units = len(plan.networks) + bool(plan.baselines)
        self._total = units * sum(len(d.pairs) for d in plan.databases.values())
        self._done = 0
        self.images = {
            name: _digests(database, self._workers) for name, database in plan.databases.items()
        }

    def measure(self, gauge: Gauge) -> dict[str, Keys]:
        """Measure all databases by a gauge; return where the blocks of each are."""
        return {name: self._database(name, gauge) for name in self._plan.databases}

    def _database(self, name: str, gauge: Gauge) -> Keys:
        pairs = self._plan.databases[name].pairs
        windows = [pairs[first : first + WINDOW] for first in range(0, len(pairs), WINDOW)]
        keys = {
            reading: tuple(self._key(name, window, facts) for window in windows)
            for reading, facts in gauge.facts.items()
        }
        what = f"{gauge.name}, {name}"
        missing = {}
        for number, window in enumerate(windows):
            left = [reading for reading in keys if not self._store.has(keys[reading][number])]
            if left:
                missing[number] = left
            else:
                self._advance(what, len(window))
        # All windows but the last are full, so those that are left are cut as they stand here.
        chosen = [pair for number in missing for pair in windows[number]]
        outcomes = self._outcomes(chosen, gauge)
        with closing(outcomes):
            for number, left in missing.items():
                rows = []
                for _ in windows[number]:
                    rows.append(next(outcomes))
                    self._advance(what, 1)
                for reading in left:
                    block = _block(rows, list(gauge.modules), gauge.places[reading])
                    self._store.write(keys[reading][number], block)
        return Keys(keys)

    def _outcomes(self, pairs: Sequence[OpinionPair], gauge: Gauge) -> Generator[_Row, None, None]:
        """Yield what each module gives, and the image's shorter side, pair by pair."""
        if not pairs:
            return
        parts = read_ahead(
            [Pair(str(pair.reference), str(pair.distorted)) for pair in pairs],
            workers=self._workers,
            background=None,
            pin=any(p.is_cuda for m in gauge.modules.values() for p in m.parameters()),
        )
        with closing(BatchScorer(gauge.modules)) as scorer, closing(parts):
            for part in parts:
                sides = [0 if row.images is None else _side(row.images[0]) for row in part.rows]
                yield from zip(scorer.outcomes(part), sides, strict=True)

    def _key(self, name: str, window: Sequence[OpinionPair], facts: Mapping[str, Any]) -> str:
        images = self.images[name]
        content = [[images[pair.reference], images[pair.distorted]] for pair in window]
        return key_of({**facts, "format": _FORMAT, "code": code_digest(), "pairs": content})

    def say(self, what: str) -> None:
        """Tell what goes on after the measuring."""
        self._advance(what, 0)

    def _advance(self, what: str, count: int) -> None:
        self._done += count
        if self._progress is not None:
            self._progress(what, self._done, self._total)


def pairs_of(name: str, database: OpinionDatabase, images: Mapping[Path, str]) -> Pairs:
    """Return a database's pairs as tables name them: by paths below what they have in common.

    Copies of a reference, by their SHA-256 in ``images``, have one name: they are one photograph.
    """
    files = [str(file.absolute()) for p in database.pairs for file in (p.reference, p.distorted)]
    folder = os.path.commonpath([os.path.dirname(file) for file in files])  # noqa: PTH120
    names = [Path(os.path.relpath(file, folder)).as_posix() for file in files]
    firsts: dict[str, str] = {}
    references = [
        firsts.setdefault(images[pair.reference], name)
        for pair, name in zip(database.pairs, names[::2], strict=True)
    ]
    levels = [np.nan if p.level is None else p.level for p in database.pairs]
    return Pairs(
        name,
        tuple(references),
        tuple(names[1::2]),
        tuple(p.distortion for p in database.pairs),
        np.array([p.opinion for p in database.pairs], dtype=np.float64),
        np.array(levels, dtype=np.float64),
    )


def _block(rows: Sequence[_Row], names: Sequence[str], place: Place) -> Block:
    """Take a reading's columns from what modules gave for pairs, each error where it belongs."""
    at = names.index(place.module)
    values = np.full((len(rows), len(place.columns)), np.nan)
    errors = np.full((len(rows), len(place.least)), "", dtype=object)
    for number, (outcomes, side) in enumerate(rows):
        value, error = outcomes[at]
        if error:
            errors[number] = error
            continue
        values[number] = np.atleast_1d(np.asarray(value, dtype=np.float64))[list(place.columns)]
        errors[number] = [
            f"too_small: the shorter side has {side} pixels; this layer needs at least {least}"
            if side < least
            else ""
            for least in place.least
        ]
    return Block(values, errors.astype(str))


def _side(image: torch.Tensor) -> int:
    return min(image.shape[-2:])


def _digests(database: OpinionDatabase, workers: int) -> dict[Path, str]:
    """Return the SHA-256 of each image, or why it can't be read."""
    images = list(dict.fromkeys(f for p in database.pairs for f in (p.reference, p.distorted)))
    with ThreadPoolExecutor(workers) as pool:
        return dict(zip(images, pool.map(_digest, images), strict=True))


def _digest(file: Path) -> str:
    try:
        return sha256_of(file)
    except OSError as error:
        return f"unreadable: {file}: {error.strerror}"
