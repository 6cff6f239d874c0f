"""``distances.parquet``: the measured distances, one row per pair, backbone, layer and readout.

A baseline metric has its name in the column ``backbone``, and ``layer`` and ``readout`` are empty.
A distance that could not be measured has no value, and ``error`` has the reason; the pair's other
layers keep their values.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from iqa_metrics.io.atomic import written_at_once

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DISTANCES = "distances.parquet"
_TEXTS = ("database", "reference", "distorted", "distortion", "backbone", "layer", "readout")
_NUMBERS = ("level", "opinion", "opinion_sd", "ratings", "depth", "value")
SCHEMA = pa.schema(
    [
        ("database", pa.string()),
        ("reference", pa.string()),
        ("distorted", pa.string()),
        ("distortion", pa.string()),
        ("level", pa.float64()),
        ("opinion", pa.float64()),
        ("opinion_sd", pa.float64()),
        ("ratings", pa.float64()),
        ("backbone", pa.string()),
        ("layer", pa.string()),
        ("depth", pa.float64()),
        ("readout", pa.string()),
        ("elements", pa.int64()),
        ("value", pa.float64()),
        ("error", pa.string()),
    ]
)
_NO_NUMBER = "not_finite: the value of this pair is NaN"
_NEEDED = ("database", "reference", "distorted", "opinion", "backbone", "layer", "readout", "value")


class DistancesError(ValueError):
    """A table of distances that can't be used; the message says what was expected."""

    code = "bad_distances"


@dataclass(frozen=True)
class Pairs:
    """The pairs of a database.

    Attributes
    ----------
    database
        Its name.
    references, distorted
        The name of each pair's reference and distorted image.
    distortions
        Each pair's kind of distortion, or an empty text.
    opinion
        The opinion score of each pair, ``[n]``.
    levels
        The distortion level of each pair, ``[n]``; NaN where it is unknown.
    opinion_sd, ratings
        The standard deviation of each pair's ratings and their number, ``[n]``; NaN where unknown.
    """

    database: str
    references: tuple[str, ...]
    distorted: tuple[str, ...]
    distortions: tuple[str, ...]
    opinion: Floats
    levels: Floats
    opinion_sd: Floats = field(default_factory=lambda: np.array([]))
    ratings: Floats = field(default_factory=lambda: np.array([]))

    def __post_init__(self) -> None:
        for name in ("opinion_sd", "ratings"):
            if len(getattr(self, name)) != len(self.opinion):
                object.__setattr__(self, name, np.full(len(self.opinion), np.nan))

    def __len__(self) -> int:
        return len(self.opinion)


@dataclass(frozen=True)
class Series:
    """One distance that was measured on all pairs of a database.

    Attributes
    ----------
    backbone, layer, readout
        What was measured. For a baseline metric, ``backbone`` is its name, and the others are empty
        texts.
    depth
        The layer's relative depth, in (0, 1]; NaN if there is none.
    """

    backbone: str
    layer: str
    readout: str
    depth: float = field(compare=False)  # NaN equals nothing, so baselines would not be equal

    @property
    def name(self) -> str:
        """Its spec."""
        parts = (self.backbone, self.layer, self.readout)
        return ":".join(part for part in parts if part)


@dataclass(frozen=True)
class Measured:
    """All distances that were measured on a database.

    Attributes
    ----------
    pairs
        The pairs.
    series
        The series: what was measured on each pair.
    values
        The distances, float64 ``[series, pairs]``; NaN where a pair failed.
    elements
        The number of elements of the layer's feature map, int64 ``[series, pairs]``; 0 where it is
        unknown.
    """

    pairs: Pairs
    series: tuple[Series, ...]
    values: Floats
    elements: Ints


class DistancesWriter:
    """Adds rows to a table of distances, one row group per call.

    Attributes
    ----------
    rows, failed
        The numbers of rows so far, and of those that failed.
    """

    def __init__(self, writer: pq.ParquetWriter) -> None:
        self._writer = writer
        self.rows = self.failed = 0

    def add(
        self,
        pairs: Pairs,
        series: Sequence[Series],
        values: Floats,
        errors: NDArray[np.object_],
        elements: Floats | None = None,
    ) -> dict[int, str]:
        """Write values ``[series, pairs]`` and the reasons of those that failed, same shape.

        A value of NaN has failed as well. Returns the pairs for which a value failed, by index, and
        the reason of the first such value.
        """
        n, count = len(pairs), len(series)
        cells = values.reshape(-1)
        reasons = [
            error or (_NO_NUMBER if none else "")
            for error, none in zip(errors.reshape(-1).tolist(), np.isnan(cells), strict=True)
        ]
        failed = np.array([bool(reason) for reason in reasons])
        if elements is None:
            sizes = pa.nulls(n * count, pa.int64())
        else:
            missing = ~np.isfinite(elements.reshape(-1))
            sizes = pa.array(np.nan_to_num(elements).reshape(-1).astype(np.int64), mask=missing)

        def each_pair(texts: Sequence[str]) -> pa.Array:
            return pa.array(list(texts) * count, pa.string())

        def each_series(texts: Iterable[str]) -> pa.Array:
            return pa.array([text for text in texts for _ in range(n)], pa.string())

        depths = np.repeat([one.depth for one in series], n)

        def numbers(values: Floats) -> pa.Array:
            tiled = np.tile(values, count)
            return pa.array(tiled, mask=np.isnan(tiled))

        columns = {
            "database": each_pair([pairs.database] * n),
            "reference": each_pair(pairs.references),
            "distorted": each_pair(pairs.distorted),
            "distortion": each_pair(pairs.distortions),
            "level": numbers(pairs.levels),
            "opinion": pa.array(np.tile(pairs.opinion, count)),
            "opinion_sd": numbers(pairs.opinion_sd),
            "ratings": numbers(pairs.ratings),
            "backbone": each_series(one.backbone for one in series),
            "layer": each_series(one.layer for one in series),
            "depth": pa.array(depths, mask=np.isnan(depths)),
            "readout": each_series(one.readout for one in series),
            "elements": sizes,
            "value": pa.array(cells, mask=failed),
            "error": pa.array(reasons, pa.string()),
        }
        self._writer.write_table(pa.table(columns, schema=SCHEMA))
        self.rows += n * count
        self.failed += int(failed.sum())
        return {int(at % n): reasons[at] for at in np.flatnonzero(failed)[::-1]}


@contextmanager
def written_distances(path: Path) -> Iterator[DistancesWriter]:
    """Open a table of distances for writing; an error leaves an earlier file as it was."""
    with (
        written_at_once(path) as file,
        pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer,
    ):
        yield DistancesWriter(writer)


def read_distances(path: str | Path) -> dict[str, Measured]:
    """Read a table of distances that a study wrote, or that has the same columns.

    The columns ``distortion``, ``level``, ``opinion_sd``, ``ratings``, ``depth``, ``elements`` and
    ``error`` may be absent, and rows may be in any order.

    Parameters
    ----------
    path
        The Parquet file.

    Returns
    -------
    dict
        What was measured on each database, by the database's name, in the order of the file.

    Raises
    ------
    DistancesError
        If the file can't be read or lacks a column, or if a pair has two values in a series.
    """
    try:
        there = pq.read_schema(path).names
        missing = [name for name in _NEEDED if name not in there]
        if missing:
            raise DistancesError(
                f"{path}: missing columns {', '.join(missing)}; expected at least "
                f"{', '.join(_NEEDED)}, got {', '.join(there)}"
            )
        columns = [name for name in SCHEMA.names if name in there and name != "error"]
        texts = [name for name in _TEXTS if name in there]
        file = pq.ParquetFile(path, read_dictionary=texts)
        gathered: dict[str, _Gathered] = {}
        for batch in file.iter_batches(batch_size=2**18, columns=columns):
            _gather(pa.Table.from_batches([batch]), gathered)
    except (OSError, pa.ArrowException) as error:
        raise DistancesError(f"{path}: can't be read as Parquet: {error}") from error
    return {name: found.measured(name, path) for name, found in gathered.items()}


class _Gathered:
    """The rows of a database that have been read so far."""

    def __init__(self) -> None:
        self.pairs: dict[tuple[str, ...], int] = {}
        self.facts: list[tuple[str, float, float, float, float]] = []
        self.series: dict[tuple[str, ...], int] = {}
        self.depths: list[float] = []
        self.rows: list[tuple[NDArray[np.int32], NDArray[np.int32], Floats, Ints]] = []

    def measured(self, name: str, path: str | Path) -> Measured:
        n, count = len(self.pairs), len(self.series)
        values, elements = np.full((count, n), np.nan), np.zeros((count, n), np.int64)
        times = np.zeros((count, n), np.uint8)
        for ways, of_pairs, found, sizes in self.rows:
            np.add.at(times, (ways, of_pairs), 1)
            values[ways, of_pairs] = found
            elements[ways, of_pairs] = sizes
        kinds, *facts = zip(*self.facts, strict=True)
        references, distorted = zip(*self.pairs, strict=True)
        series = tuple(
            Series(backbone, layer, readout, depth)
            for (backbone, layer, readout), depth in zip(self.series, self.depths, strict=True)
        )
        if (times > 1).any():
            way, pair = np.argwhere(times > 1)[0]
            raise DistancesError(
                f"{path}: database {name}: {series[way].name} has two values for "
                f"{references[pair]} and {distorted[pair]}; expected one row per pair and series"
            )
        pairs = Pairs(name, references, distorted, kinds, *(np.array(one) for one in facts))
        return Measured(pairs, series, values, elements)


def _gather(table: pa.Table, gathered: dict[str, _Gathered]) -> None:
    texts = {name: _codes(table, name) for name in _TEXTS}
    numbers = {name: _numbers(table, name) for name in _NUMBERS}
    sizes = np.nan_to_num(_numbers(table, "elements")).astype(np.int64)
    for place, database in enumerate(texts["database"][1]):
        rows = np.flatnonzero(texts["database"][0] == place)
        if not len(rows):
            continue
        found = gathered.setdefault(database, _Gathered())
        pairs, firsts = _numbered(texts, ("reference", "distorted"), rows, found.pairs)
        for row in firsts:
            kind = texts["distortion"][1][texts["distortion"][0][row]]
            facts = (numbers[one][row] for one in ("opinion", "level", "opinion_sd", "ratings"))
            found.facts.append((kind, *facts))
        ways, firsts = _numbered(texts, ("backbone", "layer", "readout"), rows, found.series)
        found.depths += [numbers["depth"][row] for row in firsts]
        found.rows.append((ways, pairs, numbers["value"][rows], sizes[rows]))


def _codes(table: pa.Table, name: str) -> tuple[NDArray[np.int64], list[str]]:
    """Return a text column as codes, and the texts they stand for; empty texts if it is absent."""
    if name not in table.column_names:
        return np.zeros(len(table), np.int64), [""]
    column = table[name].combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0)
    if not pa.types.is_dictionary(column.type):
        column = column.cast(pa.string()).dictionary_encode()
    known = ["" if text is None else str(text) for text in column.dictionary.to_pylist()]
    none = len(known)
    codes = column.indices.fill_null(none).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes, [*known, ""]


def _numbers(table: pa.Table, name: str) -> Floats:
    if name not in table.column_names:
        return np.full(len(table), np.nan)
    column = table[name].cast(pa.float64())
    return np.asarray(column.to_numpy(), dtype=np.float64)


def _numbered(
    texts: dict[str, tuple[NDArray[np.int64], list[str]]],
    names: tuple[str, ...],
    rows: Ints,
    known: dict[tuple[str, ...], int],
) -> tuple[NDArray[np.int32], list[int]]:
    """Number the distinct contents of some columns.

    Returns the number of each row, and the first row of each content that was not known before.
    """
    combined = np.zeros(len(rows), np.int64)
    for name in names:
        codes, meanings = texts[name]
        combined = combined * len(meanings) + codes[rows]
    _, first, inverse = np.unique(combined, return_index=True, return_inverse=True)
    numbers = np.empty(len(first), np.int32)
    new = []
    for at in np.argsort(first):  # in the order of the rows
        row = int(rows[first[at]])
        key = tuple(texts[name][1][texts[name][0][row]] for name in names)
        if key not in known:
            known[key] = len(known)
            new.append(row)
        numbers[at] = known[key]
    return numbers[inverse.reshape(-1)], new
