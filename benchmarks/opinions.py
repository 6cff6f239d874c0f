"""How bfloat16 changes the agreement with human ratings, with pretrained networks.

Networks and image pairs come from ../shared, beside the repository, if it exists.
"""

import csv
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from scipy.stats import spearmanr

from benchmarks import REPOSITORY, photographs
from benchmarks.peers import bare
from iqa_metrics import LPIPS, create_metric
from iqa_metrics.metrics.contract import Metric

SHARED = REPOSITORY.parent / "shared"
LIVE, WEIGHTS = SHARED / "data" / "live", SHARED / "weights"


def measure(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return SROCC in float32 and bfloat16 and the largest change of a value, for each metric."""
    missing = [os.path.relpath(p, REPOSITORY) for p in (LIVE, WEIGHTS) if not p.is_dir()]
    if missing:
        return {"absent": {"opinions": f"{', '.join(missing)} is not beside this checkout"}}
    os.environ["IQA_WEIGHTS"] = str(WEIGHTS)
    with (LIVE / "pairs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    opinions = [float(row["dmos"]) for row in rows]
    found = {}
    for name, (make, shrink) in _METRICS.items():
        try:
            wide, low = (
                _values(make().configure(precision=precision), rows, shrink)
                for precision in ("float32", "bfloat16")
            )
        except FileNotFoundError as error:
            found[name] = {"absent": str(error)}
            continue
        correlations = [float(spearmanr(values, opinions)[0]) for values in (wide, low)]
        found[name] = {
            "srocc_float32": correlations[0],
            "srocc_bfloat16": correlations[1],
            "difference": abs(correlations[1] - correlations[0]),
            "deviation": float(np.max(np.abs(low / wide - 1))),
        }
    return {"metrics": found, "pairs": len(rows)}


def _edges(calibrated: bool) -> Metric:
    """LPIPS with a VGG-16 that was fine-tuned to find edges, the only trained one available."""
    network = bare("vgg")
    state = load_file(WEIGHTS / "vgg16-hed-edges.safetensors")
    network.load_state_dict(
        {key.removeprefix("features."): value.float() for key, value in state.items()}
    )
    return LPIPS("vgg", trunk=network, calibrated=calibrated)


# The metrics, and the factor by which images are shrunk first; VGG-16 would take minutes otherwise.
_METRICS = {
    "default": (lambda: create_metric("default"), 1),
    "mobilenet_v2:block7:euclidean": (lambda: create_metric("mobilenet_v2:block7:euclidean"), 1),
    "LPIPS vgg (edge network, half size)": (lambda: _edges(True), 2),
    "LPIPS vgg uncalibrated (edge network, half size)": (lambda: _edges(False), 2),
}


def _values(metric: Metric, rows: list[dict[str, str]], shrink: int) -> np.ndarray:
    values: dict[int, float] = {}
    for reference in dict.fromkeys(row["reference"] for row in rows):
        numbers = [n for n, row in enumerate(rows) if row["reference"] == reference]
        x = _image(reference, shrink)
        with torch.inference_mode(), metric.reference(x) as shared:
            for number in numbers:
                values[number] = float(shared.score(_image(rows[number]["distorted"], shrink)))
    return np.array([values[number] for number in range(len(rows))])


def _image(path: str, shrink: int) -> torch.Tensor:
    with Image.open(LIVE / path) as file:
        picture = file.convert("RGB")
    return photographs.batch([picture.reduce(shrink) if shrink > 1 else picture])
