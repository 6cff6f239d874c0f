"""From images and opinions to a metric with channel weights, its file, and the command line."""

import json

import numpy as np
import pytest
import torch
from seeded import trunk
from skimage import data
from typer.testing import CliRunner

from iqa_metrics import Column, DeepDistance, LayerTable, WeightsError, backbone, read_image
from iqa_metrics.channel_weights import (
    channel_squares,
    learn_channel_weights,
    read_channel_weights,
    save_channel_weights,
)
from iqa_metrics.channel_weights.held_out import by_layer
from iqa_metrics.cli import app
from iqa_metrics.datasets import DatasetError, read_opinions
from iqa_metrics.readouts import CHANNEL_SQUARES

LAYERS = {"stem": 32, "block2": 24}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four photographs, each with noise and blur of three strengths; higher opinions are worse."""
    from PIL import Image, ImageFilter

    folder = tmp_path_factory.mktemp("opinions")
    stream = np.random.default_rng(0)
    rows = ["reference,distorted,dmos"]
    crops = [data.astronaut()[:64, :64], data.astronaut()[90:154, 180:244]]
    crops += [data.coffee()[100:164, 200:264], data.chelsea()[60:124, 120:184]]
    for number, crop in enumerate(crops):
        picture = Image.fromarray(crop)
        picture.save(folder / f"{number}.png")
        for level in (1, 2, 3):
            noisy = crop + stream.normal(0, 6 * level, crop.shape)
            noise = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
            for name, worse in (
                ("noise", noise),
                ("blur", picture.filter(ImageFilter.GaussianBlur(0.5 * level))),
            ):
                worse.save(folder / f"{number}_{name}_{level}.png")
                rows.append(f"{number}.png,{number}_{name}_{level}.png,{10 * level + number / 10}")
    (folder / "pairs.csv").write_text("\n".join(rows))
    return folder


@pytest.fixture(scope="module")
def opinions(folder):
    return read_opinions(folder / "pairs.csv", "worse", "dmos")


def weighted(weights):
    return DeepDistance(
        "efficientnet_lite0", list(LAYERS), "weighted_euclidean", channel_weights=weights
    )


def test_squares_per_channel_are_those_of_the_feature_maps(opinions):
    table = LayerTable("efficientnet_lite0", [Column(n, CHANNEL_SQUARES) for n in LAYERS])
    told = []
    found = channel_squares(table, opinions, progress=lambda *state: told.append(state))
    assert found.shape == (24, 56)
    assert told[-1] == (24, 24)
    pair = opinions.pairs[7]
    x, y = (read_image(file) for file in (pair.reference, pair.distorted))
    a, b = (table.extractor.responses(image, LAYERS) for image in (x, y))
    expected = [(a[n] - b[n]).double().square().sum(dim=(0, 2, 3)) for n in LAYERS]
    np.testing.assert_allclose(found[7], torch.cat(expected).numpy(), rtol=1e-5, atol=1e-9)
    # What weights make of them is what the metric says.
    weights = np.random.default_rng(0).uniform(0, 2, 56)
    value = weighted(by_layer(weights, LAYERS))(x, y)
    assert value.item() == pytest.approx(np.sqrt(found[7] @ weights), rel=1e-5)


def test_a_metric_is_learned_saved_and_read_again(opinions, tmp_path):
    learned = learn_channel_weights("efficientnet_lite0", list(LAYERS), opinions, draws=50)
    found, provenance = learned.learned, learned.provenance
    assert provenance["spec"] == "efficientnet_lite0:stem+block2:weighted_euclidean:joint"
    assert (provenance["pairs"], provenance["references"]) == (24, 4)
    low, high = provenance["held_out_gain_interval"]
    assert low <= provenance["held_out_gain"] <= high
    path = tmp_path / "weights.safetensors"
    save_channel_weights(learned, path)
    again = read_channel_weights(path)
    assert again.provenance == provenance
    assert again.metric.name == learned.metric.name
    pair = opinions.pairs[3]
    x, y = (read_image(file) for file in (pair.reference, pair.distorted))
    assert torch.equal(again.metric(x, y), learned.metric(x, y))
    first = again.metric.channel_weights["stem"].numpy()
    np.testing.assert_allclose(first, found.weights[:32], rtol=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == ["weights.safetensors"]


def test_opinions_are_reversed_where_higher_is_better(folder, opinions):
    from dataclasses import replace

    turned = replace(
        opinions,
        facts=replace(opinions.facts, higher_is="better"),
        pairs=tuple(replace(pair, opinion=-pair.opinion) for pair in opinions.pairs),
    )
    found = [
        learn_channel_weights("efficientnet_lite0", "stem", o, draws=5) for o in (opinions, turned)
    ]
    np.testing.assert_array_equal(*(f.learned.weights for f in found))
    assert found[0].provenance["opinions"] != found[1].provenance["opinions"]


def test_weights_of_another_network_are_refused(opinions, tmp_path):
    network = trunk("squeezenet1_1")
    learned = learn_channel_weights("squeezenet1_1", "fire3", opinions, trunk=network, draws=5)
    path = tmp_path / "weights.safetensors"
    save_channel_weights(learned, path)
    assert read_channel_weights(path, trunk=network).metric.layers == ("fire3",)
    with pytest.raises(WeightsError, match="learned in a squeezenet1_1 with other values"):
        read_channel_weights(path, trunk=backbone("squeezenet1_1").build())
    path.write_bytes(b"something else")
    with pytest.raises(WeightsError, match="can't be read as channel weights"):
        read_channel_weights(path)
    from safetensors.torch import save_file

    save_file({"x": torch.ones(1)}, path)
    with pytest.raises(WeightsError, match="has no channel weights"):
        read_channel_weights(path)


def test_channel_weights_of_ones_own_networks_can_be_learned_and_read(opinions, tmp_path):
    from torch import nn

    from iqa_metrics import Backbone

    torch.manual_seed(0)
    mine = Backbone.from_module(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), {"a": "1"})
    learned = learn_channel_weights(mine, "a", opinions, draws=5)
    path = tmp_path / "weights.safetensors"
    save_channel_weights(learned, path)
    assert read_channel_weights(path, backbone=mine).metric.name == learned.metric.name
    with pytest.raises(WeightsError, match="unknown backbone 'mine'"):
        read_channel_weights(path)
    # A file with other values leaves the record as it is.
    before = mine.network().state_dict()
    other = tmp_path / "other.safetensors"
    from safetensors.torch import save_file

    save_file({key: torch.zeros_like(value) for key, value in before.items()}, other)
    assert not mine.network(other).state_dict()["0.weight"].any()
    assert torch.equal(mine.network().state_dict()["0.weight"], before["0.weight"])


def test_one_photograph_under_two_names_is_one_reference(folder, opinions, tmp_path):
    from dataclasses import replace

    pairs = []
    for number, pair in enumerate(opinions.pairs[:12]):
        copy = tmp_path / f"{number}.png"
        copy.write_bytes(pair.reference.read_bytes())
        pairs.append(replace(pair, reference=copy))
    with pytest.raises(ValueError, match="at least 3 references, got 2"):
        learn_channel_weights("efficientnet_lite0", "stem", replace(opinions, pairs=tuple(pairs)))


def test_images_that_can_not_be_used_are_named(folder, opinions, tmp_path):
    from dataclasses import replace

    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    pairs = (replace(opinions.pairs[0], distorted=broken), *opinions.pairs[1:])
    with pytest.raises(DatasetError, match=r"can't be used: unreadable: .*broken\.png"):
        learn_channel_weights("efficientnet_lite0", "stem", replace(opinions, pairs=pairs))


def test_a_file_that_does_not_say_its_origin_is_refused(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "w.safetensors"
    facts = json.dumps({"format": "iqa-metrics channel weights, 1", "spec": "x"})
    save_file({"stem": torch.ones(32)}, path, {"provenance": facts})
    with pytest.raises(WeightsError, match="does not say its backbone, layers"):
        read_channel_weights(path)
    result = run("channel-weights", "show", path)
    assert (result.exit_code, "does not say its backbone" in result.stderr) == (2, True)


def test_a_failing_network_is_not_blamed_on_images(opinions, monkeypatch):
    def fails(*_):
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(LayerTable, "compare", fails)
    with pytest.raises(RuntimeError, match=r"failed: .*the device is gone"):
        learn_channel_weights("efficientnet_lite0", "stem", opinions, draws=5)


def test_the_command_line(folder, tmp_path):
    out = tmp_path / "w.safetensors"
    command = [
        "channel-weights",
        "learn",
        "--backbone",
        "efficientnet_lite0",
        "--layer",
        "block2",
        "--out",
        out,
    ]
    table = ["--pairs", folder / "pairs.csv", "--opinion", "dmos", "--higher-is", "worse"]
    result = run(*command, *table, "--draws", 20)
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == ["efficientnet_lite0:block2:weighted_euclidean", str(out)]
    assert "held-out SROCC over equal weights" in result.stderr
    result = run(*command, *table, "--draws", 20, "--json")
    assert json.loads(result.stdout) == dict(read_channel_weights(out).provenance)
    shown = run("channel-weights", "show", out)
    assert shown.stdout.splitlines()[0] == f"efficientnet_lite0:block2:weighted_euclidean\t{out}"
    assert "24 pairs with 4 references" in shown.stderr
    assert "of 24 weights above 0" in shown.stdout
    shown = run("channel-weights", "show", folder / "pairs.csv")
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert "can't be read as channel weights" in shown.stderr
    for arguments, words in (
        ([], "expected either --pairs FILE or --database NAME --folder DIR, got neither"),
        (["--pairs", folder / "pairs.csv"], "needs --higher-is"),
        (["--database", "csiq"], "--database needs --folder"),
        ([*table, "--database", "csiq"], "got both"),
        ([*table, "--out", tmp_path / "gone" / "w.safetensors"], "does not exist"),
    ):
        result = run(*command, *arguments)
        assert (result.exit_code, words in result.stderr) == (2, True)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])
