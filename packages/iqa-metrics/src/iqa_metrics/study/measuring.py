"""Measure what a plan asks for and no run has stored yet, window by window, and store it."""

import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
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
from iqa_metrics.metrics import Column, DeepDistance, LayerTable, create_metric, resolve
from iqa_metrics.plugins import Provider, provider_of, providers_of
from iqa_metrics.readouts import CHANNEL_SQUARES, ELEMENTS, Readout
from iqa_metrics.scoring.batches import BatchScorer, Outcome
from iqa_metrics.study.content import code_digest, function_digest, network_digest
from iqa_metrics.study.distances import Floats, Pairs
from iqa_metrics.study.plan import WEIGHTED, Network, Plan
from iqa_metrics.study.store import Block, Store, key_of, pair_of
from iqa_metrics.weights.files import sha256_of

_FORMAT = 3
_Row = tuple[list[Outcome], tuple[int, int]]
"""The outcomes of the modules for a pair, and the height and width of its images."""


class Progress(Protocol):
    """A function that shows the progress of measuring."""

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show what is being measured, how many pairs are done over all backbones, and the total.

        All baselines together count like one backbone.
        """


@dataclass(frozen=True)
class Keys:
    """The stored readings of one backbone, or of all baselines, on one database.

    Attributes
    ----------
    of
        The key of each reading, by the reading's name.
    pairs
        The digest of each pair of the database.
    """

    of: Mapping[str, str]
    pairs: tuple[bytes, ...]

    def block(self, store: Store, reading: str) -> Block:
        """Return a reading for all pairs of the database."""
        return store.read(self.of[reading], self.pairs)


@dataclass(frozen=True)
class Place:
    """Where a reading is found in the output of a module.

    Attributes
    ----------
    module
        The name of the module.
    columns
        The columns of its output.
    layers
        The layer of each column, or the only one of all columns; empty for a baseline.
    """

    module: str
    columns: tuple[int, ...]
    layers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Modules that measure pairs, and where each reading is found in their outputs.

    Attributes
    ----------
    name
        The name that progress shows.
    content
        The SHA-256 of what the network computes; empty for baselines.
    modules
        The modules by name: the layer table of a backbone, or each baseline.
    places
        Where each reading is found, by the reading's name.
    facts
        What determines the values of each reading, besides the images and the code, by the
        reading's name.
    """

    name: str
    content: str
    modules: Mapping[str, PairModule]
    places: Mapping[str, Place]
    facts: Mapping[str, Mapping[str, Any]]


def squares_of(layer: str) -> str:
    """Return the name of the reading that holds the channel squares of a layer.

    There is one such reading per layer, because channel squares take much memory.
    """
    return f"{CHANNEL_SQUARES.name}:{layer}"


def backbone_reader(network: Network, plan: Plan, device: torch.device) -> Reader:
    """Build a backbone and the layer table of all that a plan reads from it."""
    record = network.record
    built = record.network()
    content = network_digest(built)
    layers = [record.layer(name) for name in record.in_order(network.layers)]
    wanted = [ELEMENTS, *plan.measured, *([CHANNEL_SQUARES] if WEIGHTED in plan.readouts else [])]
    columns = [Column(layer.name, one) for one in wanted for layer in layers]
    # Decoded images lie in [0, 1]. If an image is too small for a layer, only that layer fails.
    table = LayerTable(record, columns, network=built, unreached="nan", check="off")
    spans = dict(zip(((c.layer, c.readout.name) for c in table.columns), table.spans, strict=True))
    places = {}
    for one in wanted:
        if one.per_channel:
            for layer in layers:
                span = tuple(range(*spans[layer.name, one.name]))
                places[squares_of(layer.name)] = Place(record.name, span, (layer.name,))
        else:
            firsts = tuple(spans[layer.name, one.name][0] for layer in layers)
            places[one.name] = Place(record.name, firsts, tuple(layer.name for layer in layers))
    common = {
        "network": content,
        **_plugin_code(provider_of("backbone", record.name)),
        "scaling": repr(record.scaling),
        "layers": [[one.name, one.module, repr(one.form)] for one in layers],
        "device": device.type,
    }
    facts = {name: {**common, "reading": name} for name in places}
    for one in plan.measured:
        facts[one.name] |= _readout_code(one)
    return Reader(
        name=record.name,
        content=content,
        modules={record.name: table.to(device)},
        places=places,
        facts=facts,
    )


def _plugin_code(*providers: Provider | None) -> dict[str, list[str]]:
    """Return the hashes of the plug-ins' code; nothing for what is built in."""
    digests = {one.code_digest() for one in providers if one is not None}
    return {"plugin_code": sorted(digests)} if digests else {}


def _readout_code(one: Readout) -> dict[str, Any]:
    """Return the hashes of the code of a readout; nothing for a built-in one."""
    provider = provider_of("readout", one.name)
    if provider is None:
        return {}
    return {"readout_code": [provider.code_digest(), function_digest(one.function)]}


def baseline_reader(plan: Plan, device: torch.device) -> Reader:
    """Build the baseline metrics of a plan."""
    modules = {spec: create_metric(spec, device=device) for spec in plan.baselines}
    facts = {
        spec: {
            "metric": str(resolve(spec)),
            "network": network_digest(metric),
            "device": device.type,
            **_plugin_code(*providers_of(spec)),
            **(_readout_code(metric.readout) if isinstance(metric, DeepDistance) else {}),
        }
        for spec, metric in modules.items()
    }
    places = {spec: Place(spec, (0,), ("",)) for spec in modules}
    return Reader(name="baselines", content="", modules=modules, places=places, facts=facts)


class Measuring:
    """Measures the databases of a plan, except what is stored already.

    Parameters
    ----------
    plan
        The plan.
    store
        The store of readings.
    workers
        Number of threads that decode and hash images; by default one for each CPU core.
    progress
        Shows the progress.
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
        self.pairs = {
            name: tuple(
                pair_of(self.images[name][pair.reference], self.images[name][pair.distorted])
                for pair in database.pairs
            )
            for name, database in plan.databases.items()
        }

    def measure(self, reader: Reader) -> dict[str, Keys]:
        """Measure all databases with a reader; return the keys of the readings of each."""
        keys = {
            reading: key_of({**facts, "format": _FORMAT, "code": code_digest()})
            for reading, facts in reader.facts.items()
        }
        # Pairs that several databases share are measured with the first of them.
        known = {reading: self._store.known(key) for reading, key in keys.items()}
        found = {name: self._database(name, reader, keys, known) for name in self._plan.databases}
        for key in keys.values():
            self._store.gather(key)
        return found

    def _database(
        self,
        name: str,
        reader: Reader,
        keys: Mapping[str, str],
        known: Mapping[str, set[bytes]],
    ) -> Keys:
        what = f"{reader.name}, {name}"
        digests = self.pairs[name]
        left = {
            digest: pair
            for digest, pair in zip(digests, self._plan.databases[name].pairs, strict=True)
            if not all(digest in there for there in known.values())
        }
        if len(left) < len(digests):
            self._advance(what, len(digests) - len(left))
        # What a killed run has left is cut into the same windows, because it wrote whole ones.
        outcomes = measured_rows(list(left.values()), reader, self._workers)
        with closing(outcomes):
            for window in _windows(list(left)):
                rows = []
                for _ in window:
                    rows.append(next(outcomes))
                    self._advance(what, 1)
                for reading, key in keys.items():
                    new = [at for at, digest in enumerate(window) if digest not in known[reading]]
                    if new:
                        block = _block(rows, reader.modules, reader.places[reading])
                        pairs = [window[at] for at in new]
                        self._store.write(key, pairs, block[new])
                        known[reading].update(pairs)
        return Keys(keys, digests)

    def say(self, what: str) -> None:
        """Show what is being done after all pairs were measured."""
        self._advance(what, 0)

    def _advance(self, what: str, count: int) -> None:
        self._done += count
        if self._progress is not None:
            self._progress(what, self._done, self._total)


def measured_rows(
    pairs: Sequence[OpinionPair], reader: Reader, workers: int
) -> Generator[_Row, None, None]:
    """Yield the outcome of each module and the images' height and width, pair by pair."""
    if not pairs:
        return
    parts = read_ahead(
        [Pair(str(pair.reference), str(pair.distorted)) for pair in pairs],
        workers=workers,
        background=None,
        pin=any(t.is_cuda for m in reader.modules.values() for t in m.held()),
    )
    with closing(BatchScorer(reader.modules)) as scorer, closing(parts):
        for part in parts:
            sizes = [_size(row.images) for row in part.rows]
            yield from zip(scorer.outcomes(part), sizes, strict=True)


def folder_of(database: OpinionDatabase) -> str:
    """Return the absolute path of the common folder of a database's images."""
    return os.path.commonpath([os.path.dirname(file) for file in _files_of(database)])  # noqa: PTH120


def _files_of(database: OpinionDatabase) -> list[str]:
    return [str(file.absolute()) for p in database.pairs for file in (p.reference, p.distorted)]


def pairs_of(name: str, database: OpinionDatabase, images: Mapping[Path, str]) -> Pairs:
    """Return a database's pairs with the names that tables use: paths below their common folder.

    Identical reference images, by their SHA-256 in ``images``, get the name of the first one,
    because they are the same photograph.
    """
    files = _files_of(database)
    folder = folder_of(database)
    names = [Path(os.path.relpath(file, folder)).as_posix() for file in files]
    firsts: dict[str, str] = {}
    references = [
        firsts.setdefault(images[pair.reference], name)
        for pair, name in zip(database.pairs, names[::2], strict=True)
    ]

    def numbers(values: Iterable[float | None]) -> Floats:
        return np.array([np.nan if one is None else one for one in values], dtype=np.float64)

    return Pairs(
        database=name,
        references=tuple(references),
        distorted=tuple(names[1::2]),
        distortions=tuple(p.distortion for p in database.pairs),
        opinion=np.array([p.opinion for p in database.pairs], dtype=np.float64),
        levels=numbers(p.level for p in database.pairs),
        opinion_sd=numbers(p.opinion_sd for p in database.pairs),
        ratings=numbers(p.ratings for p in database.pairs),
    )


def _windows(pairs: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Cut pairs into the windows that are read ahead and scored together."""
    return (pairs[first : first + WINDOW] for first in range(0, len(pairs), WINDOW))


def _block(rows: Sequence[_Row], modules: Mapping[str, PairModule], place: Place) -> Block:
    """Take a reading's columns and errors from the outcomes of the modules."""
    at = list(modules).index(place.module)
    module = modules[place.module]
    values = np.full((len(rows), len(place.columns)), np.nan)
    errors = np.full((len(rows), len(place.layers)), "", dtype=object)
    for number, (outcomes, size) in enumerate(rows):
        value, error = outcomes[at]
        if error:
            errors[number] = error
            continue
        values[number] = np.atleast_1d(np.asarray(value, dtype=np.float64))[list(place.columns)]
        if isinstance(module, LayerTable):
            errors[number] = [module.refusal(layer, *size) for layer in place.layers]
    return Block(values, errors)


def _size(images: tuple[torch.Tensor, torch.Tensor] | None) -> tuple[int, int]:
    return (0, 0) if images is None else (images[0].shape[-2], images[0].shape[-1])


def _digests(database: OpinionDatabase, workers: int) -> dict[Path, str]:
    """Return the SHA-256 of each image, or the reason if it can't be read."""
    images = list(dict.fromkeys(f for p in database.pairs for f in (p.reference, p.distorted)))
    with ThreadPoolExecutor(workers) as pool:
        return dict(zip(images, pool.map(_digest, images), strict=True))


def _digest(file: Path) -> str:
    try:
        return sha256_of(file)
    except OSError as error:
        return f"unreadable: {file}: {error.strerror}"
