"""Which pairs have a value in each of many series.

Nearly all series have values for the same pairs, so each distinct mask is kept only once.
"""

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from iqa_metrics.study.distances import Floats

Mask = NDArray[np.bool_]
_AT_ONCE = 2**19
"""Most values that are looked at in one go."""


class Presence:
    """A table of masks, ``[series, pairs]``.

    Parameters
    ----------
    masks
        The distinct masks, ``[M, pairs]``.
    index
        The mask of each series, ``[series]``.
    """

    def __init__(self, masks: Mask, index: NDArray[np.intp]) -> None:
        self._masks = masks
        self._index = index

    @classmethod
    def of(cls, values: Floats, pairs: Mask) -> "Presence":
        """Return where values ``[series, n]`` are no NaN, among some of the pairs, ``[n]``."""
        known: dict[bytes, int] = {}
        index = np.empty(len(values), np.intp)
        step = max(1, _AT_ONCE // max(1, len(pairs)))
        for first in range(0, len(values), step):
            there = ~np.isnan(values[first : first + step]) & pairs
            for at, mask in enumerate(there):
                index[first + at] = known.setdefault(mask.tobytes(), len(known))
        masks = [np.frombuffer(mask, dtype=bool) for mask in known]
        return cls(np.stack(masks) if masks else np.empty((0, len(pairs)), bool), index)

    @property
    def shape(self) -> tuple[int, int]:
        """The numbers of series and of pairs."""
        return len(self._index), self._masks.shape[1]

    def __len__(self) -> int:
        return len(self._index)

    @overload
    def __getitem__(self, rows: int) -> Mask: ...
    @overload
    def __getitem__(self, rows: Sequence[int] | NDArray[np.intp] | Mask | slice) -> "Presence": ...
    def __getitem__(self, rows: Any) -> "Mask | Presence":
        """Return the mask of a series, or the table of several series."""
        chosen = self._index[rows]
        return self._masks[chosen] if np.ndim(chosen) == 0 else Presence(self._masks, chosen)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self._masks[self._index].astype(dtype or bool, copy=False)

    def all(self, axis: int = 0) -> Mask:
        """Return which pairs have a value in all series, or which series have all pairs."""
        if axis == 0:
            return np.asarray(self._masks[np.unique(self._index)].all(axis=0))
        return np.asarray(self._masks.all(axis=1))[self._index]

    def mean(self, axis: int = 1) -> Floats:
        """Return the share of pairs that each series has, or of series that have each pair."""
        if axis == 1:
            return np.asarray(self._masks.mean(axis=1)[self._index])
        counts = np.bincount(self._index, minlength=len(self._masks))
        return np.asarray(counts @ self._masks / max(1, len(self._index)))
