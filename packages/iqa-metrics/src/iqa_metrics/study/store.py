"""Keep measurements on disk, each under a hash of everything that determines it.

A block holds one reading for a window of pairs. Its key is the SHA-256 of everything that
determines its values: the network, the images, the code and the settings. A run therefore finds a
block exactly if it would compute the same values, and outdated blocks need not be detected.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from iqa_metrics.io.atomic import written_at_once


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


def joined(blocks: Iterable[Block]) -> Block:
    """Concatenate blocks of the same reading along their pairs."""
    parts = list(blocks)
    return Block(
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.errors for part in parts]),
    )


class Store:
    """Blocks in a folder.

    Parameters
    ----------
    folder
        The folder. It is created when the first block is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def has(self, key: str) -> bool:
        """Return whether a complete block is stored under a key.

        A block does not count if one of its pairs failed for a reason other than its images, such
        as a lack of memory. The next run then tries again.
        """
        try:
            errors = _table_in(pq.read_table(self._path(key), columns=["errors"])["errors"])
        except (OSError, pa.ArrowException):
            return False
        return not any(error.startswith("failed:") for error in errors.reshape(-1) if error)

    def write(self, key: str, block: Block) -> None:
        """Store a block, atomically: a file that exists is complete."""
        table = pa.table({"values": _column_of(block.values), "errors": _column_of(block.errors)})
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_at_once(path) as file:
            pq.write_table(table, file, compression="zstd")

    def read(self, key: str) -> Block:
        """Return the block that is stored under a key."""
        table = pq.read_table(self._path(key), memory_map=False)
        return Block(_table_in(table["values"]), _table_in(table["errors"]))

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.parquet"


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
    """Return the key of a block: the SHA-256 of the facts that determine it."""
    text = json.dumps(facts, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
