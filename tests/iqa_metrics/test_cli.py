"""The iqa command, run as a person runs it."""

import csv
import functools
import json
import os
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import distributions, version
from pathlib import Path

import pytest
import torch
from material import encoded
from processes import told_versions
from typer.testing import CliRunner

from iqa_metrics import BACKBONES, METRICS, READOUTS, backbone, create_metric, metrics, score
from iqa_metrics.cli import app
from iqa_metrics.scoring import whole_tables


def iqa(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def files(tmp_path, photographs):
    reference, distorted = tmp_path / "reference.png", tmp_path / "distorted.jpg"
    reference.write_bytes(encoded(photographs["cat"]))
    distorted.write_bytes(encoded(photographs["cat"], "JPEG", quality=10))
    return reference, distorted


def test_one_pair(files):
    result = iqa("score", *files)
    line, signature = result.stdout.splitlines()
    name, value, direction = line.split("\t")
    assert signature.startswith("# efficientnet_lite0:block14:rmse|colour:srgb|space:rgb|")
    assert (result.exit_code, name, direction) == (0, "default", "lower is better")
    assert float(value) == pytest.approx(score(*files), rel=1e-5)


def test_one_pair_as_json(files):
    result = iqa("score", *files, "-m", "psnr", "--metric", "default", "--json")
    rows = json.loads(result.stdout)
    assert [row["metric"] for row in rows] == ["psnr", "default"]
    assert [row["higher_is_better"] for row in rows] == [True, False]
    assert [row["value"] for row in rows] == [score(*files, row["metric"]) for row in rows]
    assert rows[1]["resolved"] == "efficientnet_lite0:block14:rmse"
    identical = json.loads(iqa("score", files[0], files[0], "-m", "psnr", "--json").stdout)
    assert identical[0]["value"] == "Infinity"


def test_a_table(files, tmp_path):
    pairs, out = tmp_path / "pairs.csv", tmp_path / "scores.csv"
    pairs.write_text(
        "reference,distorted,mos\nreference.png,distorted.jpg,1\nreference.png,gone.png,2\n"
    )
    result = iqa("score", "--pairs", pairs, "-m", "psnr", "-m", "ssim", "--out", out)
    assert result.exit_code == 1
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [(r["metric"], r["mos"], bool(r["error"])) for r in rows] == [
        *(("psnr", "1", False), ("ssim", "1", False), ("psnr", "2", True), ("ssim", "2", True))
    ]
    assert float(rows[0]["value"]) == score(*files, "psnr")
    pairs.write_text("reference,distorted\nreference.png,distorted.jpg\n")
    result = iqa("score", "--pairs", pairs, "-m", "psnr", "--out", "-")
    assert result.exit_code == 0
    assert "reference,distorted,metric,value,error,colour,signature\n" in result.stdout


def test_computing_options_are_passed_on(files, tmp_path, monkeypatch):
    made, create = [], create_metric

    def recorded(spec, **options):
        made.append((spec, {**options, "device": str(options["device"])}))
        return create(spec)

    for module in (metrics, whole_tables):
        monkeypatch.setattr(module, "create_metric", recorded)
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("reference,distorted\nreference.png,distorted.jpg\n")
    assert iqa("score", *files, "-m", "psnr", "--workers", 1, "--device", "cpu").exit_code == 0
    options = ["--precision", "bfloat16", "--compile", "--memory", "2GiB", "--device", "cpu"]
    table = ["--pairs", pairs, "--out", tmp_path / "scores.csv", "--workers", 3]
    assert iqa("score", *table, "-m", "psnr", *options).exit_code == 0
    assert made == [
        ("psnr", {"device": "cpu"}),
        (
            "psnr",
            {"device": "cpu", "precision": "bfloat16", "compile": True, "memory": "2GiB"},
        ),
    ]


def test_a_background(tmp_path):
    from PIL import Image

    path = tmp_path / "clear.png"
    path.write_bytes(encoded(Image.new("RGBA", (64, 64), (255, 0, 0, 128))))
    assert iqa("score", path, path, "-m", "psnr").exit_code == 1
    assert iqa("score", path, path, "-m", "psnr", "--background", "white").exit_code == 0
    result = iqa("score", path, path, "--background", "greenish")
    assert result.exit_code == 2
    assert "expected a name or #rrggbb" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["score"], 2, "expected REFERENCE and DISTORTED"),
        (["score", "{0}"], 2, "expected REFERENCE and DISTORTED"),
        (["score", "{0}", "{1}", "-m", "ssmi"], 2, "did you mean 'ssim'"),
        (["score", "{0}", "{1}", "-m", "vgg16:relu1_1:rmse"], 2, "iqa weights fetch"),
        (["score", "{0}", "{1}", "--device", "cuda:99"], 2, "there is no device"),
        (["score", "{0}", "{1}", "--out", "x.csv"], 2, "--out is only for --pairs"),
        (["score", "{0}", "gone.png"], 1, "not_found: gone.png"),
        (["score", "{0}", "{2}"], 1, "bad_image"),
        (["score", "--pairs", "{2}"], 2, "--pairs needs --out"),
        (["score", "--pairs", "{2}", "--out", "x.csv"], 2, "no column reference"),
        (["score", "--pairs", "gone.csv", "--out", "x.csv"], 2, "can't be opened"),
        (["score", "{0}", "{1}", "--pairs", "{2}"], 2, "got both"),
        (
            ["score", "--pairs", "{2}", "--out", "x", "--json"],
            2,
            "--json is only for a single pair",
        ),
        (["score", "--pairs", "{3}", "--out", "{3}"], 2, "name another file"),
        (["score", "--pairs", "{3}", "--out", "no/such/folder/x.csv"], 2, "can't be written"),
        (["score", "--pairs", "{4}", "-m", "psnr", "--out", "/dev/full"], 2, "can't be written"),
        (["score", "--pairs", "{3}", "--out", "-", "--resume"], 2, "--resume needs the file"),
        (["score", "{0}", "{1}", "--resume"], 2, "--resume is only for --pairs"),
        (["score", "{0}", "{1}", "--workers", "0"], 2, "for '--workers'"),
        (["score", "{0}", "{1}", "--precision", "float8"], 2, "precision: expected"),
        (["score", "{0}", "{1}", "--memory", "lots"], 2, "memory: expected"),
        (["list", "layers", "vgg166"], 2, "did you mean 'vgg16'"),
        (["weights", "fetch", "vgg166"], 2, "did you mean 'vgg16'"),
    ],
)
def test_errors_of_usage_are_one_line(files, tmp_path, arguments, status, words):
    text, pairs = tmp_path / "text.csv", tmp_path / "pairs.csv"
    text.write_text("hello\n")
    pairs.write_text("reference,distorted\n")
    full = tmp_path / "full.csv"
    full.write_text("reference,distorted\nreference.png,distorted.jpg\n")
    result = iqa(*(a.format(*files, text, pairs, full) for a in arguments))
    assert result.exit_code == status
    assert words in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "x.csv").exists()


def test_lists():
    names = [b.name for b in BACKBONES]
    assert [b["name"] for b in json.loads(iqa("list", "backbones", "--json").stdout)] == names
    layers = json.loads(iqa("list", "layers", "vgg16", "--json").stdout)
    assert [layer["name"] for layer in layers] == [layer.name for layer in backbone("vgg16").layers]
    metrics = json.loads(iqa("list", "metrics", "--json").stdout)
    assert [m["name"] for m in metrics] == [m.name for m in METRICS]
    assert {m["name"] for m in metrics if m["here"]} >= {"default", "psnr", "ms_ssim"}
    readouts = {r["name"]: r for r in json.loads(iqa("list", "readouts", "--json").stdout)}
    assert list(readouts) == [r.name for r in READOUTS]
    assert readouts["cosine"]["concatenations"] == ["sum", "sum_per_element"]
    for arguments in (["metrics"], ["readouts"], ["backbones"], ["layers", "resnet50"]):
        result = iqa("list", *arguments)
        assert result.exit_code == 0
    assert "layer4.2" in result.stdout


def test_metrics_without_weights_and_weights_that_can_not_be_fetched():
    result = iqa("weights", "fetch", "psnr")
    assert result.exit_code == 0
    assert "psnr needs no weights" in result.stderr
    result = iqa("weights", "fetch", "perceptnet")
    assert result.exit_code == 2
    assert "alexhepburn/perceptnet" in result.stderr
    rows = [line.split() for line in iqa("list", "metrics").stdout.splitlines()]
    assert "hand" in next(row for row in rows if row[:1] == ["perceptnet"])


def test_two_spellings_of_a_metric_are_the_same_metric(files, tmp_path):
    reference, distorted = files[:2]
    pairs = tmp_path / "pairs.csv"
    pairs.write_text(f"reference,distorted\n{reference},{distorted}\n")
    specs = ["-m", "psnr", "-m", " psnr", "-m", "ssim"]
    result = iqa("score", "--pairs", pairs, *specs, "--out", tmp_path / "scores.csv")
    assert "2 of 2 scores" in result.stderr


def test_the_command_answers_without_torch():
    # Said by the interpreter itself: what --help imports.
    code = (
        "import sys\nfrom iqa_metrics.cli import app\ntry: app(['--help'])\n"
        "except SystemExit: pass\nprint('torch' in sys.modules)"
    )
    environment = {**os.environ, "COLUMNS": "200"}
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert answer.stdout.strip().endswith("False")
    assert "pretrained networks" in answer.stdout


@pytest.mark.parametrize("command", ["iqa_metrics", "iqa_metrics.cli"])
def test_versions_are_told_without_torch(command):
    lines = told_versions(command)
    here = {distribution.name for distribution in distributions()}
    names = [name for name in ("iqa-metrics", "iqa-torchserve", "torch") if name in here]
    assert lines[: len(names)] == [f"{name} {version(name)}" for name in names]
    assert lines[-1] == "0 False"


def test_the_module_is_the_command():
    run = [sys.executable, "-m", "iqa_metrics"]
    answer = subprocess.run([*run, "list", "--help"], capture_output=True, text=True, check=True)
    assert "Usage: iqa list" in answer.stdout
    answer = subprocess.run([*run, "scroe"], capture_output=True, text=True)
    assert (answer.returncode, "No such command" in answer.stderr) == (2, True)


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A record whose weights are on a server on this machine, and the server's folder."""
    folder = tmp_path / "www"
    folder.mkdir()
    torch.manual_seed(0)
    torch.save(backbone("squeezenet1_1").build().state_dict(), folder / "mine.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    handler = functools.partial(SimpleHTTPRequestHandler, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        record = tmp_path / "mine.toml"
        record.write_text(
            'name = "mine"\nnetwork = "squeezenet1_1"\ngoal = "tests"\nweights = {file = '
            f'"mine.pth", url = "http://127.0.0.1:{http.server_address[1]}/mine.pth"}}\n'
        )
        monkeypatch.setenv("IQA_BACKBONES", str(record))
        yield folder
        http.shutdown()
        thread.join()


def test_weights_from_fetching_to_scoring(served, files, tmp_path):
    result = iqa("weights", "where", "mine")
    assert result.exit_code == 1
    for words in (
        "mine.pth is not on this machine",
        "iqa weights fetch mine.pth",
        "http://127.0.0.1",
    ):
        assert words in result.stderr
    result = iqa("score", *files, "-m", "mine:fire9:rmse")
    assert result.exit_code == 2
    assert "run 'iqa weights fetch mine' to download it" in result.stderr
    result = iqa("weights", "fetch", "mine")
    assert result.exit_code == 0, result.output
    path = result.stdout.strip()
    assert path == str(tmp_path / "mine.pth")
    assert "has no published SHA-256" in result.stderr
    assert iqa("weights", "where", "mine").stdout.strip() == path
    assert iqa("weights", "verify", "mine").stdout.split() == ["mine.pth", "recorded"]
    listed = json.loads(iqa("weights", "list", "--here", "--json").stdout)
    assert [row["for"] for row in listed if row["file"] == "mine.pth"] == [["mine"]]
    assert "mine.pth" in iqa("weights", "list").stdout
    assert iqa("score", *files, "-m", "mine:fire9:rmse").exit_code == 0
    Path(path).write_bytes(Path(path).read_bytes() + b"x")
    result = iqa("weights", "verify", "--json")
    assert result.exit_code == 1
    rows = {row["file"]: row for row in json.loads(result.stdout)}
    assert "damaged or another file" in rows["mine.pth"]["error"]
    assert rows["efficientnet-lite0-57934424.pth"]["error"] is None
    assert rows["efficientnet-lite0-57934424.pth"]["against"] == "published"
    Path(path).unlink()
    result = iqa("weights", "add", "mine", tmp_path / "gone.pth")
    assert (result.exit_code, "there is no such file" in result.stderr) == (2, True)
    assert iqa("weights", "add", "mine", served / "mine.pth").stdout.strip() == path
    assert iqa("weights", "verify", "mine").exit_code == 0
    result = iqa("weights", "add", "psnr", served / "mine.pth")
    assert (result.exit_code, "psnr needs no weights" in result.stderr) == (2, True)
    result = iqa("weights", "add", "lpips_alex", served / "mine.pth")
    assert (result.exit_code, "name the one that this file is" in result.stderr) == (2, True)


def test_backbones_are_listed_by_their_factors(served):
    text = iqa("list", "backbones").stdout
    assert "self-supervised: rotation, ImageNet-22k" in text
    assert "resnet50.rotnet_in22k" in text
    assert "alexnet.untrained" not in text
    assert "alexnet.untrained" in iqa("list", "backbones", "--all").stdout
    assert "alexnet.untrained" in iqa("list", "backbones", "--where", "goal=untrained").stdout
    assert iqa("list", "backbones", "--where", "goal=tests").stdout.split()[:1] == ["tests"]
    rows = json.loads(
        iqa("list", "backbones", "--where", "goal=jigsaw", "--where=data=YFCC100M", "--json").stdout
    )
    assert {row["architecture"] for row in rows} == {"ResNet-50", "AlexNet (jigsaw)"}
    assert rows[0]["url"].startswith("https://")
    for query, words in (
        *(("goal", "expected FACTOR=VALUE"), ("family=ResNets", "did you mean")),
        *(("among=x", "unknown factor 'among'"), ("goal=rotation", "two things at once")),
    ):
        result = iqa("list", "backbones", "--where", query, "--where", "goal=jigsaw")
        assert (result.exit_code, words in result.stderr) == (2, True)
    every = json.loads(iqa("list", "layers", "alexnet", "--all", "--json").stdout)
    assert [layer["name"] for layer in every] == [str(index) for index in range(13)]
    assert "224x224" in iqa("list", "layers", "maxvit_t").stdout
    found = json.loads(iqa("list", "comparisons", "depth", "--where=family=VGG", "--json").stdout)
    assert list(found[0]["sets"]) == ["11", "13", "16", "19"]
    assert "vgg19_bn" in iqa("list", "comparisons", "depth", "--where=family=VGG").stdout
    result = iqa("list", "comparisons", "colour")
    assert (result.exit_code, "unknown factor" in result.stderr) == (2, True)


def test_an_alias_is_listed_and_fetched(monkeypatch):
    from iqa_metrics.weights import fetching

    assert "LPIPS v0.1 in AlexNet; also called lpips" in iqa("list", "metrics").stdout
    rows = json.loads(iqa("list", "metrics", "--json").stdout)
    assert {row["name"]: row["aliases"] for row in rows if row["aliases"]} == {
        "lpips_alex": ["lpips"]
    }
    monkeypatch.setattr(fetching, "fetch", lambda file, **_: file.filename)
    fetched = [iqa("weights", "fetch", name).stdout for name in ("lpips", "lpips_alex")]
    assert fetched[0] == fetched[1] != ""


def test_rows_of_an_alias_have_the_metric_s_name(files, monkeypatch):
    monkeypatch.setattr(metrics, "create_metric", lambda spec, **_: create_metric("mse"))
    result = iqa("score", *files, "-m", "lpips", "-m", "lpips_alex", "--json")
    assert [row["metric"] for row in json.loads(result.stdout)] == ["lpips_alex"]
