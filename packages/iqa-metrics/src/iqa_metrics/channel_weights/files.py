"""Save and read channel weights, with a description of what they were learned from."""

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

_FACTS = (
    "spec",
    "backbone",
    "layers",
    "network",
    "database",
    "pairs",
    "references",
    "held_out_gain",
    "held_out_gain_interval",
)
"""What a file must say of its weights' origin."""


def save_channel_weights(learned: ChannelWeights, path: Path) -> None:
    """Write weights and their provenance to a ``.safetensors`` file, atomically.

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
    """Return the contents of a file of channel weights.

    Returns
    -------
    tuple
        The weights ``[C]`` of each layer, by the layer's name; and their provenance.

    Raises
    ------
    WeightsError
        If the file can't be read, or has no channel weights.
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
        raise WeightsError(f"{path} has no channel weights: expected the format {FORMAT!r}")
    missing = [name for name in _FACTS if name not in provenance]
    if missing:
        raise WeightsError(f"{path} does not say its {', '.join(missing)}; learn the weights again")
    return weights, provenance


def read_channel_weights(
    path: str | Path, *, backbone: Backbone | None = None, trunk: nn.Module | None = None
) -> ChannelWeights:
    """Make the metric that a file of channel weights describes.

    Parameters
    ----------
    path
        A file that :func:`save_channel_weights` wrote.
    backbone
        The backbone, if it is your own; by default the one whose name is in the file.
    trunk
        Your own network that the weights were learned in; by default the backbone with its
        published weights.

    Raises
    ------
    WeightsError
        If the file can't be read or has no channel weights, or if these were learned in a network
        with other values.
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
            f"{path}: its channel weights were learned in a {provenance['backbone']} with other "
            "values; expected the same network, given as trunk if it is your own"
        )
    return ChannelWeights(metric, None, provenance)
