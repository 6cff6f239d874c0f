"""A study from its plan to its tables: what is measured, kept, resumed and never reused."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from registering import own_catalogues
from study_material import PAIRS, contents, small_network, small_plan, write_pairs, written_by
from torch import nn

from iqa_metrics import (
    Backbone,
    DeepDistance,
    Readout,
    backbone,
    create_metric,
    read_image,
    register_readout,
)
from iqa_metrics.compute.features import FeatureExtractor
from iqa_metrics.datasets import read_opinions
from iqa_metrics.study import (
    PlanError,
    content,
    distances,
    network,
    read_distances,
    run_study,
    weighted,
)
from iqa_metrics.study.store import Store


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    plan = small_plan(folder)
    return plan, run_study(plan, folder / "out")


def test_a_row_for_each_pair_network_layer_and_readout(finished):
    plan, found = finished
    rows = pq.read_table(found.folder / "distances.parquet").to_pylist()
    assert (len(rows), found.rows, found.failed) == (PAIRS * (2 + 2 * 3 * 2),) * 2 + (0,)
    keys = {tuple(row[c] for c in ("distorted", "backbone", "layer", "readout")) for row in rows}
    assert len(keys) == len(rows)
    assert {row["database"] for row in rows} == {"small"}
    assert {(row["backbone"], row["layer"], row["readout"]) for row in rows} >= {
        ("psnr", "", ""),
        ("mine", "relu1", "euclidean"),
        ("other", "pool", "channel_mean"),
    }
    pair = plan.databases["small"].pairs[7]
    row = next(row for row in rows if row["distorted"] == pair.distorted.name)
    assert (row["reference"], row["opinion"], row["level"], row["distortion"]) == (
        pair.reference.name,
        pair.opinion,
        pair.level,
        pair.distortion,
    )


def test_the_study_says_where_its_images_are(finished):
    _, found = finished
    (described,) = json.loads((found.folder / "study.json").read_text())["databases"]
    for pair in read_distances(found.folder / "distances.parquet")["small"].pairs.distorted:
        assert (found.folder / described["folder"] / pair).is_file()
    # Both can be moved together.
    assert not Path(described["folder"]).is_absolute()


def test_values_are_those_of_the_metrics(finished):
    plan, found = finished
    measured = read_distances(found.folder / "distances.parquet")["small"]
    images = [
        [read_image(file) for file in (pair.reference, pair.distorted)]
        for pair in plan.databases["small"].pairs
    ]
    for row, series in enumerate(measured.series):
        if series.layer:
            record = next(n.record for n in plan.networks if n.record.name == series.backbone)
            metric = DeepDistance(record, series.layer, series.readout)
        else:
            metric = create_metric(series.backbone)
        expected = [float(metric(*pair)) for pair in images]
        assert measured.values[row] == pytest.approx(expected, rel=1e-5), series.name


def test_each_image_passes_each_network_once_for_any_readouts(tmp_path, monkeypatch):
    seen = []
    visit = FeatureExtractor._visit

    def counted(self, batches, layers, visitor, **options):
        seen.append(sum(len(batch) for batch in batches))
        return visit(self, batches, layers, visitor, **options)

    monkeypatch.setattr(FeatureExtractor, "_visit", counted)
    readouts = ("euclidean", "channel_mean", "cosine", "weighted_euclidean")
    run_study(small_plan(tmp_path, readouts=readouts, baselines=()), tmp_path / "out")
    references = 4
    assert sum(seen) == 2 * (PAIRS + references)


def test_a_second_run_measures_nothing_and_gives_the_same_bytes(finished, monkeypatch):
    plan, found = finished
    before = contents(found.folder)
    monkeypatch.setattr(Store, "write", None)
    run_study(plan, found.folder)
    assert contents(found.folder) == before


@pytest.mark.parametrize("blocks", [1, 5, 15])
def test_an_interrupted_run_is_resumed_to_the_same_bytes(finished, blocks, tmp_path, monkeypatch):
    plan, whole = finished
    write, left = Store.write, [blocks]

    def failing(self, key, pairs, block):
        if not left[0]:
            (self._folder / f".torn.{key}").write_bytes(b"torn")
            raise KeyboardInterrupt
        left[0] -= 1
        write(self, key, pairs, block)

    monkeypatch.setattr(Store, "write", failing)
    with pytest.raises(KeyboardInterrupt):
        run_study(plan, tmp_path)
    assert not (tmp_path / "distances.parquet").exists()
    left[0] = 10**6
    run_study(plan, tmp_path)
    assert contents(tmp_path) == contents(whole.folder)


def test_a_full_disk_is_reported_and_loses_nothing(finished, tmp_path, monkeypatch):
    plan, whole = finished
    write, left = Store.write, [5]

    def full(self, key, pairs, block):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        write(self, key, pairs, block)

    monkeypatch.setattr(Store, "write", full)
    with pytest.raises(PlanError, match="No space left on device; what was measured is kept"):
        run_study(plan, tmp_path)
    assert len(list((tmp_path / "parts").rglob("*.parquet"))) == 5
    left[0] = 10**6
    run_study(plan, tmp_path)
    assert contents(tmp_path) == contents(whole.folder)


def test_a_torn_block_is_measured_again(finished, tmp_path):
    plan, whole = finished
    shutil.copytree(whole.folder, tmp_path, dirs_exist_ok=True)
    blocks = sorted((tmp_path / "parts").rglob("*.parquet"))
    blocks[0].write_bytes(blocks[0].read_bytes()[:-7])
    blocks[1].write_bytes(b"")
    blocks[2].unlink()
    run_study(plan, tmp_path)
    assert contents(tmp_path) == contents(whole.folder)


def test_new_readouts_measure_only_themselves(finished, tmp_path, monkeypatch):
    plan, whole = finished
    shutil.copytree(whole.folder, tmp_path, dirs_exist_ok=True)
    written = written_by(monkeypatch)
    more = dataclasses.replace(plan, readouts=(*plan.readouts, "cosine"))
    run_study(more, tmp_path)
    assert len(written) == 2 * 2
    fresh = run_study(more, tmp_path / "fresh")
    assert contents(tmp_path) == contents(fresh.folder)


@pytest.mark.parametrize("changed", ["image", "weights", "code", "scaling"])
def test_nothing_stale_is_reused(finished, changed, tmp_path, monkeypatch):
    _, whole = finished
    shutil.copytree(whole.folder, tmp_path / "out", dirs_exist_ok=True)
    plan = small_plan(tmp_path)  # the same, made again
    written = written_by(monkeypatch)
    if changed == "image":
        file = plan.databases["small"].pairs[3].distorted
        Image.fromarray(255 - np.asarray(Image.open(file))).save(file)
    elif changed == "weights":
        record = small_network(seed=7)
        plan = dataclasses.replace(plan, networks=[network(record), *plan.networks[1:]])
    elif changed == "scaling":
        scaling = dataclasses.replace(plan.networks[0].record.scaling, peak=255.0)
        record = dataclasses.replace(plan.networks[0].record, scaling=scaling)
        plan = dataclasses.replace(plan, networks=[network(record), *plan.networks[1:]])
    else:
        monkeypatch.setattr("iqa_metrics.study.measuring.code_digest", lambda: "another")
    run_study(plan, tmp_path / "out")
    expected = {"image": 2 + 2 * 3, "weights": 2 * 3, "scaling": 2 * 3, "code": 2 * (2 + 2 * 3)}
    assert len(written) == expected[changed]
    if changed == "image":
        assert {len(pairs) for pairs in written} == {1}
    fresh = run_study(plan, tmp_path / "fresh")
    assert contents(tmp_path / "out") == contents(fresh.folder)


class Gain(nn.Module):
    """A network with a constant that is not a parameter, and a buffer that is in no file."""

    def __init__(self, gain, shift):
        super().__init__()
        self.gain = gain
        self.register_buffer("shift", torch.full((1,), shift), persistent=False)
        self.convolution = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.gain * self.convolution(x).square() + self.shift * x[:, :1, 1:-1, 1:-1]


@pytest.mark.parametrize(
    "other",
    [
        lambda: (nn.Conv2d(3, 4, 3, stride=2), nn.ReLU()),
        lambda: (nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), nn.ReLU()),
        lambda: (nn.Conv2d(3, 4, 3), nn.Tanh()),
        lambda: (Gain(2.0, 0.0),),
        lambda: (Gain(1.0, 1.0),),
    ],
)
def test_networks_with_equal_values_but_another_structure_are_different(other, tmp_path):
    """Each has the same parameters as the first network of its kind."""

    def record(make):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            modules = nn.Sequential(*make())
        return Backbone.from_module(modules, {"last": str(len(modules) - 1)}, name="mine")

    plain = (lambda: (Gain(1.0, 0.0),)) if len(other()) == 1 else None
    plain = plain or (lambda: (nn.Conv2d(3, 4, 3), nn.ReLU()))
    found = []
    for number, make in enumerate((plain, other)):
        plan = small_plan(
            tmp_path / str(number), networks=[network(record(make))], readouts=("euclidean",),
            baselines=(),
        )  # fmt: skip
        run_study(plan, tmp_path / "out")
        found.append(read_distances(tmp_path / "out" / "distances.parquet")["small"].values)
        fresh = run_study(plan, tmp_path / f"fresh{number}")
        expected = read_distances(fresh.folder / "distances.parquet")["small"].values
        assert (found[-1] == expected).all()
    assert (found[0] != found[1]).any()


def test_baselines_in_networks_are_kept_with_their_scaling(tmp_path, monkeypatch):
    record = """name = "mine"
network = "efficientnet_lite0"
goal = "test"
[weights]
file = "{file}"
[scaling]
peak = 1
mean = [{mean}, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
"""
    weights = backbone("efficientnet_lite0").weights.find()
    values = []
    for mean in (0.5, 0.1):
        folder = tmp_path / f"records{mean}"
        folder.mkdir()
        (folder / "mine.toml").write_text(record.format(file=weights, mean=mean))
        monkeypatch.setenv("IQA_BACKBONES", str(folder))
        plan = small_plan(tmp_path, networks=[], baselines=("mine:stem:euclidean",))
        run_study(plan, tmp_path / "out")
        values.append(read_distances(tmp_path / "out" / "distances.parquet")["small"].values)
    assert (values[0] != values[1]).any()


def test_nan_is_a_failure_with_its_reason(tmp_path):
    class NaNs(nn.Module):
        def forward(self, x):
            return torch.where(x.mean(dim=(1, 2, 3), keepdim=True) > 0.45, x, torch.nan)

    record = Backbone.from_module(nn.Sequential(NaNs()), {"all": "0"}, name="nans")
    plan = small_plan(
        tmp_path,
        networks=[network(record), network(small_network())],
        readouts=("euclidean", "weighted_euclidean"),
    )
    found = run_study(plan, tmp_path / "out")
    rows = pq.read_table(tmp_path / "out" / "distances.parquet").to_pylist()
    failed = [row for row in rows if row["value"] is None]
    assert 0 < len(failed) == found.failed < len(rows)
    assert {row["error"].split(":")[0] for row in failed} == {"not_finite"}
    assert {row["layer"] for row in failed} == {"all"}
    assert {row["readout"] for row in failed} == {"euclidean", "weighted_euclidean"}


def test_copies_of_a_photograph_are_one_reference(tmp_path):
    table = write_pairs(tmp_path / "images", references=3)
    shutil.copy(tmp_path / "images" / "r0.png", tmp_path / "images" / "copy.png")
    text = table.read_text().replace("r0.png,r0_noise", "copy.png,r0_noise")
    table.write_text(text)
    found = run_study(
        small_plan(tmp_path / "x", databases={"small": read_opinions(table, "worse")}),
        tmp_path / "out",
    )
    measured = read_distances(found.folder / "distances.parquet")["small"]
    assert len(set(measured.pairs.references)) == 3


def test_files_of_a_killed_run_are_removed(finished, tmp_path):
    plan, whole = finished
    shutil.copytree(whole.folder, tmp_path, dirs_exist_ok=True)
    block = next((tmp_path / "parts").rglob("*.parquet"))
    torn = [tmp_path / ".distances.parquet.0123abcd", block.with_name(f".{block.name}.89abcdef")]
    mine = tmp_path / ".notes"
    for file in (*torn, mine):
        file.write_bytes(b"torn")
    run_study(plan, tmp_path)
    assert [file.exists() for file in (*torn, mine)] == [False, False, True]
    assert contents(tmp_path) == contents(whole.folder)


def test_a_failed_pair_is_a_row_with_its_reason(tmp_path):
    plan = small_plan(tmp_path)
    pairs = plan.databases["small"].pairs
    pairs[5].distorted.write_bytes(b"no image")
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(pairs[9].distorted)
    found = run_study(plan, tmp_path / "out")
    series = 2 + 2 * 3 * 2
    assert found.failed == 2 * series
    rows = pq.read_table(tmp_path / "out" / "distances.parquet").to_pylist()
    failed = [row for row in rows if row["value"] is None]
    assert {(row["distorted"], row["error"].split(":")[0]) for row in failed} == {
        (pairs[5].distorted.name, "bad_image"),
        (pairs[9].distorted.name, "size_mismatch"),
    }
    assert all(row["error"] for row in failed)
    assert not any(row["error"] for row in rows if row["value"] is not None)
    assert {row.n for row in found.analysis.correlations if not row.distortion} == {PAIRS - 2}
    assert len(found.reasons) == 2


def test_pairs_that_ran_out_of_memory_are_tried_again(tmp_path, monkeypatch):
    plan = small_plan(tmp_path, baselines=())
    visit = FeatureExtractor._visit

    def failing(self, *args, **options):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(FeatureExtractor, "_visit", failing)
    found = run_study(plan, tmp_path / "out")
    assert found.failed == found.rows
    assert found.reasons == ("failed: RuntimeError: out of memory",)
    monkeypatch.setattr(FeatureExtractor, "_visit", visit)
    assert run_study(plan, tmp_path / "out").failed == 0


def test_two_runs_do_not_write_into_one_folder(tmp_path):
    from filelock import FileLock

    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"), pytest.raises(PlanError, match="another run"):
        run_study(small_plan(tmp_path), tmp_path / "out")


def test_weights_are_learned_without_the_reference_that_they_judge(tmp_path):
    """One channel has the opinion, the others noise: learned weights find it on held-out pairs."""

    class Channels(nn.Module):
        def forward(self, x):
            return torch.cat([x[:, :1], 3 * x[:, 1:2], 3 * x[:, 2:]], dim=1)

    random = np.random.default_rng(0)
    folder = tmp_path / "images"
    folder.mkdir()
    rows = ["reference,distorted,opinion"]
    for reference in range(8):
        base = np.full((16, 16, 3), 120, np.uint8)
        base[0, 0, 0] = reference
        Image.fromarray(base).save(folder / f"r{reference}.png")
        for number in range(12):
            shift = random.integers(0, 60, 3)
            Image.fromarray((base + shift).astype(np.uint8)).save(
                folder / f"{reference}_{number}.png"
            )
            rows.append(f"r{reference}.png,{reference}_{number}.png,{shift[0]}")
    (folder / "pairs.csv").write_text("\n".join(rows))
    record = Backbone.from_module(nn.Sequential(Channels()), {"all": "0"}, goal="test")
    plan = small_plan(
        tmp_path / "other",
        databases={"made": read_opinions(folder / "pairs.csv", "worse")},
        networks=[network(record)],
        readouts=("euclidean", "weighted_euclidean"),
        baselines=(),
    )
    found = run_study(plan, tmp_path / "out")
    by_readout = {row.readout: row.srocc for row in found.analysis.correlations}
    assert by_readout["weighted_euclidean"] > 0.95 > 0.6 > by_readout["euclidean"]
    (row,) = [row for row in found.analysis.comparisons if row.question == "channel_weights"]
    assert row.verdict == "first"


def test_too_few_references_to_learn_weights_is_a_reason(tmp_path):
    table = write_pairs(tmp_path / "two", references=2)
    plan = small_plan(
        tmp_path,
        databases={"two": read_opinions(table, "worse")},
        readouts=("euclidean", "weighted_euclidean"),
    )
    found = run_study(plan, tmp_path / "out")
    assert found.failed == 2 * 3 * 36
    assert found.reasons[0].startswith("too_few_references")


class Fragile(torch.nn.Module):
    """One of its two branches gives NaN for images that are bright on average."""

    def __init__(self, first):
        super().__init__()
        torch.manual_seed(0)
        self.first = first
        self.fine = torch.nn.Conv2d(3, 4, 3)
        self.breaks = torch.nn.Conv2d(3, 5, 3)

    def forward(self, x):
        bright = x.mean(dim=(1, 2, 3), keepdim=True) > 0.5
        inputs = {"fine": x, "breaks": torch.where(bright, torch.nan, x)}
        order = ("fine", "breaks") if self.first == "fine" else ("breaks", "fine")
        return sum(getattr(self, name)(inputs[name]).sum() for name in order)


@pytest.mark.parametrize("first", ["fine", "breaks"])
def test_a_failing_layer_costs_no_distance_of_another_layer(tmp_path, first):
    table = write_pairs(tmp_path / "six", references=6)
    record = Backbone.from_module(Fragile(first), ["fine", "breaks"], goal="g", data="d")
    assert record.layers[0].name == first
    readouts = ("euclidean", "weighted_euclidean")
    plan = small_plan(
        tmp_path,
        databases={"small": read_opinions(table, "worse")},
        networks=[network(record)],
        readouts=readouts,
        baselines=(),
    )
    run_study(plan, tmp_path / "out")
    rows = pq.read_table(tmp_path / "out" / "distances.parquet").to_pylist()
    of = {
        (layer, readout): [r for r in rows if (r["layer"], r["readout"]) == (layer, readout)]
        for layer in ("fine", "breaks")
        for readout in readouts
    }
    broken = [row["distorted"] for row in of["breaks", "euclidean"] if row["error"]]
    assert 0 < len(broken) < len(of["breaks", "euclidean"])
    reasons = {"euclidean": distances._NO_NUMBER, "weighted_euclidean": weighted._NOT_FINITE}
    for readout in readouts:
        assert not any(row["error"] for row in of["fine", readout])
        assert all(row["value"] is not None for row in of["fine", readout])
        failed = [r["distorted"] for r in of["breaks", readout] if r["error"] == reasons[readout]]
        assert failed == broken


def test_a_layer_that_takes_one_size_fails_by_itself_on_other_sizes(tmp_path):
    """The image is large enough for what is known to be enough, and yet not for that layer."""
    table = write_pairs(tmp_path / "large", references=3, levels=1, side=280)
    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.Conv2d(2, 2, 300))
    record = Backbone.from_module(layers, {"near": "0", "far": "1"}, goal="g", data="d")
    plan = small_plan(
        tmp_path,
        databases={"small": read_opinions(table, "worse")},
        networks=[network(record)],
        readouts=("euclidean",),
        baselines=(),
    )
    found = run_study(plan, tmp_path / "out")
    rows = pq.read_table(tmp_path / "out" / "distances.parquet").to_pylist()
    assert [row["error"] for row in rows if row["layer"] == "near"] == [""] * 9
    assert all(row["error"] for row in rows if row["layer"] == "far")
    assert found.reasons[0].startswith(("wrong_size: 288x280", "too_small"))


def test_a_baseline_whose_readout_changed_is_measured_again(tmp_path):
    table = write_pairs(tmp_path / "three", references=3, levels=1)
    values = []
    for factor in (1.0, 2.0):
        with own_catalogues():

            def scaled(x, y, factor=factor):
                return factor * (x - y).abs().flatten(1).mean(1)

            register_readout(
                Readout(name="scaled", function=scaled, summary="-", source="these tests")
            )
            plan = small_plan(
                tmp_path,
                databases={"small": read_opinions(table, "worse")},
                networks=[],
                readouts=("euclidean",),
                baselines=("efficientnet_lite0:stem:scaled",),
            )
            run_study(plan, tmp_path / "out")
        rows = pq.read_table(tmp_path / "out" / "distances.parquet").to_pylist()
        values.append([row["value"] for row in rows])
    assert values[1] == pytest.approx([2 * value for value in values[0]], rel=1e-6)


def test_an_image_too_small_for_a_layer_is_measured_in_the_others(tmp_path):
    table = write_pairs(tmp_path / "tiny", side=24)
    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 4, 30))
    record = Backbone.from_module(layers, {"near": "0", "far": "1"}, goal="g", data="d")
    plan = small_plan(
        tmp_path,
        databases={"small": read_opinions(table, "worse")},
        networks=[network(record)],
        readouts=("euclidean", "weighted_euclidean"),
        baselines=(),
    )
    found = run_study(plan, tmp_path / "out")
    rows = pq.read_table(tmp_path / "out" / "distances.parquet").to_pylist()
    assert {row["layer"] for row in rows if row["error"]} == {"far"}
    assert found.failed == PAIRS * 2
    assert found.reasons == (
        "too_small: the shorter side has 24 pixels; this layer needs at least 32",
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kill -9")
def test_kill_9_at_any_moment_then_resume(tmp_path):
    """The command itself, killed after some blocks, and between the blocks and the tables."""
    table = write_pairs(tmp_path / "images", references=4, levels=9, side=64)
    command = [
        *(sys.executable, "-m", "iqa_metrics.cli", "study", "run", "--pairs", str(table)),
        *("--higher-is", "worse", "--backbone", "efficientnet_lite0", "--no-report"),
        *("--draws", "50", "--baseline", "ssim", "--untrained", "--out"),
    ]
    undisturbed = tmp_path / "undisturbed"
    subprocess.run([*command, str(undisturbed)], check=True, capture_output=True)
    total = len(list((undisturbed / "parts").rglob("*.parquet")))
    assert total > 6
    disturbed, killed = tmp_path / "disturbed", 0
    for blocks in (1, total // 2, total):
        process = subprocess.Popen([*command, str(disturbed)], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if len(list(disturbed.rglob("*.parquet"))) >= blocks:
                os.kill(process.pid, signal.SIGKILL)
                killed += 1
                break
            time.sleep(0.01)
        process.wait()
    assert killed >= 2
    parts = {file: file.stat().st_mtime_ns for file in (disturbed / "parts").rglob("*.parquet")}
    assert parts
    subprocess.run([*command, str(disturbed)], check=True, capture_output=True)
    assert contents(disturbed) == contents(undisturbed)
    hidden = [file for file in parts if file.name.startswith(".")]
    kept = [file for file in parts if file not in hidden]
    assert [file.stat().st_mtime_ns for file in kept] == [parts[file] for file in kept]


def test_only_code_that_measures_decides_whether_a_measurement_is_outdated():
    """A new module of the analysis has to be left out, or every measurement would be repeated."""
    root = Path(content.__file__).parent
    counted = {
        path.name
        for path in root.glob("*.py")
        if not f"study/{path.name}".startswith(content._LEFT_OUT)
    }
    assert counted == {"__init__.py", "content.py", "measuring.py", "store.py", "weighted.py"}
