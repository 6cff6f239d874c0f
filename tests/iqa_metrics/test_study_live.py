"""A study of pretrained networks on rated image pairs, against plain computations."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import kendalltau, pearsonr, spearmanr
from torchvision.models import mobilenet_v2
from typer.testing import CliRunner

from iqa_metrics import read_image
from iqa_metrics.cli import app

pytestmark = pytest.mark.slow

CROP = 288

RECORD = """name = "vgg16.hed"
network = "vgg16"
goal = "edge detection"
data = "BSDS500"
start = "ImageNet-1k"
[weights]
file = "{folder}/vgg16-hed-edges.safetensors"
[scaling]
order = "BGR"
peak = 255
mean = [104.00699, 116.66877, 122.67892]
std = [1, 1, 1]
"""


@pytest.fixture(scope="module")
def rows(live, real_weights, tmp_path_factory):
    """The correlations of a study of every fourth pair's middle, from the command line."""
    folder = tmp_path_factory.mktemp("live")
    with (live / "pairs.csv").open(newline="") as file:
        pairs = list(csv.DictReader(file))[::4]
    for number, pair in enumerate(pairs):
        for key in ("reference", "distorted"):
            with Image.open(live / pair[key]) as image:
                left, top = ((side - CROP) // 2 for side in image.size)
                part = image.crop((left, top, left + CROP, top + CROP))
            pair[key] = str(folder / f"{number}_{key}.png")
            part.save(pair[key])
    with (folder / "pairs.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(pairs[0]))
        writer.writeheader()
        writer.writerows(pairs)
    (folder / "hed.toml").write_text(RECORD.format(folder=real_weights))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IQA_WEIGHTS", str(real_weights))
        done = CliRunner().invoke(
            app,
            [
                *("study", "run", "--pairs", str(folder / "pairs.csv"), "--opinion", "dmos"),
                *("--higher-is", "worse", "--backbone", "mobilenet_v2", "--layers", "all"),
                *("--record", str(folder / "hed.toml"), "--out", str(folder / "out")),
                *("--draws", "100"),
            ],
        )
    assert done.exit_code == 0, done.output
    assert (folder / "out" / "report.html").stat().st_size > 100_000
    with (folder / "out" / "correlations.csv").open(newline="") as file:
        found = [row for row in csv.DictReader(file) if not row["distortion"]]
    return pairs, {(row["backbone"], row["layer"]): row for row in found}


def images(pairs):
    for pair in pairs:
        yield torch.cat([read_image(pair["reference"]), read_image(pair["distorted"])])


def check(row, distances, opinion):
    assert float(row["srocc"]) == pytest.approx(spearmanr(distances, opinion)[0], abs=1e-6)
    assert float(row["plcc"]) == pytest.approx(pearsonr(distances, opinion)[0], abs=1e-6)
    assert float(row["krocc"]) == pytest.approx(kendalltau(distances, opinion)[0], abs=1e-6)


def test_every_layer_of_mobilenet_agrees_with_plain_hooks(rows, real_weights):
    pairs, found = rows
    network = mobilenet_v2()
    state = torch.load(real_weights / "mobilenet_v2-b0353104.pth", weights_only=True)
    network.load_state_dict(state)
    trunk = network.eval().features
    named = dict(trunk.named_modules())
    layers = [layer for backbone, layer in found if backbone == "mobilenet_v2"]
    assert len(layers) > 100
    distances = {layer: [] for layer in layers}
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )

    def hook(layer):
        def measured(module, inputs, output):
            x, y = output.double()
            distances[layer].append(float((x - y).square().sum().sqrt()))

        return measured

    for layer in layers:
        named[layer].register_forward_hook(hook(layer))
    with torch.no_grad():
        for both in images(pairs):
            trunk((both - mean) / std)
    opinion = [float(pair["dmos"]) for pair in pairs]
    for layer in layers:
        check(found["mobilenet_v2", layer], distances[layer], opinion)


def test_every_layer_of_the_edge_network_agrees_with_single_metrics(rows, edge_network):
    pairs, found = rows
    count = sum(backbone == "vgg16.hed" for backbone, _ in found)
    mean = torch.tensor([104.00699, 116.66877, 122.67892]).view(3, 1, 1)
    distances = [[] for _ in edge_network]
    with torch.no_grad():
        for both in images(pairs):
            response = both.flip(1) * 255 - mean
            for number, module in enumerate(edge_network):
                response = module(response)
                x, y = response.double()
                distances[number].append(float((x - y).square().sum().sqrt()))
    opinion = [float(pair["dmos"]) for pair in pairs]
    by_place = [row for (backbone, _), row in found.items() if backbone == "vgg16.hed"]
    assert count == len(by_place) == len(edge_network)
    for row, of_layer in zip(by_place, distances, strict=True):
        check(row, of_layer, opinion)


def test_the_study_of_human_ratings_finds_what_is_known(rows):
    pairs, found = rows
    assert len(pairs) == 19
    srocc = {key: float(row["srocc"]) for key, row in found.items()}
    assert srocc["psnr", ""] < -0.8
    assert srocc["ssim", ""] < -0.75
    best = max(value for (backbone, _), value in srocc.items() if backbone == "mobilenet_v2")
    assert best > 0.9
    assert np.isfinite([float(row["rmse"]) for row in found.values()]).all()
