"""The versions that the iqa-serve command prints."""

from importlib.metadata import version

from processes import told_versions


def test_versions_are_printed_without_torch():
    lines = told_versions("iqa_torchserve.cli")
    names = ("iqa-metrics", "iqa-torchserve", "torch")
    assert lines[:3] == [f"{name} {version(name)}" for name in names]
    assert lines[-1] == "0 False"
