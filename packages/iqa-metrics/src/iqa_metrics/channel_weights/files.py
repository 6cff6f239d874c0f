"""Channel weights in files, with what they were learned from."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from iqa_metrics.backbones import Backbone
from iqa_metrics.channel_weights.learning import FORMAT, READOUT, ChannelWeights
from iqa_metrics.io.atomic import written_at_once
from iqa_metrics.metrics.deep import DeepDistance
from iqa_metrics.weights.checkpoints import digest_of
from iqa_metrics.weights.files import WeightsError


def save_channel_weights(learned: ChannelWeights, path: Path) -> None:
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
    weights = {name: values.cpu() for name, values in learned.metric.channel_weights.items()}
    metadata = {"provenance": json.dumps(dict(learned.provenance), sort_keys=True)}
    try:
        with written_at_once(path) as file:
            file.write(save(weights, metadata))
    except OSError as error:
        raise WeightsError(f"{path} can't be written: {error.strerror}") from error


def stored(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return what a file of channel weights holds.

    Returns
    -------
    tuple
        Names of layers to weights ``[C]``; and what they were learned from.

    Raises
    ------
    WeightsError
        If the file can't be read, or holds no channel weights.
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
    if not isinstance(provenance, dict) or provenance.get("format") != FORMAT:
        raise WeightsError(f"{path} holds no channel weights: expected the format {FORMAT!r}")
    return weights, provenance


def read_channel_weights(
    path: str | Path, *, backbone: Backbone | None = None, trunk: nn.Module | None = None
) -> ChannelWeights:
    """Make the metric that a file of channel weights describes.

    Parameters
    ----------
    path
        What :func:`save_channel_weights` wrote.
    backbone
        The record, if it is one of the caller's own; by default the one of the stored name.
    trunk
        The network, if it is the caller's own; by default the backbone's published weights.

    Raises
    ------
    WeightsError
        If the file can't be read or holds no channel weights, or these were learned in a network
        of other values.
    """
    weights, provenance = stored(path)
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
    return ChannelWeights(metric, None, provenance)
