"""Channel weights of a backbone, learned from images and opinion."""

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
    """A metric with channel weights learned from opinion, and where they come from.

    Attributes
    ----------
    metric
        The weighted Euclidean distance.
    learned
        The weights and what they gained; None if they were read from a file.
    provenance
        What was measured on what, for the file and its readers.
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
    """Learn how much each channel of a backbone counts, from a database of opinions.

    Parameters
    ----------
    backbone, layers, trunk
        As for :class:`iqa_metrics.DeepDistance`.
    database
        The opinions. Where higher is better, their sign is turned.
    device
        Where the network runs.
    folds, draws, seed
        As for :func:`iqa_metrics.channel_weights.learn_weights`.
    workers
        Threads that decode images; by default one per core.
    progress
        Called with how many pairs were measured, and of how many.

    Raises
    ------
    DatasetError
        If an image can't be used; ``problems`` names each.
    WeightsError
        If the backbone's weights are missing or damaged.
    ValueError
        If a layer is unknown or there are fewer than 3 references.
    """
    from iqa_metrics import __version__
    from iqa_metrics.backbones import backbone as find

    record = find(backbone) if isinstance(backbone, str) else backbone
    names = record.in_order([layers] if isinstance(layers, str) else layers)
    references = _contents([pair.reference for pair in database.pairs])
    # Refused before hours of work, and not after.
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
    """Return the squared differences of each channel, summed over positions, ``[pairs, C]``.

    Parameters
    ----------
    table
        A column of :data:`iqa_metrics.readouts.CHANNEL_SQUARES` for each layer; layers stand one
        after another. A reference passes through the network once for all of its pairs that follow
        each other.
    database, workers, progress
        As for :func:`learn_channel_weights`.

    Raises
    ------
    DatasetError
        If an image can't be used; ``problems`` names each.
    """
    pairs = [Pair(str(pair.reference), str(pair.distorted)) for pair in database.pairs]
    found: list[list[float]] = []
    problems: dict[Problem, None] = {}
    on_gpu = any(parameter.is_cuda for parameter in table.parameters())
    parts = read_ahead(pairs, workers=workers or cores(), background=None, pin=on_gpu)
    with closing(BatchScorer({table.name: table})) as scorer, closing(parts):
        for part in parts:
            for row, [(values, error)] in zip(part.rows, scorer.outcomes(part), strict=True):
                if row.images is None:
                    problems[Problem("unreadable", error)] = None  # which names the file
                elif error:
                    problems[Problem("unreadable", row.pair.distorted, error)] = None
                else:
                    found.append(values)
                    if progress is not None:
                        progress(len(found), len(pairs))
    if problems:
        raise DatasetError(f"images of {database.facts.title} can't be used", problems)
    return np.array(found, dtype=np.float64)


def _contents(files: Sequence[Path]) -> list[str]:
    """Name images by their content: one photograph under two names is one reference."""
    known: dict[Path, str] = {}
    for file in files:
        if file not in known:
            try:
                known[file] = sha256_of(file)
            except OSError:  # it will be named among the unreadable ones
                known[file] = str(file)
    return [known[file] for file in files]


def _digest_of_opinions(database: OpinionDatabase) -> str:
    """Return a SHA-256 of which images were judged how, wherever they lie."""
    rows: Iterable[str] = (
        f"{pair.reference.name}\t{pair.distorted.name}\t{pair.opinion!r}\n"
        for pair in database.pairs
    )
    return hashlib.sha256("".join(rows).encode()).hexdigest()
