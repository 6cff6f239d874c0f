"""From scores with opinions to the agreement with human ratings."""

import csv
import json
import math

import numpy as np
import pytest
import scipy.stats
from typer.testing import CliRunner

from iqa_metrics import PairsError, statistics
from iqa_metrics.cli import app
from iqa_metrics.scoring.agreement import agreements, differences, read_scored

HEADER = ["reference", "distorted", "metric", "value", "error", "distortion", "dmos"]


def rows(references=6, each=8, seed=0):
    """A good metric, a worse one of the other direction, and one that sometimes fails."""
    stream = np.random.default_rng(seed)
    made = []
    for reference in range(references):
        for number in range(each):
            dmos = round(stream.uniform(0, 100), 2)
            kind = ("blur", "jpeg")[number % 2]
            name = f"r{reference}_{number}.png"
            good = dmos / 10 + stream.normal(0, 0.5)
            for metric, value in (
                ("good", good),
                ("similar", -dmos + stream.normal(0, 60)),
                ("flaky", "" if number == 3 else "inf" if number == 4 else good),
            ):
                error = "unreadable: x" if value == "" else ""
                made.append([f"r{reference}.png", name, metric, value, error, kind, dmos])
    return made


@pytest.fixture
def scores(tmp_path):
    return written(tmp_path / "scores.csv", rows())


def written(path, table, header=HEADER):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *table])
    return path


def test_correlations_agree_with_scipy_and_intervals_with_the_statistics(scores):
    read = read_scored(scores, "dmos")
    found = {(row.metric, row.distortion): row for row in agreements(read, draws=200)}
    assert set(found) == {
        (metric, kind) for metric in ("good", "similar", "flaky") for kind in ("", "blur", "jpeg")
    }
    for (metric, kind), row in found.items():
        used = [
            r for r in read
            if r.metric == metric and kind in ("", r.distortion) and r.value is not None
        ]  # fmt: skip
        x, y = np.array([(r.value, r.opinion) for r in used]).T
        assert (row.n, row.references) == (len(used), 6)
        assert row.srocc == pytest.approx(scipy.stats.spearmanr(x, y)[0])
        assert row.plcc == pytest.approx(scipy.stats.pearsonr(x, y)[0])
        assert row.krocc == pytest.approx(scipy.stats.kendalltau(x, y)[0])
        interval = statistics.srocc_interval(x, y, [r.reference for r in used], draws=200)
        assert (row.srocc_low, row.srocc_high) == (interval.low, interval.high)
        assert row.plcc_logistic >= abs(row.plcc) - 0.02
    assert found["good", ""].srocc > 0.9
    assert found["similar", ""].srocc < 0
    assert (found["flaky", ""].failed, found["flaky", ""].n) == (12, 36)


def test_differences_use_the_pairs_that_both_have(scores):
    read = read_scored(scores, "dmos")
    found = {(row.first, row.second): row for row in differences(read, draws=200)}
    assert set(found) == {("good", "similar"), ("good", "flaky"), ("similar", "flaky")}
    assert found["good", "similar"].difference > 0.1
    assert found["good", "similar"].low > 0
    same = found["good", "flaky"]
    assert (same.n, same.difference, same.p) == (36, 0, 1)
    expected = statistics.holm([row.p for row in found.values()])
    assert [row.p_corrected for row in found.values()] == expected.tolist()


def test_few_pairs_or_references_give_nan_and_no_error(tmp_path):
    one = [row for row in rows(references=1) if row[2] == "good"]
    (found, *_) = agreements(read_scored(written(tmp_path / "a.csv", one), "dmos"))
    assert math.isfinite(found.srocc)
    assert math.isnan(found.srocc_low)
    few = [*one[:3], *([r[0], r[1], "other", 1.0, "", "blur", r[6]] for r in one[:3])]
    read = read_scored(written(tmp_path / "b.csv", few), "dmos")
    assert all(math.isnan(row.srocc) for row in agreements(read))
    assert math.isnan(differences(read)[0].p_corrected)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table[0].__setitem__(6, "bad"), "line 2: dmos: expected a number"),
        (lambda table: table[1].__setitem__(3, "x"), "line 3: value: expected a number"),
    ],
)
def test_bad_rows_are_named(tmp_path, change, words):
    table = rows()
    change(table)
    with pytest.raises(PairsError, match=words):
        read_scored(written(tmp_path / "bad.csv", table), "dmos")


def test_other_tables_are_refused(scores, tmp_path):
    with pytest.raises(PairsError, match="no column opinion"):
        read_scored(scores)
    with pytest.raises(PairsError, match="can't be read"):
        read_scored(tmp_path / "gone.csv")
    twice = rows()
    read = read_scored(written(tmp_path / "twice.csv", [*twice, twice[0]]), "dmos")
    with pytest.raises(ValueError, match="has two scores for"):
        agreements(read)


def test_the_command_line(scores, tmp_path):
    def run(*arguments):
        command = ["agree", scores, "--opinion", "dmos", "--draws", 50, *arguments]
        return CliRunner().invoke(app, [str(argument) for argument in command])

    result = run("--compare")
    assert result.exit_code == 0, result.output
    for words in ("good", "blur", "p by Holm", "after VQEG's monotone logistic"):
        assert words in result.stdout
    assert "12 scores are left out" in result.stderr
    assert "only 6 reference images" in result.stderr
    found = json.loads(run("--compare", "--json").stdout)
    assert len(found["agreements"]) == 9
    assert len(found["differences"]) == 3
    out = tmp_path / "correlations.csv"
    assert run("--csv", out).exit_code == 0
    with out.open(newline="") as file:
        table = list(csv.DictReader(file))
    assert float(table[0]["srocc"]) == found["agreements"][0]["srocc"]
    assert run("--csv", "-").stdout == out.read_text()
    result = run("--csv", tmp_path / "gone" / "x.csv")
    assert (result.exit_code, "can't be written" in result.stderr) == (2, True)
    result = CliRunner().invoke(app, ["agree", str(scores)])
    assert (result.exit_code, "no column opinion" in result.stderr) == (2, True)


def test_real_opinions(live, tmp_path):
    """From the command that scores to the one that measures agreement."""
    out = tmp_path / "scores.csv"
    command = ["score", "--pairs", live / "pairs.csv", "-m", "psnr", "-m", "ssim", "--out", out]
    assert CliRunner().invoke(app, [str(c) for c in command]).exit_code == 0
    read = read_scored(out, "dmos")
    found = {r.metric: r for r in agreements(read, draws=50) if not r.distortion}
    assert found["psnr"].srocc == pytest.approx(-0.899, abs=5e-4)
    assert found["ssim"].srocc == pytest.approx(-0.848, abs=5e-4)
