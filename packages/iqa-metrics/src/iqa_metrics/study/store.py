"""What was measured, kept on disk under the content of what made it.

A block holds one reading of all layers for a window of pairs. Its name is the SHA-256 of everything
that decides its values: the network's, the images', the code's and the settings'. So a block is
found again by whoever would compute the same, and by nobody else; nothing has to be told stale.
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
    """One reading of some pairs.

    Attributes
    ----------
    values
        Float64 ``[pairs, K]``; NaN where a pair failed.
    errors
        Why it failed, ``[pairs, K]``, or ``[pairs, 1]`` where all columns are of one layer; empty
        texts where it did not.
    """

    values: NDArray[np.float64]
    errors: NDArray[np.str_]

    def failed(self) -> NDArray[np.bool_]:
        """Return which values failed, ``[pairs, K]``."""
        return np.broadcast_to(self.errors != "", self.values.shape)


def joined(blocks: Iterable[Block]) -> Block:
    """Lay blocks of the same reading one below the other."""
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
        Where they lie; it is made when the first one comes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def has(self, key: str) -> bool:
        """Return whether the block is there and whole.

        One with a pair that failed for want of memory, say, and not by what its images are, does
        not count: the next run tries again.
        """
        try:
            errors = _table_in(pq.read_table(self._path(key), columns=["errors"])["errors"])
        except (OSError, pa.ArrowException):
            return False
        return not np.char.startswith(errors.astype(str), "failed:").any()

    def write(self, key: str, block: Block) -> None:
        """Keep a block: at once, so that a file that is there is whole."""
        table = pa.table({"values": _column_of(block.values), "errors": _column_of(block.errors)})
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_at_once(path) as file:
            pq.write_table(table, file, compression="zstd")

    def read(self, key: str) -> Block:
        """Return a block that is there."""
        table = pq.read_table(self._path(key), memory_map=False)
        return Block(_table_in(table["values"]), _table_in(table["errors"]).astype(str))

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.parquet"


def _column_of(table: NDArray[Any]) -> pa.Array:
    """Return ``[pairs, K]`` as a column of lists."""
    flat = table.reshape(-1)
    cells = pa.array(flat.tolist() if flat.dtype.kind == "U" else flat)
    return pa.FixedSizeListArray.from_arrays(cells, table.shape[1])


def _table_in(column: pa.ChunkedArray) -> NDArray[Any]:
    """Return a column of lists as ``[pairs, K]``."""
    whole = column.combine_chunks()
    flat = whole.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat).reshape(len(whole), whole.type.list_size)


def key_of(facts: Mapping[str, Any]) -> str:
    """Return the name of a block: the SHA-256 of the facts that decide it."""
    text = json.dumps(facts, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
