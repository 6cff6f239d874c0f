"""The logic of the benchmark, without its measurements."""

import json
import os
import subprocess
import sys

import pytest
import torch
from material import REPOSITORY
from seeded import trunk

sys.path.insert(0, str(REPOSITORY))  # benchmarks/ is not installed

from benchmarks import cases, peers, processes, report, rows, tables, targets, timing
from benchmarks.child import KINDS
from benchmarks.contests import deviation
from benchmarks.layers import by_hooks, every_layer, sum_of_layers
from benchmarks.photographs import one_to_many, pairs
from benchmarks.winograd import without_it

from iqa_metrics import LPIPS, backbone
from iqa_metrics.compute.winograd import WinogradConv2d


def contest(ours, theirs, floor=None, **more):
    """Return the report of a process, with one time each."""
    return {
        "side": "all",
        "ours": {"float32": {"ms": ours}},
        "peers": {name: {"ms": ms} for name, ms in theirs.items()},
        "information": {},
        "floor": floor and {"ms": floor},
        "absent": {},
        "deviations": {"float32": dict.fromkeys(theirs, 5e-7)},
        "warm_ups": {},
        "notes": [],
    } | more


def test_cases_have_unique_names_and_can_be_run():
    names = [case.name for case in cases.CASES]
    assert len(set(names)) == len(names)
    for case in cases.CASES:
        assert case.kind in KINDS
        assert case.rows
        assert case.processes >= 1


def test_each_target_of_lpips_has_its_rows():
    for net in cases.NETS:
        bounds = {
            (case.name.split(", ", 1)[1], row.ours): row.at_most
            for case in cases.CASES
            if case.options.get("net") == net and case.kind == "lpips"
            for row in case.rows
        }
        for way, of_net in targets.LPIPS.items():
            for batch in (1, 8):
                assert bounds[f"512x384, batch {batch}", way] == of_net[net]
        for precision, of_net in targets.LPIPS_SHARED.items():
            rows_of = [
                bound
                for (name, way), bound in bounds.items()
                if "1 reference x 24" in name and way.startswith(precision)
            ]
            assert rows_of
            assert set(rows_of) == {of_net[net]}


def test_bfloat16_may_deviate_more():
    for case in cases.CASES:
        for row in case.rows:
            if case.kind == "lpips":
                low = row.ours.startswith("bfloat16")
                assert row.deviation_at_most == (3e-3 if low else 1e-6)


@pytest.mark.parametrize("net", cases.NETS)
def test_the_authors_package_has_the_same_weights(net):
    x, y = pairs((96, 80), 2)
    ours = LPIPS(net, trunk=peers.bare(net))
    theirs = peers.lpips(net)
    with torch.inference_mode():
        assert deviation(ours(x, y), theirs(x, y)) <= 1e-5


def test_a_peer_that_breaks_gives_its_reason():
    def broken(net):
        raise ImportError(f"no {net}\nand more")

    assert peers.made(broken, "alex") == "ImportError: no alex"


def test_hooks_and_streaming_give_the_same_values():
    network = peers.bare("vgg")
    x, y = pairs((64, 48), 2)
    with torch.inference_mode():
        ours, theirs = every_layer(network)(x, y), by_hooks(network)(x, y)
    assert ours.shape == (2, len(backbone("vgg16").layers))
    assert deviation(ours, theirs) <= 1e-5


def test_the_sum_of_layers_is_that_of_their_feature_maps():
    elements = 0

    def count(module, inputs, output):
        nonlocal elements
        elements += output.numel()

    network = peers.bare("vgg")
    for module in network.children():
        module.register_forward_hook(count)
    network(torch.zeros(1, 3, 64, 96))
    assert sum_of_layers((96, 64), 5) == 2 * 5 * 4 * elements


def test_photographs_are_images_that_differ():
    x, y = one_to_many((64, 48), 24)
    assert x.shape == (1, 3, 48, 64)
    assert y.shape == (24, 3, 48, 64)
    assert float(y.min()) >= 0
    assert float(y.max()) <= 1
    assert all(not torch.equal(x[0], image) for image in y)
    assert len({image.sum().item() for image in y}) == 24


def test_turns_are_taken_and_first_calls_do_not_count():
    calls = []
    contenders = {name: lambda name=name: calls.append(name) or name for name in "ab"}
    values, times = timing.interleaved(contenders, seconds=1000, rounds=3)
    assert calls == list("ab" * 4)
    assert values == {"a": "a", "b": "b"}
    assert [len(times[name]) for name in "ab"] == [3, 3]


def test_long_first_calls_count_except_for_compiled_ones(monkeypatch):
    monkeypatch.setattr(timing, "timed", lambda run, wait: (run(), 9.0))
    contenders = {name: lambda: None for name in ("plain", "x compiled")}
    _, times = timing.interleaved(contenders, seconds=5, compiled=["x compiled"])
    assert {name: len(of) for name, of in times.items()} == {"plain": 1, "x compiled": 1}


def test_a_row_compares_with_the_fastest_peer_by_the_median_of_processes():
    case = cases.Case("Name", "psnr", "psnr", rows=(cases.Row("float32", 0.5, 1e-6),))
    results = [
        contest(2, {"slow": 9, "fast": 4}, floor=1),
        contest(1, {"slow": 9, "fast": 4}, floor=1),
        contest(3, {"slow": 9, "fast": 5}, floor=1),
    ]
    (finding,) = rows.findings(case, results)
    assert finding.ratio == 0.5
    assert finding.spread == (0.25, 0.6)
    assert finding.over_floor == 2
    assert finding.met is True
    assert finding.values_met is True
    assert report.cells(finding)[:6] == (
        *("Name: float32", "2.00 ms", "4.00 ms (fast)"),
        *("0.50 (0.25-0.60)", "0.50", "yes"),
    )


def test_missed_bounds_missing_peers_and_failures_are_reported():
    case = cases.Case("Name", "psnr", "psnr", rows=(cases.Row("float32", 0.5, 1e-7),))
    missed, absent = rows.findings(case, [contest(3, {"a": 4}, absent={"b": "no such"})])
    assert missed.met is False
    assert report.cells(missed)[7] == "5.0e-07, over 1e-07"
    assert absent.notes == ["not available: no such"]
    (alone,) = rows.findings(case, [contest(3, {})])
    assert (alone.met, alone.peer) == (None, "no peer available")
    (broken,) = rows.findings(case, [{"side": "all", "error": "exit status 1: oh"}])
    assert "exit status 1: oh" in report.cells(broken)[-1]
    text = report.table([missed, absent, alone, broken])
    assert len({len(line) for line in text.splitlines()}) == 1
    assert report.tally([missed, absent]).startswith("0 of 1 bounds met; 0 of 1 rows")


def test_memory_is_compared_with_the_peers_if_there_is_one():
    sides = [{"side": "ours", "above_mib": 50.0}, {"side": "lpips", "above_mib": 1000.0}]
    over = next(c for c in cases.CASES if c.options.get("of") == "lpips")
    assert rows.findings(over, sides)[0].ratio == 0.05
    plain = next(c for c in cases.CASES if c.options.get("of") == "layers")
    sides[1] = {"side": "hooks, 2 pairs", "above_mib": 1000.0}
    assert rows.findings(plain, sides)[0].ratio == 50


def test_a_training_step_is_compared_in_memory_and_in_turns():
    case = next(c for c in cases.CASES if c.kind == "training")
    results = [
        {"side": "ours", "kept_mib": 50.0, "peak_mib": 60.0},
        {"side": "lpips", "kept_mib": 100.0, "peak_mib": 240.0},
        {"side": "time", "ms": {"ours": 30.0, "lpips": 20.0}},
        {"side": "time", "ms": {"ours": 10.0, "lpips": 20.0}},
        {"side": "time", "ms": {"ours": 10.0, "lpips": 10.0}},
        {"side": "lpips compiled", "absent": {"lpips": "broken"}},
    ]
    found = {row.case.removeprefix(f"{case.name}: "): row for row in rows.findings(case, results)}
    assert found["kept memory"].ratio == 0.5
    assert found["peak memory"].ratio == 0.25
    assert (found["time"].ratio, found["time"].spread) == (1.0, (0.5, 1.5))
    assert found["kept memory, compiled"].ratio is None
    assert "lpips not available: broken" in found["time, compiled"].notes


def test_busy_share_and_growth_of_memory():
    passes = [(1.0 + n, 1.9 + n, 100 if n < 6 else 120) for n in range(8)]
    found = tables.found(passes, begin=0.0, end=9.0, count=16)
    assert found["busy"] == pytest.approx(0.9)
    assert found["growth"] == pytest.approx(1.2)
    assert found["pairs_a_second"] == 2


def test_a_case_runs_in_its_own_process(tmp_path):
    case = next(c for c in cases.CASES if c.name == "PSNR, 512x384, batch 1")
    options = processes.Options(quick=True, repeats=1, rounds=1, threads=1)
    results = processes.run_case(case, options, tmp_path)
    found = rows.findings(case, results)
    bounds = [finding for finding in found if finding.at_most is not None]
    assert [finding.peer.split(" (")[1] for finding in bounds] == [
        "torchmetrics, function)",
        "torchmetrics, class)",
    ]
    assert all(finding.ratio > 0 and finding.deviation < 1e-5 for finding in bounds)


def test_the_command_writes_a_table_and_json(tmp_path):
    out = tmp_path / "result.json"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--case", "PSNR, 512x384, batch 8"]
    command += ["--out", str(out), "--missing", "piq==0", "no such version"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "tests")}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "| peer piq==0" in done.stdout
    assert "left out: PSNR, 512x384, batch 8 (smoke run)" in done.stdout
    whole = json.loads(out.read_text())
    assert whole["missing_peers"] == {"piq==0": "no such version"}
    assert whole["machine"]["cores"] >= 1


def test_a_metric_without_the_winograd_convolution_measures_the_same(pair):
    metric = LPIPS("alex", calibrated=False, trunk=trunk("alexnet"))
    plain = without_it(metric)
    assert any(type(m) is WinogradConv2d for m in metric.extractor.network.modules())
    assert not any(type(m) is WinogradConv2d for m in plain.extractor.network.modules())
    assert float(plain(*pair)) == pytest.approx(float(metric(*pair)), rel=1e-4)
    with pytest.raises(ValueError, match="no Winograd convolution"):
        without_it(plain)
