"""Measure every block of EfficientNet-Lite0 against human ratings, and choose the default.

Usage: choose_default.py PAIRS.csv, with columns reference, distorted and dmos (higher is worse).
It prints the tables of docs/default_metric.md.

The choice is cross-validated over references: each reference in turn is held out, the block with
the highest SROCC over the pairs of the others is chosen, and its SROCC on the held-out pairs is
reported. The default is the block whose SROCC over the training pairs is highest on average.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

from iqa_metrics import PSNR, SSIM, FeatureExtractor, PairTable, backbone, read_image
from iqa_metrics.readouts import rmse


def main(path: Path) -> None:
    record = backbone("efficientnet_lite0")
    names = [layer.name for layer in record.layers]
    extractor = FeatureExtractor(
        record.network(), {layer.name: layer.module for layer in record.layers}, record.scaling
    )
    psnr, ssim = PSNR(), SSIM()
    pairs = list(PairTable.open(path))
    dmos = np.array([float(pair.carried["dmos"]) for pair in pairs])
    references = np.array([pair.reference for pair in pairs])
    rows = []
    with torch.inference_mode():
        for pair in pairs:
            images = [read_image(pair.folder / p) for p in (pair.reference, pair.distorted)]
            row: dict[str, float] = {}

            def read(name: str, response: torch.Tensor, row: dict[str, float] = row) -> None:
                row[name] = float(rmse(response[:1], response[1:]))

            extractor.visit(torch.cat(images), names, read)
            rows.append(
                [*(row[name] for name in names), -float(psnr(*images)), -float(ssim(*images))]
            )
    distances = np.array(rows)
    report([*names, "psnr", "ssim"], len(names), distances, dmos, references)


def report(
    names: list[str], layers: int, distances: np.ndarray, dmos: np.ndarray, references: np.ndarray
) -> None:
    def srocc(rows: np.ndarray, column: int) -> float:
        return float(spearmanr(distances[rows, column], dmos[rows])[0])

    held_out = [references == name for name in np.unique(references)]
    training = np.array([[srocc(~rows, c) for rows in held_out] for c in range(len(names))])
    print("| layer | SROCC, all pairs | within a reference, mean | training folds, mean |")
    print("|---|---|---|---|")
    for column, name in enumerate(names):
        within = np.mean([srocc(rows, column) for rows in held_out])
        overall = srocc(np.ones(len(dmos), bool), column)
        print(f"| {name} | {overall:.4f} | {within:.4f} | {training[column].mean():.4f} |")
    print("\n| held-out reference | chosen on the others | its SROCC there |")
    print("|---|---|---|")
    for fold, rows in enumerate(held_out):
        best = int(training[:layers, fold].argmax())
        print(f"| {Path(references[rows][0]).stem} | {names[best]} | {srocc(rows, best):.4f} |")
    print(f"\nDefault: {names[int(training[:layers].mean(axis=1).argmax())]}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
