"""The versions that the iqa-serve command prints."""

import subprocess
import sys
from importlib.metadata import version

import pytest
from processes import told_versions


def test_versions_are_printed_without_torch():
    lines = told_versions("iqa_torchserve.cli")
    names = ("iqa-metrics", "iqa-torchserve", "torch")
    assert lines[:3] == [f"{name} {version(name)}" for name in names]
    assert lines[-1] == "0 False"


ENDING = """
import gc, os, signal, time, weakref
from iqa_torchserve import cli

class Held:
    pass

cli._end_politely()
held = Held()
weakref.finalize(held, os.kill, os.getpid(), signal.SIGTERM)
del held
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_sigterm_in_a_finalizer_still_ends_a_command():
    """Python ignores what is raised there, so the signal has to be sent again."""
    ended = subprocess.run([sys.executable, "-c", ENDING], timeout=50, stderr=subprocess.PIPE)
    assert ended.returncode == 128 + 15
    assert b"Traceback" not in ended.stderr
