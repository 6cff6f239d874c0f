"""Channel relevance of a network: from images and opinions to a metric, to a file and back."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from iqa_metrics import readouts
from iqa_metrics.backbones import Backbone
from iqa_metrics.channel_weights.fitting import Calibration, by_layer, calibrate, check_references
from iqa_metrics.compute.features import Reference
from iqa_metrics.datasets.opinions import DatasetError, OpinionDatabase, Problem
from iqa_metrics.io.atomic import written_at_once
from iqa_metrics.io.decoding import ImageError
from iqa_metrics.io.readahead import cores, read_ahead
from iqa_metrics.io.tables import Pair
from iqa_metrics.metrics.contract import exact_arithmetic
from iqa_metrics.metrics.deep import DeepDistance
from iqa_metrics.weights.checkpoints import digest_of
from iqa_metrics.weights.files import WeightsError, sha256_of

READOUT = "weighted_euclidean"
_FORMAT = "iqa-metrics channel weights, 1"

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Relevance:
    """A metric with weights learned from opinion, and how they came about.

    Attributes
    ----------
    metric
        The weighted Euclidean distance.
    calibration
        The weights and what they gained; None where it was read from a file.
    provenance
        What was measured on what: for the file, and for people.
    """

    metric: DeepDistance
    calibration: Calibration | None
    provenance: Mapping[str, Any]


def learn_relevance(
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
) -> Relevance:
    """Learn how much each channel of a network counts, from a database of opinions.

    Parameters
    ----------
    backbone, layers, trunk
        As for :class:`iqa_metrics.DeepDistance`.
    database
        The opinions; where higher is better they are turned around.
    device
        Where the network runs.
    folds, draws, seed
        As for :func:`iqa_metrics.channel_weights.fitting.calibrate`.
    workers
        Threads that decode images; by default one a core.
    progress
        Is told how many pairs were measured, and of how many.

    Raises
    ------
    DatasetError
        If an image can't be used; ``problems`` names each.
    WeightsError
        If the network's weights are missing or damaged.
    ValueError
        If a layer is unknown or there are fewer than 3 references.
    """
    from iqa_metrics import __version__
    from iqa_metrics.backbones import backbone as find

    record = find(backbone) if isinstance(backbone, str) else backbone
    names = record.in_order([layers] if isinstance(layers, str) else layers)
    channels = {name: record.layer(name).channels for name in names}

    def metric(weights: Mapping[str, Sequence[float]]) -> DeepDistance:
        return DeepDistance(record, names, READOUT, channel_weights=weights, trunk=trunk)

    references = _contents([pair.reference for pair in database.pairs])
    # Refused before hours of work, and not after.
    check_references(references, folds, draws)
    equal = metric({name: [1.0] * count for name, count in channels.items()}).to(device)
    squares = channel_squares(equal, database, workers=workers, progress=progress)
    sign = 1.0 if database.facts.higher_is == "worse" else -1.0
    opinion = sign * np.array([pair.opinion for pair in database.pairs])
    found = calibrate(squares, opinion, references, folds=folds, draws=draws, seed=seed)
    learned = metric(by_layer(found.weights, channels)).to(device)
    provenance = {
        "format": _FORMAT,
        "spec": learned.name,
        "backbone": record.name,
        "layers": list(names),
        "network": digest_of(equal.extractor.network),
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
    return Relevance(learned, found, provenance)


def channel_squares(
    metric: DeepDistance,
    database: OpinionDatabase,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float64]:
    """Return the squared differences of each channel, summed over positions, ``[pairs, C]``.

    Layers stand one after another, in the metric's order. A reference passes through the network
    once for all its pairs that follow each other.

    Raises
    ------
    DatasetError
        If an image can't be used; ``problems`` names each.
    """
    pairs = [Pair(str(pair.reference), str(pair.distorted)) for pair in database.pairs]
    rows: list[NDArray[np.float64]] = []
    problems: list[Problem] = []
    home = next(metric.extractor.parameters()).device
    kept: tuple[str, Reference] | None = None
    parts = read_ahead(pairs, workers=workers or cores(), background=None, pin=home.type == "cuda")
    with torch.inference_mode(), exact_arithmetic(home):
        for part in parts:
            for row in part.rows:
                if row.images is None:
                    problem = Problem("unreadable", row.problem)  # which names the file
                    problems += [problem] if problem not in problems else []
                    continue
                x, y = (image.to(home) for image in row.images)
                try:
                    metric.check_inputs(x, y)
                except ImageError as error:
                    problems.append(Problem("unreadable", row.pair.distorted, str(error)))
                    continue
                if kept is None or kept[0] != row.reference:
                    kept = row.reference, metric.remember(x)
                rows.append(_squares(metric, kept[1], y))
                if progress is not None:
                    progress(len(rows), len(pairs))
    if problems:
        raise DatasetError(f"images of {database.facts.title} can't be used", problems)
    return np.stack(rows)


def _squares(metric: DeepDistance, reference: Reference, distorted: Tensor) -> NDArray[np.float64]:
    found: list[Tensor] = []

    def read(_: str, x: Tensor, y: Tensor) -> None:
        found.append(readouts.channel_squares(x, y)[0])

    metric.extractor.visit_pair(reference, distorted, metric.layers, read)
    joined: NDArray[np.float64] = torch.cat(found).cpu().numpy()
    return joined


# Files --------------------------------------------------------------------------------------------


def save_relevance(relevance: Relevance, path: Path) -> None:
    """Write weights and provenance into a ``.safetensors`` file, in one step.

    Raises
    ------
    WeightsError
        If safetensors is not installed, or the file can't be written.
    """
    try:
        from safetensors.torch import save
    except ImportError as error:
        raise WeightsError(f"{path} needs safetensors: pip install safetensors") from error
    metric = relevance.metric
    weights = {name: metric.channel_weights.of(name).cpu() for name in metric.layers}
    metadata = {"provenance": json.dumps(dict(relevance.provenance), sort_keys=True)}
    try:
        with written_at_once(path) as file:
            file.write(save(weights, metadata))
    except OSError as error:
        raise WeightsError(f"{path} can't be written: {error.strerror}") from error


def read_relevance(
    path: str | Path, *, backbone: Backbone | None = None, trunk: nn.Module | None = None
) -> Relevance:
    """Make the metric that a file of weights describes.

    Parameters
    ----------
    path
        What :func:`save_relevance` wrote.
    backbone
        The record, where it is one of the caller's own; by default the one of the stored name.
    trunk
        The network, where it is the caller's own; by default the backbone's published weights.

    Raises
    ------
    WeightsError
        If the file can't be read or is no such file, or its weights were learned in a network of
        other values.
    """
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise WeightsError(f"{path} needs safetensors: pip install safetensors") from error
    try:
        with safe_open(str(path), framework="pt") as file:
            provenance = json.loads((file.metadata() or {}).get("provenance", "{}"))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, ValueError, SafetensorError) as error:
        raise WeightsError(f"{path} can't be read as channel weights: {error}") from error
    if not isinstance(provenance, dict) or provenance.get("format") != _FORMAT:
        raise WeightsError(f"{path} holds no channel weights: expected the format {_FORMAT!r}")
    try:
        metric = DeepDistance(
            backbone or provenance["backbone"],
            provenance["layers"],
            READOUT,
            channel_weights=weights,
            trunk=trunk,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} does not fit: {error}") from error
    if digest_of(metric.extractor.network) != provenance.get("network"):
        raise WeightsError(
            f"{path}: its weights were learned in a {provenance['backbone']} of other values"
        )
    return Relevance(metric, None, provenance)


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
