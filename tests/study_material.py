"""A database, networks and plans that are small enough to run quickly."""

import csv
import json

import numpy as np
import torch
from PIL import Image
from torch import nn

from iqa_metrics import Backbone
from iqa_metrics.datasets import read_opinions
from iqa_metrics.study import Plan, Statistics, network
from iqa_metrics.study.store import Store

TABLES = (
    *("distances.parquet", "correlations.csv", "models.csv", "comparisons.csv", "claims.csv"),
    "winners.csv",
)

KINDS = ("noise", "dark", "blur")
PAIRS = 4 * len(KINDS) * 6
"""Of a small plan; two windows of them."""


def write_pairs(folder, references=4, levels=6, side=40, seed=0, higher_is="worse"):
    """Write images and ``pairs.csv`` with opinions that roughly follow the level."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for reference in range(references):
        small = random.random((5, 6, 3))
        image = np.asarray(
            Image.fromarray((small * 255).astype(np.uint8)).resize((side + 8, side)), dtype=float
        )
        Image.fromarray(image.astype(np.uint8)).save(folder / f"r{reference}.png")
        for kind in KINDS:
            for level in range(1, levels + 1):
                name = f"r{reference}_{kind}_{level}.png"
                Image.fromarray(_distorted(image, kind, level, random)).save(folder / name)
                opinion = 10 * level + random.normal(0, 4)
                opinion = opinion if higher_is == "worse" else 100 - opinion
                rows.append((f"r{reference}.png", name, f"{opinion:.3f}", kind, level))
    table = folder / "pairs.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("reference", "distorted", "opinion", "distortion", "level"))
        writer.writerows(rows)
    return table


def _distorted(image, kind, level, random):
    if kind == "noise":
        found = image + random.normal(0, 5 * level, image.shape)
    elif kind == "dark":
        found = image * (1 - 0.1 * level)
    else:
        found = image
        for _ in range(level):
            found = (found + np.roll(found, 1, 0) + np.roll(found, 1, 1)) / 3
    return np.clip(found, 0, 255).astype(np.uint8)


def small_network(name="mine", seed=0, **factors):
    """Return a network of a few convolutions as a backbone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = nn.Sequential(
            *(nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.Conv2d(6, 10, 3), nn.ReLU()),
            nn.MaxPool2d(2),
        )
    facts = {"goal": "classification", "data": "made up", **factors}
    names = {"relu1": "1", "relu2": "3", "pool": "4"}
    return Backbone.from_module(layers, names, name=name, **facts)


def small_plan(folder, **options):
    """Return a plan with a small database and two networks."""
    table = write_pairs(folder / "images")
    chosen = {
        "databases": {"small": read_opinions(table, "worse")},
        "networks": [network(small_network()), network(small_network("other", 1))],
        "readouts": ("euclidean", "channel_mean"),
        "baselines": ("psnr", "ssim"),
        "statistics": Statistics(draws=50),
        **options,
    }
    return Plan(**chosen)


def contents(folder):
    """Return the bytes of all tables, and the description less the way to the images."""
    described = json.loads((folder / "study.json").read_text())
    for one in described["databases"]:
        assert (folder / one.pop("folder")).is_dir()
    return {name: (folder / name).read_bytes() for name in TABLES} | {"study.json": described}


def written_by(monkeypatch):
    """Return a list that gets the pairs of each part that is written."""
    written, write = [], Store.write

    def spy(self, key, pairs, block):
        written.append(list(pairs))
        write(self, key, pairs, block)

    monkeypatch.setattr(Store, "write", spy)
    return written
