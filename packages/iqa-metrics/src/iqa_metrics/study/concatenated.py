"""Several layers as one, out of what each of them was measured to be."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from iqa_metrics.names import UnknownNameError
from iqa_metrics.readouts import Readout, readout, weighted_sum
from iqa_metrics.study.distances import Floats, Ints, Measured, Series

JOIN = "+"


def is_concatenated(series: Series) -> bool:
    """Return whether a series is of several layers."""
    return ":" in series.readout


def concatenated(measured: Measured, kinds: Sequence[str]) -> Measured:
    """Return what was measured and, behind it, concatenations of layers.

    Parameters
    ----------
    measured
        Single layers, those of a network in order of their depth.
    kinds
        ``cumulative:joint`` and ``cumulative:sum`` (the first two layers, the first three, to all),
        ``pairs:joint`` and ``pairs:sum`` (every two).

    Returns
    -------
    Measured
        The layers of an added series are joined by ``+``, and its readout is such as
        ``euclidean:joint``. Readouts that can't be joined have sums alone.
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
                if made in known:  # the first two layers are the first of either kind
                    continue
                known.add(made)
                series.append(made)
                values.append(found[None])
                elements.append(measured.elements[group].sum(0, keepdims=True))
    return Measured(measured.pairs, tuple(series), np.concatenate(values), np.concatenate(elements))


def _of_readout(measured: Measured) -> Iterator[tuple[Readout, list[int]]]:
    """Yield each readout of each network, with the rows of its layers in order of depth."""
    groups: dict[tuple[str, str], list[int]] = {}
    for row, one in enumerate(measured.series):
        if one.layer and not is_concatenated(one):
            groups.setdefault((one.backbone, one.readout), []).append(row)
    for (_, name), rows in groups.items():
        try:
            chosen = readout(name)
        except UnknownNameError:  # of a table that was made elsewhere
            continue
        # Weights of each layer were learned by themselves, and have scales of their own.
        if not chosen.weighted:
            yield chosen, sorted(rows, key=lambda row: measured.series[row].depth)


def _groups(rows: Sequence[int], which: str) -> Iterator[list[int]]:
    if which == "pairs":
        yield from (list(pair) for pair in itertools.combinations(rows, 2))
    else:
        yield from (list(rows[:count]) for count in range(2, len(rows) + 1))


def _together(chosen: Readout, how: str, values: Floats, elements: Ints) -> Floats | None:
    """Return the values of layers ``[L, pairs]`` as one, or None where sizes are not known."""
    if how == "sum":
        return weighted_sum(list(torch.from_numpy(values)), [1.0] * len(values)).numpy()
    if chosen.joint is None or not elements[:, ~np.isnan(values).any(0)].all():
        return None
    found = np.full(values.shape[1], np.nan)
    # Images of one size have responses of one size.
    sizes, of_pair = np.unique(elements, axis=1, return_inverse=True)
    for number, counts in enumerate(sizes.T):
        chosen_pairs = of_pair.reshape(-1) == number
        parts = list(torch.from_numpy(values[:, chosen_pairs]))
        if counts.all():
            found[chosen_pairs] = chosen.joint(parts, counts.tolist()).numpy()
    return found
