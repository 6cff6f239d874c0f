"""Distances over several layers, computed from the distances of the single layers."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from iqa_metrics.names import UnknownNameError
from iqa_metrics.readouts import Readout, readout, weighted_sum
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
        written as in ``euclidean:joint``. Readouts that have no joint form only get sums.
    """
    known = set(measured.series)
    series, values, elements = list(measured.series), [measured.values], [measured.elements]
    for chosen, rows in _of_readout(measured):
        for kind in kinds:
            which, how = kind.split(":")
            if how == "joint" and chosen.joint is None:
                continue
            for group in _groups(rows, which):
                found = _together(chosen, how, measured.values[group], measured.elements[group])
                if found is None:
                    continue
                members = [measured.series[row] for row in group]
                made = Series(
                    members[0].backbone,
                    JOIN.join(member.layer for member in members),
                    f"{chosen.name}:{how}",
                    members[-1].depth,
                )
                if made in known:  # the first two layers are both cumulative and a pair
                    continue
                known.add(made)
                series.append(made)
                values.append(found[None])
                elements.append(measured.elements[group].sum(0, keepdims=True))
    return Measured(measured.pairs, tuple(series), np.concatenate(values), np.concatenate(elements))


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


def _together(chosen: Readout, how: str, values: Floats, elements: Ints) -> Floats | None:
    """Return one value per pair from ``[layers, pairs]``, or None if a layer's size is unknown."""
    if how == "sum":
        return weighted_sum(list(torch.from_numpy(values)), [1.0] * len(values)).numpy()
    if chosen.joint is None or not elements[:, ~np.isnan(values).any(0)].all():
        return None
    found = np.full(values.shape[1], np.nan)
    # Images of the same size have feature maps of the same size.
    sizes, of_pair = np.unique(elements, axis=1, return_inverse=True)
    for number, counts in enumerate(sizes.T):
        chosen_pairs = of_pair.reshape(-1) == number
        parts = list(torch.from_numpy(values[:, chosen_pairs]))
        if counts.all():
            found[chosen_pairs] = chosen.joint(parts, counts.tolist()).numpy()
    return found
