"""Names that load their modules when they are used, and errors below them."""

import importlib
import subprocess
import sys

import pytest

CODE = """
import sys
import iqa_metrics

rooms = ("plugins", "study", "report", "statistics", "datasets", "weights", "io")
found = [getattr(iqa_metrics, name).__name__ for name in rooms]
iqa_metrics.io.tables, iqa_metrics.weights, iqa_metrics.study
print(found, sorted({"torch", "matplotlib", "pyarrow", "scipy"} & set(sys.modules)))
rooms = ("functional", "channel_weights", "scoring")
print([getattr(iqa_metrics, name).__name__ for name in rooms], set(rooms) <= set(dir(iqa_metrics)))
print(iqa_metrics.weights.fetching.fetch, iqa_metrics.scoring.scores.score is iqa_metrics.score)
"""


def test_names_in_the_documentation_exist_after_one_import():
    answer = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    light, heavy, below = answer.stdout.splitlines()
    assert light.startswith("['iqa_metrics.plugins', 'iqa_metrics.study', ")
    assert light.endswith(" []")
    assert (
        heavy
        == "['iqa_metrics.functional', 'iqa_metrics.channel_weights', 'iqa_metrics.scoring'] True"
    )
    assert below.endswith("True")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Return a function that writes a package with lazy names, which is removed afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "lazily"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from iqa_metrics.lazy import attach\n"
        "__getattr__, __dir__, __all__ = attach(__name__, __file__)\n"
    )
    (folder / "__init__.pyi").write_text(
        "from . import below as below\nfrom .below import thing as thing\n"
    )

    def write(code):
        (folder / "below.py").write_text(code)
        for name in [name for name in sys.modules if name.split(".")[0] == "lazily"]:
            monkeypatch.delitem(sys.modules, name)
        import lazily

        return lazily

    return write


@pytest.mark.parametrize("name", ["thing", "below"])
def test_an_attribute_error_below_is_shown_with_its_cause(package, name):
    lazily = package("import math\nthing = math.no_such_function\n")
    with pytest.raises(
        ImportError, match=rf"lazily\.{name} can't be loaded: .*no_such_f"
    ) as caught:
        getattr(lazily, name)
    assert isinstance(caught.value.__cause__, AttributeError)
    with pytest.raises(ImportError, match="no_such_function"):
        exec(f"from lazily import {name}", {})  # noqa: S102 - as a user writes it


@pytest.mark.parametrize("name", ["thing", "below"])
def test_a_missing_package_is_shown_as_it_is(package, name):
    lazily = package("import no_such_package\nthing = 1\n")
    with pytest.raises(ModuleNotFoundError) as caught:
        getattr(lazily, name)
    assert caught.value.name == "no_such_package"
    assert str(caught.value) == "No module named 'no_such_package'"


def test_names_that_are_not_there_are_attribute_errors(package):
    lazily = package("thing = 1\n")
    assert not hasattr(lazily, "other")
    with pytest.raises(AttributeError, match="module 'lazily' has no attribute 'other'"):
        lazily.other  # noqa: B018 - looked up
    with pytest.raises(ImportError, match="cannot import name 'other'"):
        exec("from lazily import other", {})  # noqa: S102 - as a user writes it
    assert lazily.thing == 1
    assert lazily.below.__name__ == "lazily.below"


def test_an_extra_that_is_missing_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    monkeypatch.delitem(sys.modules, "iqa_metrics.torchmetrics", raising=False)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'iqa-metrics\[torchmetrics\]'"):
        importlib.import_module("iqa_metrics.torchmetrics")
