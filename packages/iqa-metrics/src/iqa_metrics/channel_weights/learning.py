"""Learn the channel weights of a backbone from a database of human ratings."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from iqa_metrics.backbones import Backbone
from iqa_metrics.channel_weights.held_out import (
    LearnedWeights,
    by_layer,
    check_references,
    learn_weights,
)
from iqa_metrics.datasets.opinions import DatasetError, OpinionDatabase, Problem
from iqa_metrics.io.readahead import cores, read_ahead
from iqa_metrics.io.tables import Pair
from iqa_metrics.metrics import Column, DeepDistance, LayerTable
from iqa_metrics.readouts import CHANNEL_SQUARES
from iqa_metrics.scoring.batches import BatchScorer
from iqa_metrics.weights.checkpoints import digest_of
from iqa_metrics.weights.files import sha256_of

READOUT = "weighted_euclidean"
FORMAT = "iqa-metrics channel weights, 1"

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ChannelWeights:
    """A metric with learned channel weights, and their provenance.

    Attributes
    ----------
    metric
        The weighted Euclidean distance.
    learned
        The weights and their results on unseen references; None if they were read from a file.
    provenance
        What the weights were learned from, and how much they gain; it is saved with them.
    """

    metric: DeepDistance
    learned: LearnedWeights | None
    provenance: Mapping[str, Any]


def learn_channel_weights(
    backbone: Backbone | str,
    layers: str | Sequence[str],
    database: OpinionDatabase,
    *,
    trunk: nn.Module | None = None,
    device: str | torch.device = "cpu",
    folds: int = 5,
    draws: int = 1000,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress | None = None,
) -> ChannelWeights:
    """Learn a weight for each channel of a backbone from a database of human ratings.

    Parameters
    ----------
    backbone, layers, trunk
        As for :class:`iqa_metrics.DeepDistance`.
    database
        The database. Opinion scores of which higher is better are negated.
    device
        The device to compute on.
    folds, draws, seed
        As for :func:`iqa_metrics.channel_weights.learn_weights`.
    workers
        Number of threads that decode images; by default one for each CPU core.
    progress
        Called with the number of pairs that have been measured, and the total.

    Raises
    ------
    DatasetError
        If images can't be used; ``problems`` names each of them.
    WeightsError
        If the backbone's weights are missing or damaged.
    ValueError
        If a layer is unknown, or if there are fewer than 3 references.
    """
    from iqa_metrics import __version__
    from iqa_metrics.backbones import backbone as find

    record = find(backbone) if isinstance(backbone, str) else backbone
    names = record.in_order([layers] if isinstance(layers, str) else layers)
    references = _contents([pair.reference for pair in database.pairs])
    # Fail before hours of work, not after.
    check_references(references, folds, draws)
    table = LayerTable(record, [Column(name, CHANNEL_SQUARES) for name in names], trunk=trunk)
    squares = channel_squares(table.to(device), database, workers=workers, progress=progress)
    sign = 1.0 if database.facts.higher_is == "worse" else -1.0
    opinion = sign * np.array([pair.opinion for pair in database.pairs])
    found = learn_weights(squares, opinion, references, folds=folds, draws=draws, seed=seed)
    channels = {name: record.layer(name).channels for name in names}
    weights = by_layer(found.weights, channels)
    metric = DeepDistance(record, names, READOUT, channel_weights=weights, trunk=trunk)
    provenance = {
        "format": FORMAT,
        "spec": metric.name,
        "backbone": record.name,
        "layers": list(names),
        "network": digest_of(table.extractor.network),
        "database": database.facts.title,
        "higher_is": database.facts.higher_is,
        "pairs": len(database.pairs),
        "references": len(set(references)),
        "opinions": _digest_of_opinions(database),
        "strength": found.strength,
        "folds": len(found.strengths),
        "seed": seed,
        "held_out_gain": float(found.gain.value),
        "held_out_gain_interval": [float(found.gain.low), float(found.gain.high)],
        "iqa_metrics": __version__,
    }
    return ChannelWeights(metric.to(device), found, provenance)


def channel_squares(
    table: LayerTable,
    database: OpinionDatabase,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float64]:
    """Return the squared difference of each channel, summed over positions, ``[pairs, C]``.

    Parameters
    ----------
    table
        A table with a column of :data:`iqa_metrics.readouts.CHANNEL_SQUARES` for each layer. The
        channels of its layers follow one another in the result.
    database, workers, progress
        As for :func:`learn_channel_weights`. Consecutive pairs with the same reference share its
        pass through the network.

    Raises
    ------
    DatasetError
        If images can't be used; ``problems`` names each of them.
    """
    pairs = [Pair(str(pair.reference), str(pair.distorted)) for pair in database.pairs]
    found: list[NDArray[np.float64]] = []
    problems: dict[Problem, None] = {}
    on_gpu = any(tensor.is_cuda for tensor in table.held())
    parts = read_ahead(pairs, workers=workers or cores(), background=None, pin=on_gpu)
    with closing(BatchScorer({table.name: table})) as scorer, closing(parts):
        for part in parts:
            for row, [(values, error)] in zip(part.rows, scorer.outcomes(part), strict=True):
                if row.images is None:
                    problems[Problem("unreadable", error)] = None  # the error names the file
                elif error.startswith("failed:"):  # of the device or the network, not of the image
                    raise RuntimeError(f"{row.pair.distorted}: {error}")
                elif error:
                    problems[Problem("unreadable", row.pair.distorted, error)] = None
                else:
                    found.append(np.asarray(values, dtype=np.float64))
                    if progress is not None:
                        progress(len(found), len(pairs))
    if problems:
        raise DatasetError(f"images of {database.facts.title} can't be used", problems)
    return np.stack(found)


def _contents(files: Sequence[Path]) -> list[str]:
    """Return the SHA-256 of each image, so that identical references count as one."""
    known: dict[Path, str] = {}
    for file in files:
        if file not in known:
            try:
                known[file] = sha256_of(file)
            except OSError:  # it will be reported as unreadable when it is decoded
                known[file] = str(file)
    return [known[file] for file in files]


def _digest_of_opinions(database: OpinionDatabase) -> str:
    """Return a SHA-256 of the images' names and opinion scores, whatever folder they are in."""
    rows: Iterable[str] = (
        f"{pair.reference.name}\t{pair.distorted.name}\t{pair.opinion!r}\n"
        for pair in database.pairs
    )
    return hashlib.sha256("".join(rows).encode()).hexdigest()
