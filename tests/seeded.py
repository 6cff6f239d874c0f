"""Networks with the same random weights on every machine, where real ones are not available."""

import copy
from functools import cache

import numpy as np
import torch
from safetensors.torch import save_file

from iqa_metrics import backbone


def trunk(name):
    """Return the trunk of a backbone without batch normalisation, with weights from seed 0."""
    return copy.deepcopy(_drawn(name))


@cache
def _drawn(name):
    record = backbone(name)
    with torch.device("meta"):
        network = record.trunk(record.build())
    network = network.to_empty(device="cpu").eval().requires_grad_(False)
    stream = np.random.RandomState(0)  # the one stream that numpy promises never to change
    for key, parameter in network.named_parameters():
        values = stream.standard_normal(parameter.shape)
        if key.endswith("gamma"):  # divisive normalisation takes no negative ones
            values = 0.1 * np.abs(values)
        elif key.endswith("beta"):
            values = 1 + np.abs(values)
        elif parameter.ndim > 1:  # as strong on leaving a layer as on entering it
            values *= np.sqrt(2 / parameter[0].numel())
        else:
            values *= 0.1
        parameter.copy_(torch.from_numpy(values))
    return network


def save_trunk(name, folder):
    """Write such a trunk as a weights file for metrics, and return its path."""
    path = folder / f"{name}.safetensors"
    save_file(trunk(name).state_dict(), path)
    return path
