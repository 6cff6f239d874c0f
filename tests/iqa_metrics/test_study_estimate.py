"""What a study takes, said before it is run, and the plan of the paper's study."""

import dataclasses
import itertools
import json
import sys
import tracemalloc

import numpy as np
import pyarrow.parquet as pq
import pytest
from material import REPOSITORY
from study_material import PAIRS, small_network, small_plan, write_pairs
from typer.testing import CliRunner

from iqa_metrics import backbone, parse_spec, readout
from iqa_metrics.cli import app
from iqa_metrics.datasets import read_opinions
from iqa_metrics.study import (
    Network,
    Plan,
    PlanError,
    Statistics,
    estimate,
    network,
    plan_estimate,
    plan_memory,
    plan_of,
    run_study,
)
from iqa_metrics.study.concatenated import concatenated
from iqa_metrics.study.correlations import Judged
from iqa_metrics.study.distances import Measured, Pairs, Series
from iqa_metrics.study.facts import description_of
from iqa_metrics.study.plan import CONCATENATED, WEIGHTED
from iqa_metrics.study.scopes import scopes

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PAPER = REPOSITORY / "examples" / "paper.toml"
GIB = 2**30


@pytest.fixture(scope="module")
def paper():
    return tomllib.loads(PAPER.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("estimate") / "images", side=64)


def free(monkeypatch, count):
    monkeypatch.setattr(plan_memory, "available_memory", lambda: count)


# The paper's plan ---------------------------------------------------------------------------------


def test_the_papers_plan_names_what_is_known(paper, table):
    assert [one["name"] for one in paper["databases"]] == ["tid2013", "kadid10k"]
    names = [one["name"] for one in paper["backbones"]]
    records = [backbone(name) for name in names]
    assert len(set(names)) == len(names) >= 46
    plan = Plan(
        {"small": read_opinions(table, "worse")},
        # Layers are looked up elsewhere: that means building each network.
        [Network(record, ("any",)) for record in records],
        readouts=paper["readouts"],
        concatenations=paper["concatenations"],
        baselines=paper["baselines"],
        statistics=Statistics(**paper["statistics"]),
    )
    assert {parse_spec(spec).name for spec in plan.baselines} >= {"ssim", "lpips_vgg", "dists"}
    assert WEIGHTED in plan.readouts
    assert any(readout(name).descriptor for name in plan.readouts)
    # What the paper compares: goals, data and architectures.
    assert {record.goal for record in records} >= {
        *("classification", "self-supervised", "segmentation", "detection", "image quality"),
    }
    assert {record.method for record in records} >= {
        *("jigsaw", "colorization", "rotation", "clustering", "contrastive"),
    }
    assert {record.data for record in records} >= {"ImageNet-1k", "ImageNet-22k", "Places365"}
    assert {record.family for record in records} >= {"VGG", "ResNet", "DenseNet", "EfficientNet"}


def test_layers_of_the_papers_plan_exist(paper):
    checked = set()
    for one in paper["backbones"]:
        record = backbone(one["name"])
        if "layers" in one and (record.architecture, *one["layers"]) not in checked:
            checked.add((record.architecture, *one["layers"]))
            assert record.in_order(one["layers"]) == tuple(one["layers"])
    assert len(checked) >= 4


def test_all_missing_weights_are_listed_with_the_way_to_get_them(paper, table):
    records = [backbone(one["name"]) for one in paper["backbones"]]
    plan = Plan(
        {"small": read_opinions(table, "worse")},
        [Network(record, ("any",)) for record in records],
        baselines=paper["baselines"],
    )
    found = plan_estimate.missing_weights(plan)
    listed = {name for one in found for name in one.needed_by}
    expected = {
        record.name for record in records if record.weights and record.weights.find() is None
    }
    assert listed - set(plan.baselines) == expected
    for one in found:
        # By a command or, for PerceptNet, by hand.
        assert one.command.startswith(("iqa weights fetch ", "pip install ")) or one.url is None
        assert one.file in one.how
    shared = next((one for one in found if "vgg16" in one.needed_by), None)
    if shared is not None:  # one file for the backbone and the metrics in it
        assert set(shared.needed_by) >= {"vgg16", "lpips_vgg", "dists"}
        assert shared.command == "iqa weights fetch vgg16"
        assert shared.url == backbone("vgg16").weights.url


# The estimate -------------------------------------------------------------------------------------


def test_an_estimate_says_what_a_run_then_takes(table, tmp_path):
    plan = small_plan(
        tmp_path,
        databases={"small": read_opinions(table, "worse")},
        readouts=("euclidean", "channel_mean", WEIGHTED),
        concatenations=("cumulative:joint", "pairs:sum"),
    )
    found = estimate(plan)
    finished = run_study(plan, tmp_path / "out")
    assert found.distances == finished.rows == PAIRS * found.series.single
    correlated = {(row.backbone, row.layer, row.readout) for row in finished.analysis.correlations}
    assert len(correlated) == found.series.total
    assert found.pairs == {"small": PAIRS}
    assert found.missing == ()
    assert [(one.names, one.pairs) for one in found.timed] == [
        (("mine",), 2),
        (("other",), 2),
        (("psnr", "ssim"), 2),
    ]
    assert all(0 < one.seconds_per_pair < one.seconds for one in found.timed)
    assert found.measuring_seconds == sum(one.seconds for one in found.timed)
    # Files have a head each, which counts for little in a real study.
    files = list((tmp_path / "out" / "parts").rglob("*.parquet"))
    stored = sum(pq.read_table(file).nbytes for file in files)
    assert 0.5 < found.parts_bytes / stored < 1.5


def test_backbones_of_an_architecture_are_timed_once_and_without_their_weights(table):
    plan = plan_of(
        {
            "databases": [{"pairs": str(table), "higher_is": "worse"}],
            "backbones": [
                {"name": "squeezenet1_1", "layers": ["fire2"]},
                {"name": "squeezenet1_1.untrained", "layers": ["fire2"]},
                {"name": "alexnet.places365", "layers": ["conv1"]},
            ],
            "baselines": ["psnr", "lpips_squeeze"],
        },
        table.parent,
        table.parent,
        missing="keep",
    )
    found = estimate(plan, pairs=1)
    timed = {one.names: one.timed for one in found.timed}
    assert timed["squeezenet1_1", "squeezenet1_1.untrained"] == "squeezenet1_1.untrained"
    assert timed["alexnet.places365",] == "AlexNet, random weights"
    assert timed["psnr",] == "psnr"
    assert found.untimed == ("lpips_squeeze",)
    assert {one.file: one.needed_by for one in found.missing}.keys() >= {
        *("squeezenet1_1-b8a52dc0.pth", "alexnet_places365.pth.tar"),
    }
    with pytest.raises(PlanError, match="missing: expected refuse or skip, got 'keep'"):
        plan_of({"missing": "keep"}, table.parent, table.parent)


def test_the_command_prints_text_or_json(table, tmp_path, monkeypatch):
    file = tmp_path / "plan.toml"
    file.write_text(
        f"""
        readouts = ["euclidean", "weighted_euclidean"]
        concatenations = ["cumulative:joint"]
        baselines = ["ssim", "dists"]
        [[databases]]
        pairs = '{table}'
        name = "mine"
        higher_is = "worse"
        [[backbones]]
        name = "squeezenet1_0"
        layers = ["fire2", "fire3"]
        """
    )
    run = CliRunner().invoke
    done = run(app, ["study", "estimate", str(file), "--pairs", "1", "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["distances"] == PAIRS * (2 + 2 * 2)
    assert (said["series"]["single"], said["series"]["concatenated"]) == (6, 1)
    urls = {one["file"]: one["url"] for one in said["missing"]}
    assert urls["squeezenet1_0-b66bff10.pth"].startswith("https://download.pytorch.org")
    assert said["timed"][0]["timed"] == "SqueezeNet 1.0, random weights"
    assert said["untimed"] == ["dists"]
    assert {one["step"] for one in said["memory"]} == {
        *("measuring", "channel weights", "statistics"),
    }
    assert said["parts_bytes"] > said["distances_bytes"] > 0
    done = run(app, ["study", "estimate", str(file), "--pairs", "1"])
    assert done.exit_code == 0, done.output
    words = " ".join(done.stdout.split())
    assert "squeezenet1_0, 5 MB: iqa weights fetch squeezenet1_0 https://" in words
    assert "not timed, because weights are missing: dists" in words
    assert "all that can be fetched: iqa weights fetch squeezenet1_0" in words
    for fact in ("distances: 432, of 6 series", "memory: measuring up to", "disk: about"):
        assert fact in words
    free(monkeypatch, 2**20)
    done = run(app, ["study", "estimate", str(file), "--pairs", "1"])
    assert done.exit_code == 2
    assert "would not fit into memory" in done.stderr


def test_without_its_databases_an_estimate_still_lists_what_weights_are_missing(tmp_path):
    file = tmp_path / "plan.toml"
    file.write_text(
        '[[databases]]\nname = "tid2013"\nfolder = "none"\n[[backbones]]\nname = "squeezenet1_0"\n'
    )
    done = CliRunner().invoke(app, ["study", "estimate", str(file)])
    assert done.exit_code == 2
    assert "iqa weights fetch squeezenet1_0" in done.stdout
    assert "'iqa datasets list' says where they come from" in " ".join(done.stderr.split())
    done = CliRunner().invoke(app, ["study", "estimate", str(file), "--json"])
    assert [one["needed_by"] for one in json.loads(done.stdout)["missing"]] == [["squeezenet1_0"]]


def test_pairs_that_can_not_be_timed_are_an_error(tmp_path):
    plan = small_plan(tmp_path)
    for pair in plan.databases["small"].pairs[:2]:
        pair.distorted.write_bytes(b"no image")
    with pytest.raises(PlanError, match="not an image"):
        estimate(plan)


# Memory -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_concatenations_are_counted_as_they_are_made(layers, table):
    pairs = Pairs("p", ("r", "r"), ("a", "b"), ("", ""), np.zeros(2), np.zeros(2))
    names = tuple(f"l{number}" for number in range(layers))
    for size in range(len(CONCATENATED) + 1):
        for kinds in itertools.combinations(CONCATENATED, size):
            plan = Plan(
                {"small": read_opinions(table, "worse")},
                [Network(small_network(), names)],
                readouts=("euclidean", "cosine", WEIGHTED),
                concatenations=kinds,
                baselines=("ssim",),
            )
            series = (
                Series("ssim", "", "", np.nan),
                *(
                    Series("mine", name, one, float(at + 1))
                    for one in plan.readouts
                    for at, name in enumerate(names)
                ),
            )
            shape = (len(series), 2)
            made = concatenated(
                Measured(pairs, series, np.ones(shape), np.ones(shape, np.int64)), kinds
            )
            counted = plan_memory.series_of(plan)
            assert (counted.single, counted.total) == (len(series), len(made.series)), kinds


def large_plan(table, **options):
    """Return a plan that would take several GiB for its replicates."""
    chosen = {
        "databases": {"small": read_opinions(table, "worse")},
        "networks": [Network(small_network(f"n{number}"), ("relu1", "relu2", "pool") * 20)
                     for number in range(20)],
        "readouts": ("euclidean",),
        "concatenations": ("cumulative:joint", "pairs:joint"),
        **options,
    }  # fmt: skip
    return Plan(**chosen)


def test_a_plan_that_would_not_fit_is_refused_with_the_way_out(table, tmp_path, monkeypatch):
    plan = large_plan(table)
    need = next(n for n in plan_memory.memory_needs(plan) if n.step == "statistics")
    assert plan_memory.series_of(plan).total == 3 + 20 * (60 + 59 + 60 * 59 // 2 - 1)
    assert 1 * GIB < need.bytes < 3 * GIB
    free(monkeypatch, 4 * GIB)
    plan_memory.check_memory(plan)
    free(monkeypatch, None)  # unknown
    plan_memory.check_memory(plan)
    free(monkeypatch, 1 * GIB)
    with pytest.raises(PlanError) as caught:
        run_study(plan, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    said = str(caught.value)
    assert said.startswith("this plan would not fit into memory: statistics takes up to ")
    assert "and 1.0 GiB are free" in said
    for way in (
        "leave out the concatenations pairs:joint (then ",
        "leave out all concatenations (then ",
        "draws = 200 (then ",
        "read half of the layers (then ",
    ):
        assert way in said
    # Following one of them is enough.
    plan_memory.check_memory(large_plan(table, concatenations=("cumulative:joint",)))


def test_channel_squares_that_would_not_fit_are_refused(table, monkeypatch):
    plan = Plan(
        {"small": read_opinions(table, "worse")},
        [network(backbone("resnet18.untrained"), ["layer4.1", "relu1"])],
        readouts=("euclidean", WEIGHTED),
    )
    need = next(n for n in plan_memory.memory_needs(plan) if n.step == "channel weights")
    assert need.bytes == 5 * 8 * 512 * PAIRS
    assert need.what == f"512 channels of resnet18.untrained:layer4.1 on {PAIRS} pairs of small"
    monkeypatch.setattr(plan_memory, "_SQUARES", 50_000)  # as if there were that many pairs
    free(monkeypatch, 8 * GIB)
    with pytest.raises(PlanError, match=f"channel weights takes.*leave out {WEIGHTED} .then"):
        plan_memory.check_memory(plan)


def test_the_bound_holds_for_the_statistics(table, monkeypatch):
    """Allocations while scopes are made, by tracemalloc."""
    monkeypatch.setattr(plan_memory, "cores", lambda: 1)
    random, n, layers = np.random.default_rng(0), PAIRS, 20
    plan = large_plan(
        table,
        networks=[Network(small_network(), tuple(f"l{i}" for i in range(layers)))],
        concatenations=CONCATENATED,
        baselines=(),
        statistics=Statistics(draws=400),
    )
    pairs = Pairs(
        "small",
        tuple(f"r{i % 4}" for i in range(n)),
        tuple(f"d{i}" for i in range(n)),
        ("",) * n,
        random.normal(size=n),
        np.zeros(n),
    )
    series = tuple(Series("mine", f"l{i}", "euclidean", i / layers) for i in range(layers))
    values, sizes = random.gamma(2, 1, (layers, n)), np.ones((layers, n), np.int64)
    measured = Measured(pairs, series, values, sizes)
    description = dataclasses.replace(
        description_of({"small": measured}, "worse", plan.statistics), concatenations=CONCATENATED
    )
    tracemalloc.start()
    try:
        judged = Judged(concatenated(measured, CONCATENATED), plan.statistics, 0)
        (scope,) = scopes({"small": judged}, description)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(scope.series) == plan_memory.series_of(plan).total == 20 + 2 * (19 + 190 - 1)
    need = next(n for n in plan_memory.memory_needs(plan) if n.step == "statistics")
    assert 0.1 * need.bytes < peak < need.bytes


def test_the_memory_that_is_free(tmp_path, monkeypatch):
    found = plan_memory.available_memory()
    assert found is None or found > 2**20
    assert plan_memory._of_container(tmp_path) is None
    for name, text in (
        ("memory.max", "max\n"),
        ("memory.current", "300\n"),
        ("memory.stat", "anon 10\ninactive_file 50\n"),
    ):
        (tmp_path / name).write_text(text)
    assert plan_memory._of_container(tmp_path) is None
    (tmp_path / "memory.max").write_text("1000\n")
    assert plan_memory._of_container(tmp_path) == 1000 - 300 + 50
    monkeypatch.setattr(plan_memory, "_of_container", lambda: 7)
    assert plan_memory.available_memory() == 7
    monkeypatch.setattr(plan_memory, "_of_container", lambda: None)
    monkeypatch.setattr(plan_memory, "_of_system", lambda: None)
    assert plan_memory.available_memory() is None
