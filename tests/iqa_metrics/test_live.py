"""The default metric against human ratings: image pairs of the LIVE database."""

import csv

import numpy as np
import pytest
from scipy.stats import spearmanr
from typer.testing import CliRunner

from iqa_metrics.cli import app


@pytest.mark.slow
def test_the_default_metric_agrees_with_people(live, tmp_path):
    out = tmp_path / "scores.csv"
    metrics = ["default", "ssim", "psnr"]
    arguments = ["score", "--pairs", str(live / "pairs.csv"), "--out", str(out)]
    for metric in metrics:
        arguments += ["--metric", metric]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    srocc = {}
    for metric in metrics:
        chosen = [row for row in rows if row["metric"] == metric]
        values, dmos = (np.array([float(r[c]) for r in chosen]) for c in ("value", "dmos"))
        assert len(chosen) == 76
        srocc[metric] = spearmanr(values, dmos)[0]
    # docs/default_metric.md states these figures.
    assert srocc["default"] == pytest.approx(0.9534, abs=5e-4)
    assert srocc["psnr"] == pytest.approx(-0.8988, abs=5e-4)
    assert srocc["ssim"] == pytest.approx(-0.8478, abs=5e-4)
