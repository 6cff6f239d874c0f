"""Distances over several layers, computed from the distances of the single layers.

They are computed when they are read, and not kept: see
:mod:`iqa_metrics.study.concatenated_values`.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from iqa_metrics.names import UnknownNameError
from iqa_metrics.readouts import Readout, readout, weighted_sum
from iqa_metrics.study.concatenated_values import LazyRows
from iqa_metrics.study.distances import Floats, Ints, Measured, Series

JOIN = "+"


def is_concatenated(series: Series) -> bool:
    """Return whether a series is a concatenation of several layers."""
    return ":" in series.readout


def concatenated(measured: Measured, kinds: Sequence[str]) -> Measured:
    """Return the measured series, followed by concatenations of layers.

    Parameters
    ----------
    measured
        The single layers.
    kinds
        ``cumulative:joint`` and ``cumulative:sum`` (the first two layers, the first three, and so
        on up to all of them), ``pairs:joint`` and ``pairs:sum`` (every two layers).

    Returns
    -------
    Measured
        In an added series, the layer is the names of its layers joined by ``+``, and the readout is
        written as in ``euclidean:joint``. Readouts that have no joint form only get sums. The
        values and elements of added series are computed whenever they are read.
    """
    known = set(measured.series)
    series = list(measured.series)
    made: list[_Concatenation] = []
    for chosen, rows in _of_readout(measured):
        sizes = _Sizes(measured, rows)
        for kind in kinds:
            which, how = kind.split(":")
            if how == "joint" and chosen.joint is None:
                continue
            for group in _groups(rows, which):
                if how == "joint" and not sizes.known(group):
                    continue
                members = [measured.series[row] for row in group]
                added = Series(
                    members[0].backbone,
                    JOIN.join(member.layer for member in members),
                    f"{chosen.name}:{how}",
                    members[-1].depth,
                )
                if added in known:  # the first two layers are both cumulative and a pair
                    continue
                known.add(added)
                series.append(added)
                made.append(_Concatenation(measured, chosen, how, group, sizes))
    values = LazyRows(measured.values, [one.values for one in made])
    elements = LazyRows(measured.elements, [one.elements for one in made])
    # Reading them is like reading arrays.
    return Measured(measured.pairs, tuple(series), cast("Floats", values), cast("Ints", elements))


class _Sizes:
    """The sizes of the feature maps of a backbone's layers, which may differ between images.

    Parameters
    ----------
    measured
        The single layers.
    rows
        The rows of the layers.
    """

    def __init__(self, measured: Measured, rows: Sequence[int]) -> None:
        self._measured = measured
        self._place = {row: place for place, row in enumerate(rows)}
        sizes = measured.elements[rows]
        # Images of the same size have feature maps of the same size.
        self._distinct, of_pair = np.unique(sizes, axis=1, return_inverse=True)
        self._of_pair = of_pair.reshape(-1)
        complete = (sizes > 0) | np.isnan(measured.values[rows])
        self._complete = np.asarray(complete.all(axis=1))

    def known(self, group: Sequence[int]) -> bool:
        """Return whether all sizes of some layers are known where all of these have a value."""
        if self._complete[[self._place[row] for row in group]].all():
            return True
        there = ~np.isnan(self._measured.values[group]).any(0)
        return bool(self._measured.elements[group][:, there].all())

    def of(self, group: Sequence[int]) -> Iterator[tuple[list[int], NDArray[np.bool_]]]:
        """Yield the sizes of some layers, and the pairs that have them."""
        for number, counts in enumerate(self._distinct[[self._place[row] for row in group]].T):
            yield counts.tolist(), self._of_pair == number


@dataclass(frozen=True)
class _Concatenation:
    """A series that is computed from those of its layers.

    Attributes
    ----------
    measured
        The single layers.
    readout
        Their readout.
    how
        ``joint`` or ``sum``.
    group
        The rows of the layers.
    sizes
        The sizes of the feature maps of the backbone.
    """

    measured: Measured
    readout: Readout
    how: str
    group: list[int]
    sizes: _Sizes

    def values(self) -> Floats:
        """Return the distance of each pair, ``[pairs]``."""
        values = self.measured.values[self.group]
        if self.how == "sum" or self.readout.joint is None:
            summed: Floats = weighted_sum(
                list(torch.from_numpy(values)), [1.0] * len(values)
            ).numpy()
            return summed
        found = np.full(values.shape[1], np.nan)
        for counts, pairs in self.sizes.of(self.group):
            if all(counts):
                parts = list(torch.from_numpy(values[:, pairs]))
                found[pairs] = self.readout.joint(parts, counts).numpy()
        return found

    def elements(self) -> Ints:
        """Return the number of elements of all layers together, ``[pairs]``."""
        found: Ints = self.measured.elements[self.group].sum(0)
        return found


def _of_readout(measured: Measured) -> Iterator[tuple[Readout, list[int]]]:
    """Yield each readout of each backbone, with the rows of its layers in order of depth."""
    groups: dict[tuple[str, str], list[int]] = {}
    for row, one in enumerate(measured.series):
        if one.layer and not is_concatenated(one):
            groups.setdefault((one.backbone, one.readout), []).append(row)
    for (_, name), rows in groups.items():
        try:
            chosen = readout(name)
        except UnknownNameError:  # the table was made elsewhere
            continue
        # Channel weights are learned separately for each layer, so their scales differ.
        if not chosen.weighted:
            yield chosen, sorted(rows, key=lambda row: measured.series[row].depth)


def _groups(rows: Sequence[int], which: str) -> Iterator[list[int]]:
    if which == "pairs":
        yield from (list(pair) for pair in itertools.combinations(rows, 2))
    else:
        yield from (list(rows[:count]) for count in range(2, len(rows) + 1))
