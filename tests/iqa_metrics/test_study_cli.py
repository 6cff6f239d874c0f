"""``iqa study`` from the command line."""

import csv
import json

import pytest
from study_material import write_pairs
from typer.testing import CliRunner

from iqa_metrics.cli import app


def iqa(*arguments):
    return CliRunner().invoke(app, [str(one) for one in arguments])


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("cli") / "images", references=3, levels=2, side=48)


def run(table, out, *more):
    return iqa(
        *("study", "run", "--pairs", table, "--higher-is", "worse", "--out", out),
        *("--backbone", "efficientnet_lite0", "--layers", "stem,block3,block9"),
        *("--baseline", "ssim", "--draws", "40", *more),
    )


def test_flags_and_a_plan_give_the_same_study(table, tmp_path):
    more = ("--readout", "euclidean,gram", "--readout", "cosine", "--no-report")
    done = run(table, tmp_path / "flags", *more)
    assert done.exit_code == 0, done.output
    assert "efficientnet_lite0" in done.output
    assert "Claims of the paper: " in done.output
    assert not (tmp_path / "flags" / "report.html").exists()
    plan = table.parent / "plan.toml"
    plan.write_text(
        'title = "Study"\nlayers = ["stem", "block3", "block9"]\nbaselines = ["ssim"]\n'
        'readouts = ["euclidean", "gram", "cosine"]\n'
        '[statistics]\ndraws = 40\n[[databases]]\npairs = "pairs.csv"\nhigher_is = "worse"\n'
        '[[backbones]]\nname = "efficientnet_lite0"\n'
    )
    assert iqa("study", "run", plan, "--out", tmp_path / "plan", "--no-report").exit_code == 0
    for name in ("distances.parquet", "correlations.csv", "claims.csv", "study.json"):
        assert (tmp_path / "flags" / name).read_bytes() == (tmp_path / "plan" / name).read_bytes()
    with (tmp_path / "plan" / "correlations.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["layer"] for row in rows} == {"", "stem", "block3", "block9"}


def test_report_and_statistics_are_made_again(table, tmp_path):
    done = run(table, tmp_path, "--title", "A made-up study")
    assert done.exit_code == 0, done.output
    page = (tmp_path / "report.html").read_text()
    assert "A made-up study" in page
    assert str(tmp_path / "report.html") in done.output
    # Thumbnails of all images, unless they are not wanted.
    assert '"pictures":["' in page
    assert iqa("study", "report", tmp_path, "--no-thumbnails").exit_code == 0
    assert '"pictures":[]' in (tmp_path / "report.html").read_text()
    facts = json.loads((tmp_path / "study.json").read_text())
    facts["title"] = "Another title"
    (tmp_path / "study.json").write_text(json.dumps(facts))
    (tmp_path / "models.csv").unlink()
    assert iqa("study", "analyse", tmp_path).exit_code == 0
    assert (tmp_path / "models.csv").exists()
    assert iqa("study", "report", tmp_path).exit_code == 0
    assert "Another title" in (tmp_path / "report.html").read_text()


def test_a_failed_pair_is_reported_and_sets_the_exit_status(tmp_path):
    table = write_pairs(tmp_path / "images", references=3, levels=2, side=48)
    broken = tmp_path / "images" / "r1_dark_1.png"
    broken.write_bytes(b"none")
    done = run(table, tmp_path / "out", "--no-report")
    assert done.exit_code == 1
    assert "bad_image" in done.output
    assert "68 of 72 distances" in done.output


@pytest.fixture(scope="module")
def with_ladder(tmp_path_factory):
    """A folder in which the first command makes the ladder's images, for all."""
    return tmp_path_factory.mktemp("usage")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--out", "x"), "databases: expected at least one"),
        (("--out", "x", "--database", "ladder", "--backbone", "vgg61"), "vgg16"),
        (("--out", "x", "--database", "tid2013"), "needs the folder"),
        (("--out", "x", "--where", "goal"), "expected FACTOR=VALUE"),
        (("--out", "x", "--database", "ladder", "--layers", ""), "unknown choice of layers ''"),
        (("--out", "x", "--database", "ladder", "--metric", "ssmi"), "did you mean 'ssim'"),
        (("--out", "x", "--database", "ladder", "--published", "no.csv"), "no.csv: no such file"),
        (("none.toml", "--out", "x"), "can't be read"),
        (
            ("none.toml", "--out", "x", "--seed", "3"),
            "expected a plan or options that make one, got both: none.toml and statistics",
        ),
    ],
)
def test_wrong_usage(arguments, reason, with_ladder, monkeypatch):
    monkeypatch.chdir(with_ladder)
    done = iqa("study", "run", *arguments)
    assert done.exit_code == 2
    assert reason in " ".join(done.output.split())


def test_a_folder_that_holds_no_study(tmp_path):
    for command in ("analyse", "report"):
        done = iqa("study", command, tmp_path)
        assert done.exit_code == 2
        assert "study.json" in done.output


def test_ctrl_c_says_how_to_resume(table, tmp_path, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("iqa_metrics.study.running._Study.measure", stopped)
    done = run(table, tmp_path / "out", "--no-report")
    assert done.exit_code == 130
    assert "give the same command again" in " ".join(done.output.split())


def test_progress_is_printed_in_lines_where_there_is_no_bar(table, tmp_path, monkeypatch):
    monkeypatch.setattr("iqa_metrics.cli.study._EVERY", 0.0)
    done = run(table, tmp_path / "out", "--no-report")
    assert "efficientnet_lite0, pairs: 35 of 36 pairs, about 0 min left" in done.output
    assert "baselines, pairs: 1 of 36 pairs" in done.output


def test_severities_are_not_people_and_each_database_is_shown(tmp_path):
    for name in ("rated", "graded"):
        write_pairs(tmp_path / name, references=4, levels=5, side=48)
    plan = tmp_path / "plan.toml"
    plan.write_text(
        'baselines = ["psnr"]\n[statistics]\ndraws = 20\n'
        + "".join(
            f'[[databases]]\nname = "{name}"\npairs = "{name}/pairs.csv"\nhigher_is = "worse"\n'
            for name in ("rated", "graded")
        )
    )
    done = iqa("study", "run", plan, "--out", tmp_path / "out", "--no-report")
    assert done.exit_code == 0, done.output
    assert done.output.count("agreement with people") == 1  # both together
    path = tmp_path / "out" / "study.json"
    facts = json.loads(path.read_text())
    facts["databases"][1]["opinion"] = False
    path.write_text(json.dumps(facts))
    said = iqa("study", "analyse", tmp_path / "out").output
    rated, graded = said.split("\ngraded")
    assert "rated" in rated
    assert "agreement with people" in rated
    assert "agreement with severity" in graded
    assert "people" not in graded


def test_backbones_that_are_skipped_are_named(table, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "none"))
    monkeypatch.delenv("IQA_WEIGHTS", raising=False)
    done = run(
        *(table, tmp_path / "out", "--no-report", "--backbone", "alexnet"),
        *("--missing", "skip"),
    )
    assert done.exit_code == 2  # its layers have other names
    plan = table.parent / "skip.toml"
    plan.write_text(
        'missing = "skip"\nbaselines = ["psnr"]\n[statistics]\ndraws = 20\n'
        '[[databases]]\npairs = "pairs.csv"\nhigher_is = "worse"\n[[backbones]]\nname = "alexnet"\n'
    )
    done = iqa("study", "run", plan, "--out", tmp_path / "out", "--no-report")
    assert done.exit_code == 0, done.output
    assert "left out, because their weights are not on this machine: alexnet" in done.output
