"""Where weights files are found, and how they are checked."""

import hashlib
import os
import sys
import types

import pytest

from iqa_metrics import WeightsError, WeightsFile

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
