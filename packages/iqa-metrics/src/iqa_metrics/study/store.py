"""Keep measurements on disk, each found by what determines it: a reading and a pair.

A reading's key is the SHA-256 of everything that determines its values except for the images: the
network, the code and the settings. Within a reading, values are found by the pair: a digest of its
two images. A run therefore finds a value exactly if it would compute the same one, wherever the
pair stands in a table and whichever database it belongs to, and outdated values need not be
detected.

Values are added in parts, files that hold one reading of the pairs that were measured together.
A part is written atomically and never changed. When a reading has many parts, they are gathered
into one.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from iqa_metrics.io.atomic import written_at_once

_MANY = 16
"""Parts of a reading that are left as they are; more of them are gathered into one."""


@dataclass(frozen=True)
class Block:
    """One reading for some pairs.

    Attributes
    ----------
    values
        Float64 ``[pairs, K]``; NaN where a value failed.
    errors
        The reasons of failures, ``[pairs, K]``, or ``[pairs, 1]`` if all columns are of one layer;
        an empty text where there was no failure.
    """

    values: NDArray[np.float64]
    errors: NDArray[np.object_]

    def failed(self) -> NDArray[np.bool_]:
        """Return which values failed, ``[pairs, K]``."""
        return np.broadcast_to((self.errors != "").astype(bool), self.values.shape)

    def __getitem__(self, pairs: Sequence[int] | NDArray[np.intp]) -> "Block":
        """Return the block of some pairs."""
        rows = np.asarray(pairs, dtype=np.intp)
        return Block(self.values[rows], self.errors[rows])


class Store:
    """Readings in a folder.

    Parameters
    ----------
    folder
        The folder. It is created when the first part is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def known(self, key: str) -> set[bytes]:
        """Return the pairs whose values are stored under a key.

        A pair does not count if it failed for a reason other than its images, such as a lack of
        memory. The next run then tries again.
        """
        found: set[bytes] = set()
        for table in self._parts(key, ("pair", "errors")):
            fine = ~_to_repeat(_table_in(table["errors"]))
            pairs = table["pair"].to_pylist()
            found.update(pair for pair, good in zip(pairs, fine.tolist(), strict=True) if good)
        return found

    def write(self, key: str, pairs: Sequence[bytes], block: Block) -> None:
        """Store a part, atomically: a file that exists is complete.

        Parameters
        ----------
        key
            The reading.
        pairs
            The digest of each pair of the block.
        block
            The values.
        """
        table = pa.table(
            {
                "pair": pa.array(pairs, pa.binary()),
                "values": _column_of(block.values),
                "errors": _column_of(block.errors),
            }
        )
        path = self._path(key, pairs)
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_at_once(path) as file:
            pq.write_table(table, file, compression="zstd")

    def read(self, key: str, pairs: Sequence[bytes]) -> Block:
        """Return a reading of some pairs, in their order.

        Raises
        ------
        KeyError
            If a pair has no values.
        """
        places = {pair: at for at, pair in enumerate(dict.fromkeys(pairs))}
        wanted = np.array([places[pair] for pair in pairs], dtype=np.intp)
        block: Block | None = None
        there = np.zeros(len(places), np.uint8)
        for table in self._parts(key, ("pair", "values", "errors")):
            rows = [
                (row, places[pair])
                for row, pair in enumerate(table["pair"].to_pylist())
                if pair in places
            ]
            if not rows:
                continue
            part = Block(_table_in(table["values"]), _table_in(table["errors"]))
            if block is None:
                values = np.empty((len(places), part.values.shape[1]))
                errors = np.empty((len(places), part.errors.shape[1]), dtype=object)
                block = Block(values, errors)
            # A failure that was tried again gives way to what was measured then.
            rank = np.where(_to_repeat(part.errors), 1, 2)
            for row, at in rows:
                if rank[row] > there[at]:
                    block.values[at], block.errors[at] = part.values[row], part.errors[row]
                    there[at] = rank[row]
        if block is None or not there.all():
            missing = next(pair for pair, at in places.items() if not there[at])
            raise KeyError(f"{key}: no values of the pair {missing.hex()}")
        # Tables rarely hold a pair twice, and channel squares are large.
        return block if len(places) == len(pairs) else block[wanted]

    def gather(self, key: str) -> None:
        """Write the parts of a reading into one file if there are many.

        Reading one file is much quicker than reading hundreds. If the run is killed in between,
        pairs are stored twice with the same values, which does no harm.
        """
        files = self._files(key)
        if len(files) <= _MANY:
            return
        fine, held = self.known(key), set[bytes]()
        gathered = self._path(key, [file.name.encode() for file in files])
        with ExitStack() as stack:
            file = stack.enter_context(written_at_once(gathered))
            writer: pq.ParquetWriter | None = None
            for table in self._parts(key):
                again = _to_repeat(_table_in(table["errors"])).tolist()
                rows = []
                for row, pair in enumerate(table["pair"].to_pylist()):
                    # A failure gives way to what was measured when the pair was tried again.
                    if pair not in held and not (again[row] and pair in fine):
                        held.add(pair)
                        rows.append(row)
                if writer is None:
                    opened = pq.ParquetWriter(file, table.schema, compression="zstd")
                    writer = stack.enter_context(opened)
                if rows:
                    writer.write_table(table.take(rows))
        for path in files:
            if path != gathered:
                path.unlink(missing_ok=True)

    def _parts(self, key: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the parts of a reading; one that is torn counts as not there."""
        for path in self._files(key):
            try:
                table = pq.read_table(
                    path, columns=None if columns is None else list(columns), memory_map=False
                )
            except (OSError, pa.ArrowException):
                continue
            yield table

    def _files(self, key: str) -> list[Path]:
        return sorted(path for path in self._of(key).glob("*.parquet") if path.name[0] != ".")

    def _path(self, key: str, pairs: Sequence[bytes]) -> Path:
        return self._of(key) / f"{hashlib.sha256(b''.join(pairs)).hexdigest()[:32]}.parquet"

    def _of(self, key: str) -> Path:
        return self._folder / key[:2] / key


def _to_repeat(errors: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which pairs failed for a reason other than their images, ``[pairs]``."""
    failed = np.zeros(len(errors), dtype=bool)
    for row, column in zip(*np.nonzero(errors != ""), strict=True):
        failed[row] |= errors[row, column].startswith("failed:")
    return failed


def _column_of(table: NDArray[Any]) -> pa.Array:
    """Return ``[pairs, K]`` as a column of lists."""
    flat = table.reshape(-1)
    cells = pa.array(flat, pa.string() if flat.dtype == object else None)
    return pa.FixedSizeListArray.from_arrays(cells, table.shape[1])


def _table_in(column: pa.ChunkedArray) -> NDArray[Any]:
    """Return a column of lists as ``[pairs, K]``."""
    whole = column.combine_chunks()
    flat = whole.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat).reshape(len(whole), whole.type.list_size)


def key_of(facts: Mapping[str, Any]) -> str:
    """Return the key of a reading: the SHA-256 of the facts that determine it."""
    text = json.dumps(facts, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def pair_of(*images: str) -> bytes:
    """Return the digest of a pair, from the digests of its images."""
    return hashlib.sha256("\n".join(images).encode(errors="surrogateescape")).digest()
