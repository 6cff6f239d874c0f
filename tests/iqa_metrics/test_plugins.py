"""Objects registered by a call or by an entry point are used like built-in ones."""

import dataclasses
import importlib
import json
import pickle
import subprocess
import sys
import threading
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from registering import own_catalogues, write_package
from torch import nn
from typer.testing import CliRunner

import iqa_metrics
from iqa_metrics import (
    METRICS,
    PSNR,
    Backbone,
    DeepDistance,
    DeepSpec,
    Metric,
    MetricRecord,
    Needs,
    PluginError,
    PluginWarning,
    Readout,
    UnknownNameError,
    all_backbones,
    all_databases,
    all_metrics,
    all_readouts,
    backbone,
    create_metric,
    needs,
    parse_spec,
    readout,
    register_backbone,
    register_database,
    register_metric,
    register_readout,
    resolve,
    score,
    select,
)
from iqa_metrics.cli import app
from iqa_metrics.datasets import READERS, DatabaseReader, OpinionPair, read_database
from iqa_metrics.plugins import failures, provider_of, providers_of
from iqa_metrics.study import network as of_plan
from iqa_metrics.study import read_plan
from iqa_metrics.weights.files import WeightsFile


@pytest.fixture(autouse=True)
def loaded(tmp_path, monkeypatch):
    """The plug-ins, only for this test; packages are written into ``tmp_path``."""
    monkeypatch.syspath_prepend(tmp_path)
    with own_catalogues() as fresh:
        yield fresh


class Largest(Metric):
    name = "largest"
    higher_is_better = False
    range = (0.0, 1.0)
    smallest_input = 1
    source = "this test"

    def compare(self, reference, distorted):
        return (reference - distorted).abs().flatten(1).amax(1)


LARGEST = MetricRecord(name="largest", metric=Largest, summary="largest difference")
LARGEST_OF_LAYER = Readout(
    name="largest_of_layer",
    function=lambda x, y: (x - y).abs().flatten(1).amax(1),
    summary="largest difference",
    source="this test",
)


def network(name="tiny", weights=None):
    module = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU())
    made = Backbone.from_module(module, {"relu": "1"}, name=name, goal="none")
    return dataclasses.replace(made, weights=weights)


def read(folder, facts, problems):
    for line in folder.need("list.txt").read_text().split():
        reference, distorted = folder.find("a.png"), folder.find(line)
        if reference and distorted:
            yield OpinionPair(reference, distorted, 3.0)


def database(name="mine"):
    facts = dataclasses.replace(READERS[0].facts, name=name, pairs=None, references=None)
    return DatabaseReader(facts=facts, markers=("list.txt",), read=read)


# By a call --------------------------------------------------------------------------------------


def test_a_registered_metric_is_named_everywhere(pair):
    assert register_metric(LARGEST) is LARGEST
    assert parse_spec(" largest ") == iqa_metrics.NamedSpec("largest")
    assert str(resolve("largest")) == "largest"
    assert needs("largest") == Needs()
    assert all_metrics() == (*METRICS, LARGEST)
    metric = create_metric("largest", memory="1GiB")
    expected = (pair[0] - pair[1]).abs().max()
    assert float(metric(*pair)) == float(expected)
    assert score(*pair, "largest", device="cpu") == float(expected)
    with pytest.raises(ValueError, match="weights: metric 'largest' takes none"):
        create_metric("largest", weights="x")
    listed = json.loads(CliRunner().invoke(app, ["list", "metrics", "--json"]).stdout)
    assert [(row["name"], row["plugin"]) for row in listed[-2:]] == [
        ("perceptnet", None),
        ("largest", __name__),
    ]
    assert listed[-1]["identity"] == 0
    with pytest.raises(UnknownNameError, match="did you mean 'largest'"):
        parse_spec("lagrest")


def test_a_registered_readout_and_backbone_make_specs(pair):
    register_readout(LARGEST_OF_LAYER)
    register_backbone(network())
    assert all_readouts()[-1] is LARGEST_OF_LAYER
    assert select(goal="none") == all_backbones()[-1:]
    spec = "tiny:relu:largest_of_layer"
    assert str(parse_spec(spec)) == spec
    metric = create_metric(spec)
    responses = [backbone("tiny").network()(image) for image in pair]
    expected = (responses[0] - responses[1]).abs().max()
    assert float(metric(*pair)) == pytest.approx(float(expected), rel=1e-5)
    assert metric.name == spec
    shown = [CliRunner().invoke(app, ["list", what]).stdout for what in ("readouts", "backbones")]
    assert "largest_of_layer" in shown[0]
    assert "tiny" in shown[1]
    layers = json.loads(CliRunner().invoke(app, ["list", "layers", "tiny", "--json"]).stdout)
    assert [layer["name"] for layer in layers] == ["relu"]


def test_a_named_metric_may_stand_for_a_registered_deep_distance(pair):
    register_readout(LARGEST_OF_LAYER)
    spec = DeepSpec("efficientnet_lite0", ("block3",), "largest_of_layer")
    record = MetricRecord(
        name="short",
        metric=DeepDistance,
        summary="a short name",
        make=lambda check, weights, _: DeepDistance(
            spec.backbone, spec.layers, spec.readout, weights=weights, check=check
        ),
        needs=Needs(spec.backbone),
        stands_for=spec,
        smallest_input=8,
    )
    register_metric(record)
    assert str(resolve("short")) == str(spec)
    assert float(create_metric("short")(*pair)) == float(create_metric(spec)(*pair))
    assert {one.module for one in providers_of("short")} == {__name__}
    assert providers_of("default") == ()


def test_the_weights_of_a_registered_backbone_are_listed_and_fetched(tmp_path, monkeypatch):
    file = WeightsFile(filename="tiny.pth", sha256="", licence="MIT", source="this test")
    register_backbone(network(weights=file))
    register_metric(dataclasses.replace(LARGEST, needs=Needs("tiny")))
    assert needs("largest").files == (file,)
    rows = json.loads(CliRunner().invoke(app, ["weights", "list", "--json"]).stdout)
    assert [row["for"] for row in rows if row["file"] == "tiny.pth"] == [["tiny", "largest"]]
    for name in ("tiny", "largest", "tiny.pth"):
        result = CliRunner().invoke(app, ["weights", "where", name])
        assert (result.exit_code, "tiny.pth is not on this machine" in result.stderr) == (1, True)
    monkeypatch.setenv("IQA_WEIGHTS", str(tmp_path))
    torch.save(network().network().state_dict(), tmp_path / "tiny.pth")
    result = CliRunner().invoke(app, ["weights", "where", "largest"])
    assert result.stdout.strip() == str(tmp_path / "tiny.pth")


def test_a_registered_database_is_read_checked_and_planned(tmp_path, photographs):
    from PIL import Image

    folder = tmp_path / "below" / "mine"
    folder.mkdir(parents=True)
    for name in ("a.png", "B.png"):
        Image.fromarray(photographs["cat"]).save(folder / name)
    (folder / "list.txt").write_text("b.png gone.png")
    reader = register_database(database())
    assert all_databases() == (*READERS, reader)
    found = read_database("mine", tmp_path / "below", complete=False)
    assert [(p.distorted.name, p.opinion) for p in found.pairs] == [("B.png", 3.0)]
    assert [problem.what for problem in found.problems] == ["gone.png"]
    listed = json.loads(CliRunner().invoke(app, ["datasets", "list", "--json"]).stdout)
    assert [(row["name"], row["plugin"]) for row in listed][-1] == ("mine", __name__)
    (folder / "list.txt").write_text("b.png")
    result = CliRunner().invoke(app, ["datasets", "check", "mine", str(folder)])
    assert (result.exit_code, "whole" in result.stdout) == (0, True)
    register_metric(LARGEST)
    register_readout(LARGEST_OF_LAYER)
    register_backbone(network())
    (tmp_path / "plan.toml").write_text(
        'readouts = ["euclidean", "largest_of_layer"]\nbaselines = ["largest"]\n'
        '[[databases]]\nname = "mine"\nfolder = "below"\n[[backbones]]\nname = "tiny"\n'
        '[[backbones]]\nwhere = { goal = "none" }\n'
    )
    plan = read_plan(tmp_path / "plan.toml", tmp_path / "ladder")
    assert list(plan.databases) == ["mine"]
    assert [one.record.name for one in plan.networks] == ["tiny"]
    assert plan.measured[-1] is LARGEST_OF_LAYER
    assert plan.baselines == ("largest",)


def test_a_record_file_may_build_on_a_registered_backbone(tmp_path, monkeypatch):
    register_backbone(network())
    (tmp_path / "tuned.toml").write_text(
        'name = "tiny.tuned"\nnetwork = "tiny"\ngoal = "more"\n[weights]\nfile = "x.safetensors"\n'
    )
    monkeypatch.setenv("IQA_BACKBONES", str(tmp_path))
    assert backbone("tiny.tuned").layers[0].name == "relu"
    assert [record.name for record in all_backbones()][-2:] == ["tiny", "tiny.tuned"]
    register_backbone(network("tiny.tuned"))
    with pytest.raises(
        ValueError, match=f"'tiny.tuned' is taken .* registered by module {__name__}"
    ):
        all_backbones()


def test_the_torchmetrics_adapter_takes_a_registered_metric(pair):
    from iqa_metrics.torchmetrics import ImageQuality

    register_metric(LARGEST)
    quality = ImageQuality("largest")
    quality.update(pair[1], pair[0])
    assert float(quality.compute()) == float((pair[0] - pair[1]).abs().max())


@pytest.mark.parametrize(
    ("register", "record"),
    [
        (register_metric, LARGEST),
        (register_readout, LARGEST_OF_LAYER),
        (register_backbone, network()),
        (register_database, database()),
    ],
    ids=["metric", "readout", "backbone", "database"],
)
class TestNames:
    def named(self, record, name):
        if isinstance(record, DatabaseReader):
            facts = dataclasses.replace(record.facts, name=name)
            return dataclasses.replace(record, facts=facts)
        return dataclasses.replace(record, name=name)

    @pytest.mark.parametrize(
        "name", ["", "a b", "a:b", "a+b", "2*a", "a,b", "a/b", "..", "-a", "ä", None, 3]
    )
    def test_invalid_names_are_refused(self, register, record, name):
        with pytest.raises(PluginError, match="name: expected letters"):
            register(self.named(record, name))

    def test_taken_names_are_refused_except_for_the_same_object(self, register, record):
        register(record)
        assert register(record) is record
        other = self.named(record, record.name)
        with pytest.raises(PluginError, match=f"is taken: it was registered by module {__name__}"):
            register(other)
        register(other, replace=True)
        known = {
            register_metric: all_metrics,
            register_readout: all_readouts,
            register_backbone: all_backbones,
            register_database: all_databases,
        }[register]()
        assert known[-1] is other
        assert [one.name for one in known].count(record.name) == 1

    def test_built_in_names_can_not_be_replaced(self, register, record):
        name = {
            register_metric: "psnr",
            register_readout: "rmse",
            register_backbone: "vgg16",
            register_database: "live",
        }[register]
        for replace in (False, True):
            with pytest.raises(PluginError, match=f"{name!r} is taken: it is built in"):
                register(self.named(record, name), replace=replace)

    def test_something_else_is_refused(self, register, record):
        for wrong in (None, "largest", Largest, object()):
            with pytest.raises(PluginError, match=f"expected a {type(record).__name__}, got"):
                register(wrong)


def test_names_that_studies_use_are_reserved():
    for name in ("ladder", "pooled"):
        with pytest.raises(PluginError, match="is taken"):
            register_database(database(name))
    for name in ("elements", "channel_squares"):
        with pytest.raises(PluginError, match="is taken"):
            register_readout(dataclasses.replace(LARGEST_OF_LAYER, name=name))
    register_backbone(backbone("vgg16"))  # itself


class Bare(Metric):
    higher_is_better = True
    range = (0.0, 1.0)
    source = "this test"

    def compare(self, reference, distorted):
        return torch.zeros(len(distorted))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"metric": PSNR()}, "metric: expected a subclass of Metric"),
        ({"metric": nn.Module}, "metric: expected a subclass of Metric"),
        ({"metric": Metric}, r"Metric\.higher_is_better: expected True or False, got None"),
        ({"metric": type("Odd", (Bare,), {"range": (1, 0)})}, r"Odd\.range: expected \(least"),
        ({"metric": type("Odd", (Bare,), {"range": "all"})}, r"Odd\.range: expected \(least"),
        ({"metric": type("Odd", (Bare,), {"source": ""})}, r"Odd\.source: expected the paper"),
        (
            {"metric": type("Odd", (Bare,), {"compare": Metric.compare})},
            r"Odd\.compare: expected a method that returns \[N\]",
        ),
        ({"metric": Bare}, "smallest_input: expected a number of pixels"),
        ({"smallest_input": 0}, "smallest_input: expected a number of pixels"),
        ({"summary": None}, "summary: expected one line"),
        ({"make": 3}, "make: expected a function"),
        ({"needs": "vgg16"}, "needs: expected Needs"),
        ({"stands_for": "default"}, "stands_for: expected a DeepSpec"),
        ({"symmetric": "yes"}, "symmetric: expected True or False"),
        ({"identity": float("nan")}, "identity: expected a number"),
    ],
)
def test_a_metric_that_can_not_be_used_is_refused(change, words):
    facts = {"name": "mine", "metric": Largest, "summary": "mine", **change}
    with pytest.raises(PluginError, match=f"metric 'mine': {words}"):
        register_metric(MetricRecord(**facts))
    assert [record.name for record in all_metrics()] == [record.name for record in METRICS]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda *_: None, "expected a function that returns a Metric, got None"),
        (lambda *_: Bare(), r"Bare\.name: expected the metric's spec, got None"),
    ],
)
def test_a_function_that_makes_no_metric_is_refused(make, words):
    register_metric(dataclasses.replace(LARGEST, make=make))
    with pytest.raises(PluginError, match=words):
        create_metric("largest")


@pytest.mark.parametrize(
    ("register", "record", "words"),
    [
        (
            register_readout,
            dataclasses.replace(LARGEST_OF_LAYER, function=None),
            "function: expected a function",
        ),
        (
            register_readout,
            dataclasses.replace(LARGEST_OF_LAYER, joint="sum"),
            "joint: expected a function or None, got 'sum'",
        ),
        (
            register_readout,
            dataclasses.replace(LARGEST_OF_LAYER, weighted=None),
            "weighted: expected True or False",
        ),
        (
            register_readout,
            dataclasses.replace(LARGEST_OF_LAYER, source=""),
            "source: expected one line",
        ),
        (register_backbone, dataclasses.replace(network(), build=None), "build: expected"),
        (register_backbone, dataclasses.replace(network(), scaling=1), "scaling: expected an Inp"),
        (register_backbone, dataclasses.replace(network(), weights="x"), "weights: expected a W"),
        (register_database, dataclasses.replace(database(), facts=None), "facts: expected Data"),
        (register_database, dataclasses.replace(database(), markers="x"), "markers: expected a tu"),
        (register_database, dataclasses.replace(database(), markers=()), "markers: expected a tu"),
        (register_database, dataclasses.replace(database(), read=1), "read: expected a function"),
        (
            register_database,
            dataclasses.replace(
                database(), facts=dataclasses.replace(database().facts, higher_is="up")
            ),
            "higher_is: expected better or worse, got 'up'",
        ),
    ],
)
def test_other_records_that_can_not_be_used_are_refused(register, record, words):
    with pytest.raises(PluginError, match=words):
        register(record)


def test_cached_objects_are_made_again_after_a_replacement(pair):
    from iqa_metrics.functional import deep_distance

    def constant(value):
        return dataclasses.replace(
            LARGEST_OF_LAYER, function=lambda x, y: torch.full((len(y),), value)
        )

    register_readout(constant(1.0))
    spec = "efficientnet_lite0:stem:largest_of_layer"
    parts = {"layers": "stem", "readout": "largest_of_layer"}
    assert score(*pair, spec, device="cpu") == float(deep_distance(*pair, **parts)) == 1
    register_readout(constant(2.0), replace=True)
    assert score(*pair, spec, device="cpu") == float(deep_distance(*pair, **parts)) == 2


CALLS = []


def test_a_study_measures_a_changed_readout_again(tmp_path):
    """Stored values are used for the same code with the same parameters, and for nothing else."""
    from study_material import small_plan

    from iqa_metrics.study import read_distances, run_study

    def shifted(by):
        def function(x, y):
            CALLS.append(by)
            return (x - y).abs().flatten(1).amax(1) + by

        return dataclasses.replace(LARGEST_OF_LAYER, function=function)

    register_metric(LARGEST)
    tiny = register_backbone(network())
    found = []
    for by in (1.0, 1.0, 2.0):
        register_readout(shifted(by), replace=True)
        options = {"readouts": ("euclidean", "largest_of_layer"), "baselines": ("largest",)}
        plan = small_plan(tmp_path, networks=[of_plan(tiny)], **options)
        before = len(CALLS)
        run_study(plan, tmp_path / "out")
        measured = read_distances(tmp_path / "out" / "distances.parquet")["small"]
        readouts = [one.readout for one in measured.series]
        values = [measured.values[readouts.index(name)] for name in options["readouts"]]
        found.append((len(CALLS) > before, *values))
    (first, plain, shifted_once), (again, _, same), (changed, unchanged, shifted_twice) = found
    assert (first, again, changed) == (True, False, True)
    assert np.array_equal(shifted_once, same)
    assert np.allclose(shifted_twice, shifted_once + 1)
    assert np.array_equal(plain, unchanged)


def test_functions_are_told_apart_by_what_they_are_bound_to():
    from iqa_metrics.study.content import function_digest

    def bound(by):
        return lambda x: x + by

    same = [(bound(1), bound(1)), (partial(max, 1), partial(max, 1)), (torch.add, torch.add)]
    same.append((bound(torch.ones(3)), bound(torch.ones(3))))
    other = [(bound(1), bound(1.0)), (partial(max, 1), partial(max, 2)), (torch.add, torch.sub)]
    other += [(bound(torch.ones(3)), bound(torch.zeros(3))), (bound(object()), bound(object()))]
    other += [(lambda x: x + 1, lambda x: x + 2), (bound([1, {"a": 2}]), bound([1, {"a": 3}]))]
    assert all(function_digest(one) == function_digest(two) for one, two in same)
    assert all(function_digest(one) != function_digest(two) for one, two in other)


def test_a_function_is_told_apart_by_the_functions_of_its_module_that_it_calls():
    from iqa_metrics.study.content import function_digest

    def outer(helper):
        names = {"__name__": "a_notebook"}
        exec(f"def h(x):\n    return {helper}\ndef f(x):\n    return h(x)", names)  # noqa: S102
        return names["f"]

    assert function_digest(outer("x + 1")) == function_digest(outer("x + 1"))
    assert function_digest(outer("x + 1")) != function_digest(outer("x + 2"))
    assert function_digest(outer("f(x)")) == function_digest(outer("f(x)"))  # which ends


# By entry points --------------------------------------------------------------------------------

METRIC = """
import torch
from iqa_metrics import Metric, MetricRecord, register_metric

class Mean(Metric):
    name = "{name}"
    higher_is_better = False
    range = (0.0, 1.0)
    smallest_input = 1
    source = "a test"

    def compare(self, reference, distorted):
        return (reference - distorted).abs().flatten(1).mean(1)

def register():
    register_metric(MetricRecord(name="{name}", metric=Mean, summary="mean difference"))
"""


def test_plugins_are_loaded_by_the_first_look_up_of_what_is_not_built_in(tmp_path, loaded, pair):
    module = write_package(tmp_path, "iqa-mean", METRIC.format(name="mean"))
    create_metric("ssim")
    readout("rmse")
    backbone("vgg16")
    assert module not in sys.modules
    metric = create_metric("mean")
    assert module in sys.modules
    assert float(metric(*pair)) == pytest.approx(float((pair[0] - pair[1]).abs().mean()))
    provider = provider_of("metric", "mean")
    assert str(provider) == "plug-in 'iqa-mean' of iqa-mean 1.0"
    assert providers_of("mean") == (provider,)
    assert len(provider.code_digest()) == 64
    assert provider_of("metric", "psnr") is None
    assert provider_of("readout", "no such") is None
    listed = json.loads(CliRunner().invoke(app, ["list", "metrics", "--json"]).stdout)
    assert [row["plugin"] for row in listed if row["name"] == "mean"] == ["iqa-mean 1.0"]
    assert "(iqa-mean 1.0)" in CliRunner().invoke(app, ["list", "metrics"]).stdout
    assert "iqa-mean (plug-in) 1.0" in CliRunner().invoke(app, ["--version"]).stdout


@pytest.mark.parametrize(
    ("code", "function", "cause"),
    [
        ("import no_such_module", "register", "ModuleNotFoundError: No module named 'no_such_mo"),
        ("x = (", "register", "SyntaxError"),
        ("", "register", "AttributeError: module 'iqa_broken' has no attribute 'register'"),
        ("register = 3", "register", "PluginError: expected the entry point to name a function"),
        ("def register(): raise KeyError('gone')", "register", "KeyError: 'gone'"),
        (METRIC.format(name="psnr"), "register", "metric name 'psnr' is taken: it is built in"),
        (
            METRIC.format(name="mean"),
            "register",
            "is taken: it was registered by plug-in 'iqa-alright' of iqa-alright",
        ),
    ],
    ids=["import", "syntax", "nothing", "no function", "raises", "built in", "other"],
)
def test_a_failing_plugin_is_named_with_its_cause_and_breaks_nothing_else(
    tmp_path, code, function, cause
):
    write_package(tmp_path, "iqa-alright", METRIC.format(name="mean"))
    write_package(tmp_path, "iqa-broken", code, function=function, version="2.1")
    with pytest.warns(PluginWarning) as caught:
        assert [record.name for record in all_metrics()][-1] == "mean"
    (warning,) = caught
    named = "plug-in 'iqa-broken' of iqa-broken 2.1 can't be loaded: "
    assert str(warning.message).startswith(named)
    assert cause in str(warning.message)
    with warnings.catch_warnings():  # once is enough
        warnings.simplefilter("error")
        for look_up in (create_metric, readout, backbone):
            with pytest.raises(UnknownNameError) as error:
                look_up("maen")
            assert named in str(error.value)
    (failure,) = failures()
    assert (failure.provider.distribution, str(failure)) == ("iqa-broken", str(warning.message))


def test_a_failed_plugin_registers_nothing(tmp_path):
    parts = """
        from iqa_metrics import Readout, register_readout, register_metric
        def register():
            register_readout(
                Readout(name="half", function=abs, summary="half", source="a test")
            )
            raise RuntimeError("half way")
        """
    code = "\n".join(line[8:] for line in parts.splitlines())
    write_package(tmp_path, "iqa-half", code)
    with (
        pytest.warns(PluginWarning, match="RuntimeError: half way"),
        pytest.raises(UnknownNameError, match="unknown readout 'half'"),
    ):
        readout("half")
    assert "half" not in [record.name for record in all_readouts()]


def test_warnings_on_the_command_line_are_a_line(tmp_path):
    write_package(tmp_path, "iqa-broken", "import no_such_module")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from iqa_metrics.cli import app; "
        "app(['list', 'readouts'])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert answer.stderr.startswith("warning plug-in 'iqa-broken' of iqa-broken 1.0 can't be")
    assert len(answer.stderr.splitlines()) == 1
    assert "wasserstein" in answer.stdout


def test_a_module_that_looks_names_up_while_it_is_imported(tmp_path):
    """By its user first, and not by the look-up that finds its entry point."""
    code = (
        "from iqa_metrics import all_metrics, readout\nBEFORE = len(all_metrics())\n"
        "try: readout('no such')\nexcept ValueError: pass\n"
    )
    module = write_package(tmp_path, "iqa-mean", code + METRIC.format(name="mean"))
    imported = importlib.import_module(module)
    assert len(METRICS) == imported.BEFORE
    assert create_metric("mean").name == "mean"
    assert failures() == ()


def test_what_a_plugins_module_registers_by_itself_is_the_plugins(tmp_path):
    code = METRIC.format(name="mean").replace("def register():\n    ", "RECORD = ")
    module = write_package(tmp_path, "iqa-mean", f"{code}\ndef register(): register_metric(RECORD)")
    importlib.import_module(module)
    assert provider_of("metric", "mean").distribution == "iqa-mean"
    assert failures() == ()


def test_threads_load_each_plugin_once(tmp_path):
    code = (
        "import threading, time\nCALLS = []\n"
        + METRIC.format(name="mean")
        + "    CALLS.append(threading.get_ident())\n    time.sleep(0.1)\n"
    )
    module = write_package(tmp_path, "iqa-mean", code)
    found, start = [], threading.Barrier(8)

    def look_up():
        start.wait()
        found.append(create_metric("mean").name)

    threads = [threading.Thread(target=look_up) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["mean"] * 8
    assert len(sys.modules[module].CALLS) == 1


def test_a_registered_metric_can_be_pickled_as_its_class_can(pair):
    register_metric(LARGEST)
    metric = pickle.loads(pickle.dumps(create_metric("largest")))  # noqa: S301 - pickled here
    assert float(metric(*pair)) == float((pair[0] - pair[1]).abs().max())
