"""Measurements are found by their pair, wherever it stands in a table."""

import dataclasses
import shutil

import numpy as np
import pytest
from study_material import PAIRS, contents, small_plan, write_pairs, written_by

from iqa_metrics.compute.features import FeatureExtractor
from iqa_metrics.datasets import read_opinions
from iqa_metrics.study import read_distances, run_study, store
from iqa_metrics.study.store import Store


def test_an_added_row_is_measured_alone_and_a_removed_one_not_at_all(tmp_path, monkeypatch):
    plan = small_plan(tmp_path)
    file = tmp_path / "images" / "pairs.csv"
    head, *rows = file.read_text().splitlines()
    series = 2 + 2 * 3

    def run(lines):
        file.write_text("\n".join([head, *lines]))
        found = {"small": read_opinions(file, "worse")}
        return run_study(dataclasses.replace(plan, databases=found), tmp_path / "out")

    def fresh():
        found = {"small": read_opinions(file, "worse")}
        return run_study(dataclasses.replace(plan, databases=found), tmp_path / "fresh")

    without = [*rows[:3], *rows[4:]]
    run(without)
    written = written_by(monkeypatch)
    visited, visit = [], FeatureExtractor._visit

    def counted(self, batches, layers, visitor, **options):
        visited.append(sum(len(batch) for batch in batches))
        return visit(self, batches, layers, visitor, **options)

    monkeypatch.setattr(FeatureExtractor, "_visit", counted)
    run(rows)
    assert [len(pairs) for pairs in written] == [1] * series
    assert len({pair for pairs in written for pair in pairs}) == 1
    assert sum(visited) == 2 * 2  # its two images, by two networks
    assert contents(tmp_path / "out") == contents(fresh().folder)
    for lines in (rows[2:], list(reversed(rows)), [*rows[50:], *rows[:7]]):
        written.clear()
        run(lines)
        assert not written
    shutil.rmtree(tmp_path / "fresh")
    assert contents(tmp_path / "out") == contents(fresh().folder)


def test_a_pair_in_two_databases_is_measured_once(tmp_path, monkeypatch):
    plan = small_plan(tmp_path, baselines=("psnr",))
    shutil.copytree(tmp_path / "images", tmp_path / "copies")
    copies = read_opinions(tmp_path / "copies" / "pairs.csv", "worse")
    written = written_by(monkeypatch)
    both = {**plan.databases, "copies": copies}
    found = run_study(dataclasses.replace(plan, databases=both), tmp_path / "out")
    assert sum(map(len, written)) == PAIRS * (1 + 2 * 3)
    measured = read_distances(found.folder / "distances.parquet")
    assert (measured["small"].values == measured["copies"].values).all()
    assert (found.rows, found.failed) == (2 * PAIRS * (1 + 2 * 3 * 2), 0)


def test_two_copies_of_a_pair_in_a_table_have_their_own_rows(tmp_path):
    table = write_pairs(tmp_path / "images", references=3, levels=1)
    for name in ("r0.png", "r0_noise_1.png"):
        shutil.copy(tmp_path / "images" / name, tmp_path / "images" / f"copy_{name}")
    with table.open("a") as file:
        file.write("copy_r0.png,copy_r0_noise_1.png,1.0,noise,1\n")
    readouts = ("euclidean", "weighted_euclidean")
    plan = small_plan(
        tmp_path / "x", databases={"small": read_opinions(table, "worse")}, readouts=readouts
    )
    found = run_study(plan, tmp_path / "out")
    measured = read_distances(found.folder / "distances.parquet")["small"]
    assert len(measured.pairs) == 10
    plain = [row for row, one in enumerate(measured.series) if one.readout == "euclidean"]
    assert (measured.values[plain, -1] == measured.values[plain, 0]).all()


def test_many_parts_of_a_reading_are_gathered_into_one(tmp_path):
    found = Store(tmp_path)
    pairs = [bytes([number]) for number in range(60)]
    values = np.arange(180.0).reshape(60, 3)
    errors = np.full((60, 1), "", dtype=object)
    errors[7] = "bad_image: broken"
    errors[9] = "failed: out of memory"
    for first in range(0, 60, 3):
        rows = slice(first, first + 3)
        found.write("0key", pairs[rows], store.Block(values[rows], errors[rows]))
    before = found.read("0key", pairs)
    assert found.known("0key") == set(pairs) - {pairs[9]}
    files = sorted(tmp_path.rglob("*.parquet"))
    kept = {file: file.read_bytes() for file in files}
    found.gather("0key")
    assert len(list(tmp_path.rglob("*.parquet"))) == 1
    after = found.read("0key", pairs[::-1])
    assert (after.values == values[::-1]).all()
    assert (after.errors == errors[::-1]).all()
    assert found.known("0key") == set(pairs) - {pairs[9]}
    # Killed between writing the one file and removing the others.
    for file, content in kept.items():
        file.write_bytes(content)
    assert (found.read("0key", pairs).values == before.values).all()
    # Tried again, and measured.
    found.write("0key", pairs[9:10], store.Block(np.full((1, 3), -1.0), np.full((1, 1), "")))
    found.gather("0key")
    assert found.known("0key") == set(pairs)
    assert (found.read("0key", pairs).values[9] == -1).all()
    assert len(list(tmp_path.rglob("*.parquet"))) == 1
    with pytest.raises(KeyError, match="no values of the pair 616161"):
        found.read("0key", [*pairs, b"aaa"])
