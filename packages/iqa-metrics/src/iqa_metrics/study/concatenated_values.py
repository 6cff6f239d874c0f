"""The values of many series, of which those of concatenations are computed when they are read.

A study of 46 backbones with 20 layers each has 20,000 concatenations. Their values on a database
would take gigabytes, and each is needed only while its correlations are computed.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[Any]


class LazyRows:
    """A table ``[series, pairs]`` whose last rows are computed whenever they are read.

    It is indexed like an array, and gives arrays: ``rows[3]``, ``rows[[3, 5]]`` or
    ``rows[np.ix_(series, pairs)]``. Reading few rows at a time keeps memory low;
    ``numpy.asarray(rows)`` holds all of them.

    Parameters
    ----------
    first
        The rows that are in memory, ``[S, pairs]``.
    made
        A function for each further row, which returns its ``[pairs]``.
    """

    def __init__(self, first: Numbers, made: Sequence[Callable[[], Numbers]]) -> None:
        self._first = first
        self._made = made

    @property
    def shape(self) -> tuple[int, int]:
        """The numbers of series and of pairs."""
        return len(self._first) + len(self._made), self._first.shape[1]

    @property
    def ndim(self) -> int:
        """The number of axes, 2."""
        return 2

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the numbers."""
        return self._first.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Numbers]:
        return (self._row(row) for row in range(len(self)))

    def __getitem__(self, key: Any) -> Any:
        """Return what an array with these rows would."""
        of_rows, *of_pairs = key if isinstance(key, tuple) else (key,)
        if of_rows is None or of_rows is Ellipsis or len(of_pairs) > 1:
            raise IndexError(f"expected the indices of rows and of pairs, got {key!r}")
        rows = np.arange(len(self))[of_rows]
        found = self._rows(rows.reshape(-1))
        if not of_pairs:
            return found.reshape(*rows.shape, self.shape[1])
        if isinstance(of_rows, slice):
            return found[:, of_pairs[0]]
        places = np.arange(rows.size).reshape(rows.shape)
        return found[places if rows.ndim else 0, of_pairs[0]]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Numbers:
        return self._rows(np.arange(len(self))).astype(dtype or self.dtype, copy=False)

    def _rows(self, rows: NDArray[np.intp]) -> Numbers:
        found = np.empty((len(rows), self.shape[1]), self.dtype)
        for at, row in enumerate(rows.tolist()):
            found[at] = self._row(row)
        return found

    def _row(self, row: int) -> Numbers:
        held = len(self._first)
        return self._first[row] if row < held else self._made[row - held]()
