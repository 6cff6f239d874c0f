"""The example plug-in: it is correct, and every command knows it once it is installed."""

import csv
import itertools
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from material import REPOSITORY, encoded
from registering import own_catalogues
from scipy.signal import convolve2d

EXAMPLE = REPOSITORY / "examples" / "plugin"
SPECS = ("gmsd", "gabor:energy+normalised:huber:joint", "efficientnet_lite0:block3:huber")


@pytest.fixture
def example(monkeypatch):
    """The package, registered in this process without an installer."""
    monkeypatch.syspath_prepend(EXAMPLE / "src")
    import iqa_example

    with own_catalogues():
        iqa_example.register()
        yield iqa_example


def gmsd(reference, distorted):
    """The authors' computation on luminance from 0 to 255, in float64."""

    def magnitude(image):
        luma = image[0].double().numpy().transpose(1, 2, 0) @ [0.299, 0.587, 0.114] * 255
        # MATLAB's 'same' leaves the first row and column of the whole convolution away.
        halved = convolve2d(luma, np.full((2, 2), 0.25))[1:, 1:][::2, ::2]
        prewitt = np.array([[1, 0, -1]] * 3) / 3
        return np.hypot(*(convolve2d(halved, p, mode="same") for p in (prewitt, prewitt.T)))

    x, y = magnitude(reference), magnitude(distorted)
    return np.std((2 * x * y + 170) / (x**2 + y**2 + 170), ddof=1)


@pytest.mark.parametrize("size", [(96, 112), (95, 113), (64, 63), (5, 4)])
def test_gmsd_equals_the_authors(example, pair, size):
    from iqa_metrics import create_metric

    images = [image[..., : size[0], : size[1]] for image in pair]
    expected = gmsd(*images)
    metric = create_metric("gmsd")
    assert float(metric(*images)) == pytest.approx(expected, rel=1e-5)
    wide = metric(*(image.double() for image in images))
    assert wide.dtype == torch.float64
    assert float(wide) == pytest.approx(expected, rel=1e-9)


def test_gmsd_has_a_right_gradient(example):
    from iqa_metrics import create_metric

    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(1, 3, 4, 5, dtype=torch.float64, generator=generator) for _ in range(2))
    metric = create_metric("gmsd", check="off")
    assert torch.autograd.gradcheck(lambda t: metric(x, t), (y.requires_grad_(),))


def test_its_readout_and_backbone_are_right(example, pair):
    from iqa_metrics import backbone, create_metric, readout

    x, y = (backbone("gabor").network()(image) for image in pair)
    assert x.shape == (1, 12, *pair[0].shape[-2:])
    losses = torch.nn.functional.huber_loss(x, y, reduction="none")
    record = readout("huber")
    assert float(record.function(x, y)) == pytest.approx(float(losses.mean()), rel=1e-5)
    assert torch.allclose(record.map(x, y), losses.mean(1, keepdim=True), atol=1e-7)
    assert torch.equal(record.function(x, torch.cat([x, y]))[:1], torch.zeros(1))
    metric = create_metric("gabor:normalised:huber")
    assert float(metric(*pair)) == pytest.approx(float(losses.mean()), rel=1e-5)
    layers = backbone("gabor").layers
    assert [(layer.name, layer.channels, layer.stride) for layer in layers] == [
        *(("energy", 12, 1), ("normalised", 12, 1))
    ]


# Installed ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the installed package; with it on the path, Python has the plug-in."""
    pytest.importorskip("uv")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*command, "--target", str(folder), str(EXAMPLE)], check=True)
    return folder


@pytest.fixture(scope="module")
def lab(tmp_path_factory, photographs):
    """A database in the layout that the package reads, a plan for it, and a pair of its images."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "images").mkdir()
    random = np.random.default_rng(0)
    rows = []
    for name, photograph in photographs.items():
        reference = photograph[:72, :80]
        (folder / "images" / f"{name}.png").write_bytes(encoded(reference))
        for level in range(1, 5):
            noise = random.normal(0, 8 * level, reference.shape)
            noisy = (reference + noise).clip(0, 255).astype(np.uint8)
            (folder / "images" / f"{name}_{level}.png").write_bytes(encoded(noisy))
            rows.append((f"{name}.png", f"{name}_{level}.PNG", f"{5.5 - level}", "noise"))
    with (folder / "ratings.tsv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerows([("reference", "distorted", "mos", "distortion"), *rows])
    (folder / "plan.toml").write_text(
        'readouts = ["euclidean", "huber"]\nbaselines = ["psnr", "gmsd"]\n'
        '[statistics]\ndraws = 40\n[[databases]]\nname = "lab"\nfolder = "."\n'
        '[[backbones]]\nname = "gabor"\n[[backbones]]\nwhere = { family = "model of V1" }\n'
    )
    return folder


def run(*arguments, site=None, status=0, folder=None):
    """Run Python with the package's folder on the path, or without, and return what it prints."""
    paths = [str(site)] if site else []
    inherited = os.environ.get("PYTHONPATH")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*paths, *([inherited] if inherited else [])]),
        "COLUMNS": "200",
    }
    answer = subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=folder,
    )
    assert answer.returncode == status, answer.stderr
    return answer.stderr if status else answer.stdout


LISTED = """
import json
from typer.testing import CliRunner
from iqa_metrics.cli import app

for command, name in (
    ("list metrics", "gmsd"), ("list readouts", "huber"), ("list backbones", "gabor"),
    ("datasets list", "lab"),
):
    listed = CliRunner().invoke(app, [*command.split(), "--json"]).stdout
    print(json.dumps([json.loads(listed), name]))
"""


@pytest.mark.slow
def test_the_command_lists_scores_and_checks(installed, lab):
    iqa = ("-m", "iqa_metrics")
    assert "iqa-example (plug-in) 0.1.0" in run(*iqa, "--version", site=installed)
    for line in run("-c", LISTED, site=installed).splitlines():
        listed, name = json.loads(line)
        assert {row["name"]: row["plugin"] for row in listed}[name] == "iqa-example 0.1.0"
    assert "12 of ? pairs, whole" in run(*iqa, "datasets", "check", "lab", lab, site=installed)
    images = [lab / "images" / name for name in ("cat.png", "cat_3.png")]
    options = [option for spec in SPECS for option in ("-m", spec)]
    rows = json.loads(run(*iqa, "score", *images, *options, "--json", site=installed))
    assert [row["metric"] for row in rows] == list(SPECS)
    assert all(row["value"] > 0 for row in rows)
    said = run(*iqa, "score", *images, "-m", "gmsd", status=2)
    assert "unknown metric 'gmsd'" in said


@pytest.mark.slow
def test_a_study_measures_it(installed, lab, tmp_path):
    pytest.importorskip("pyarrow")
    out = tmp_path / "study"
    command = ("-m", "iqa_metrics", "study", "run", lab / "plan.toml", "--out", out)
    run(*command, site=installed)
    said = json.loads((out / "study.json").read_text())
    assert [one["name"] for one in said["baselines"]] == ["psnr", "gmsd"]
    assert [one["name"] for one in said["backbones"]] == ["gabor"]
    from iqa_metrics.study import read_distances

    measured = read_distances(out / "distances.parquet")["lab"]
    deep = itertools.product(["gabor"], ["energy", "normalised"], ["euclidean", "huber"])
    assert {(one.backbone, one.layer, one.readout) for one in measured.series} == {
        *(("psnr", "", ""), ("gmsd", "", "")),
        *deep,
    }
    assert np.isfinite(measured.values).all()


SPAWNED = """
import multiprocessing, sys, torch
from iqa_metrics import create_metric

def value(spec):
    images = torch.rand(2, 1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    return float(create_metric(spec)(*images))

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        specs = sys.argv[1:]
        print(pool.map(value, specs) == [value(spec) for spec in specs])
"""


@pytest.mark.slow
def test_spawned_processes_know_it(installed, tmp_path):
    (tmp_path / "spawned.py").write_text(SPAWNED)
    assert run(tmp_path / "spawned.py", *SPECS, site=installed).strip() == "True"


@pytest.mark.slow
def test_an_archive_names_the_package(installed, lab, tmp_path):
    pytest.importorskip("iqa_torchserve")
    serve = ("-m", "iqa_torchserve.cli")
    options = [option for spec in SPECS for option in ("-m", spec)]
    run(*serve, "build", *options, "--out", tmp_path, site=installed)
    mar = tmp_path / "iqa.mar"
    said = json.loads(run(*serve, "check", mar, site=installed))
    assert [one["metric"] for one in said["metrics"]] == list(SPECS)
    refused = run(*serve, "check", mar, status=2)
    assert "need iqa-example==0.1.0, which is not installed: pip install iqa-example" in refused
    code = (
        "import sys; from pathlib import Path\n"
        "from iqa_torchserve.archive import unpack_archive\n"
        "from iqa_torchserve.scorer import Scorer\n"
        "folder = Path(sys.argv[2]); unpack_archive(Path(sys.argv[1]), folder)\n"
        "images = [Path(name).read_bytes() for name in sys.argv[3:5]]\n"
        "request = dict(zip(('reference', 'distorted'), images), metric=','.join(sys.argv[5:]))\n"
        "(reply,) = Scorer.from_archive(folder).answer([request])\n"
        "print(reply.status, [one['value'] for one in reply.body['results'][0]['scores']])"
    )
    images = [lab / "images" / name for name in ("cat.png", "cat_3.png")]
    answer = run("-c", code, mar, tmp_path / "unpacked", *images, *SPECS, site=installed)
    scored = json.loads(
        run("-m", "iqa_metrics", "score", *images, *options, "--json", site=installed)
    )
    status, values = answer.split(" ", 1)
    assert status == "200"
    assert json.loads(values) == pytest.approx([row["value"] for row in scored], rel=1e-5)


@pytest.mark.slow
def test_its_metric_keeps_the_contract(installed):
    tests = REPOSITORY / "tests" / "iqa_metrics" / "test_contract.py"
    command = ("-m", "pytest", "-q", tests, "-k", "gmsd", "-p", "no:cacheprovider")
    printed = run(*command, site=installed, folder=REPOSITORY)
    passed = int(printed.rsplit(" passed", 1)[0].split()[-1])
    assert passed > 20
