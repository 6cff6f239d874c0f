"""Both wheels, built and installed into a separate environment, score a pair."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from material import REPOSITORY, encoded


def uv(*arguments):
    subprocess.run(
        [sys.executable, "-m", "uv", *arguments], check=True, cwd=REPOSITORY, capture_output=True
    )


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheels")
    for package in ("iqa-metrics", "iqa-torchserve"):
        # sdist first, and the wheel from it: what a package index would serve.
        uv("build", "--quiet", "--out-dir", str(folder), f"packages/{package}")
    python = folder / "venv" / "bin" / "python"
    uv("venv", "--quiet", "--no-python-downloads", "--python", sys.executable, str(folder / "venv"))
    wheels = sorted(str(path) for path in folder.glob("*.whl"))
    assert len(wheels) == 2
    uv("pip", "install", "--quiet", "--python", str(python), "-c", "constraints.txt", *wheels)
    share_bytecode(python)
    return folder, python


def share_bytecode(python):
    """Copy the bytecode of equal files from here: a first start would compile all of torch.

    Python ignores bytecode that does not have the time and size of its source.
    """
    here = Path(sysconfig.get_path("purelib"))
    there = python.parents[1] / here.relative_to(sys.prefix)
    for source in there.rglob("*.py"):
        name = f"__pycache__/{source.stem}.{sys.implementation.cache_tag}.pyc"
        compiled = here / source.relative_to(there).parent / name
        if compiled.exists():
            target = source.parent / name
            target.parent.mkdir(exist_ok=True)
            os.link(compiled, target)


def run(python, folder, *arguments):
    answer = subprocess.run(
        [str(python.parent / arguments[0]), *arguments[1:]],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def test_installed_wheels_score_a_pair(environment, photographs):
    from iqa_metrics import score

    folder, python = environment
    (folder / "a.png").write_bytes(encoded(photographs["cat"]))
    (folder / "b.jpg").write_bytes(encoded(photographs["cat"], "JPEG", quality=10))
    printed = run(python, folder, "iqa", "score", "a.png", "b.jpg")
    expected = score(folder / "a.png", folder / "b.jpg")
    assert float(printed.split("\t")[1]) == pytest.approx(expected, rel=1e-5)


def test_the_installed_iqa_torchserve_builds_the_same_archive(environment, tmp_path):
    from iqa_torchserve.archive import build_archive

    folder, python = environment
    run(python, folder, "iqa-serve", "build", "--out", "store")
    ours = build_archive(tmp_path)
    assert (folder / "store/iqa.mar").read_bytes() == ours.read_bytes()


def test_wheels_contain_what_they_should(environment):
    folder, _ = environment
    names = {
        wheel.name.split("-")[0]: zipfile.ZipFile(wheel).namelist()
        for wheel in folder.glob("*.whl")
    }
    assert "iqa_metrics/py.typed" in names["iqa_metrics"]
    assert "iqa_torchserve/py.typed" in names["iqa_torchserve"]
    assert "iqa_torchserve/handlers/full_reference.py" in names["iqa_torchserve"]
    for entries in names.values():
        assert any(entry.endswith("licenses/LICENSE") for entry in entries)
        parts = {part for entry in entries for part in entry.split("/")}
        assert not [p for p in parts if p.startswith(("test_", "conftest")) or p == "tests"]
