"""The tables of ceilings, differences by distortion, significance and Krasula's analysis."""

import dataclasses
import itertools
import math

import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.stats

from iqa_metrics import statistics
from iqa_metrics.report import agreement_tables, write_report
from iqa_metrics.report.tables import read_study
from iqa_metrics.study import analyse, read_distances
from iqa_metrics.study.agreement_rows import ByDistortion, Ceiling, Krasula, Significance
from iqa_metrics.study.description import Description
from iqa_metrics.study.distances import Pairs, Series, written_distances
from iqa_metrics.study.rows import read_rows

REFERENCES, KINDS, LEVELS = 8, ("blur", "jpeg", "noise"), 6
RATINGS, SPREAD = 16.0, 8.0


def write_study(folder, *, spread=SPREAD, ratings=RATINGS, opinion=True, references=REFERENCES):
    """A good network, a fair one, a good baseline and a poor one; 10 points a level."""
    stream = np.random.default_rng(0)
    cells = list(itertools.product(range(references), KINDS, range(1, LEVELS + 1)))
    n = len(cells)
    truth = np.array([10.0 * level for _, _, level in cells])
    judged = truth + stream.normal(0, 2, n) if opinion else truth / 10
    pairs = Pairs(
        "made",
        tuple(f"r{r}" for r, _, _ in cells),
        tuple(f"r{r}_{k}_{level}" for r, k, level in cells),
        tuple(k for _, k, _ in cells),
        judged,
        np.array([float(level) for _, _, level in cells]),
        np.full(n, spread),
        np.full(n, ratings),
    )
    labels = np.asarray(pairs.distortions)
    values = {
        Series("psnr", "", "", math.nan): -truth + stream.normal(0, 25, n),
        # Good, but for noise.
        Series("ms_ssim", "", "", math.nan): -truth
        + stream.normal(0, 3, n)
        + np.where(labels == "noise", stream.normal(0, 80, n), 0),
        Series("vgg16", "relu1_2", "euclidean", 0.2): truth + stream.normal(0, 30, n),
        Series("vgg16", "relu3_3", "euclidean", 0.6): truth + stream.normal(0, 3, n),
        Series("alexnet", "relu2", "euclidean", 0.5): truth + stream.normal(0, 15, n),
    }
    with written_distances(folder / "distances.parquet") as table:
        errors = np.full((1, n), "")
        for series, row in values.items():
            table.add(pairs, [series], row[None], errors)
    return pairs, values


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    pairs, values = write_study(folder)
    return folder, pairs, values, analyse(folder, higher_is="worse")


def test_noise_travels_with_the_distances(study, tmp_path):
    folder, *_ = study
    pairs = read_distances(folder / "distances.parquet")["made"].pairs
    assert set(pairs.opinion_sd) == {SPREAD}
    assert set(pairs.ratings) == {RATINGS}
    table = pq.read_table(folder / "distances.parquet")
    pq.write_table(table.drop_columns(["opinion_sd", "ratings"]), tmp_path / "d.parquet")
    older = read_distances(tmp_path / "d.parquet")["made"].pairs
    assert np.isnan(older.opinion_sd).all()
    assert np.isnan(older.ratings).all()
    assert len(older.ratings) == len(older)


def test_what_is_written_is_read_back(study):
    folder, *_, found = study
    for kind, rows in (
        (Ceiling, found.ceilings),
        (ByDistortion, found.by_distortion),
        (Significance, found.significance),
        (Krasula, found.krasula),
    ):
        assert rows
        for back, row in zip(read_rows(folder, kind), rows, strict=True):
            for one in dataclasses.fields(kind):
                a, b = getattr(back, one.name), getattr(row, one.name)
                assert a == b or (math.isnan(a) and math.isnan(b))
    read = read_study(folder)
    assert len(read.ceilings) == len(found.ceilings) == 4
    assert len(read.krasula) == len(found.krasula)
    page = write_report(folder).read_text(encoding="utf-8")
    for one in agreement_tables.listed(read):
        assert f"<h3>{one.heading}</h3>" in page
        assert len(one.table.columns) == len(one.table.rows[0])
    assert len(agreement_tables.listed(read)) == 4
    for name in ("ceilings", "by_distortion", "significance", "krasula"):
        (folder / f"{name}.csv").rename(folder / "away.csv")
        assert getattr(read_study(folder), name) == ()  # tables of an earlier version
        (folder / "away.csv").rename(folder / f"{name}.csv")


def test_columns_of_correlations(study):
    _, pairs, values, found = study
    rows = {(r.backbone, r.layer, r.distortion): r for r in found.correlations}
    row = rows["vgg16", "relu3_3", ""]
    x = values[Series("vgg16", "relu3_3", "euclidean", 0.6)]
    within = []
    for name in sorted(set(pairs.references)):
        here = np.asarray(pairs.references) == name
        within.append(scipy.stats.spearmanr(x[here], pairs.opinion[here])[0])
    assert row.srocc_within == pytest.approx(np.mean(within))
    curve = statistics.fit_logistic(x, pairs.opinion)(x)
    reach = scipy.stats.t.ppf(0.975, RATINGS - 1) * SPREAD / math.sqrt(RATINGS)
    assert row.outlier_ratio == (np.abs(curve - pairs.opinion) > reach).mean()
    for one in found.correlations:
        for name in ("srocc", "plcc", "plcc_logistic", "krocc", "rmse"):
            low, value, high = (getattr(one, f"{name}{end}") for end in ("_low", "", "_high"))
            assert low <= high
            assert low - 0.05 * abs(value) <= value <= high + 0.05 * abs(value)


def test_the_ceilings_of_one_and_of_all_observers(study):
    _, pairs, _, found = study
    rows = {(row.what, row.measure): row for row in found.ceilings}
    assert set(rows) == set(
        itertools.product(("one observer", "mean of 16 observers"), ("srocc", "plcc"))
    )
    v = pairs.opinion.var()
    for what, noise in (("one observer", SPREAD**2), ("mean of 16 observers", SPREAD**2 / 16)):
        row = rows[what, "plcc"]
        assert row.value == pytest.approx(math.sqrt(v / (v + noise)), abs=0.003)
        assert row.low < row.value < row.high
        assert row.why == ""


def test_differences_on_each_distortion(study):
    _, _, _, found = study
    rows = {(row.backbone, row.distortion): row for row in found.by_distortion}
    assert set(rows) == set(itertools.product(("vgg16", "alexnet"), KINDS))
    by = {(r.backbone, r.layer, r.distortion): r for r in found.correlations}
    best = max(("psnr", "ms_ssim"), key=lambda name: -by[name, "", ""].srocc)
    assert {row.baseline for row in found.by_distortion} == {best}
    row = rows["vgg16", "noise"]
    baseline = by[row.baseline, "", "noise"]
    assert row.difference == pytest.approx(by["vgg16", "relu3_3", "noise"].srocc + baseline.srocc)
    assert (row.layer, row.n, row.references) == ("relu3_3", REFERENCES * LEVELS, REFERENCES)
    assert row.verdict == "first"
    corrected = statistics.holm(one.p for one in found.by_distortion)
    np.testing.assert_allclose([one.p_corrected for one in found.by_distortion], corrected)


def test_every_two_are_compared_by_three_tests(study):
    _, pairs, values, found = study
    rows = {(row.first, row.second): row for row in found.significance}
    names = ["psnr", "ms_ssim", "vgg16", "alexnet"]
    assert {frozenset(one) for one in rows} == {
        frozenset(one) for one in itertools.combinations(names, 2)
    }
    row = rows.get(("psnr", "vgg16")) or rows["vgg16", "psnr"]
    assert row.verdict == ("first" if row.first == "vgg16" else "second")
    by_name = {one.name: value for one, value in values.items()}
    x = {"psnr": -by_name["psnr"], "vgg16": by_name["vgg16:relu3_3:euclidean"]}
    a, b = x[row.first], x[row.second]
    r = [scipy.stats.spearmanr(one, pairs.opinion)[0] for one in (a, b)]
    _, p = statistics.meng_rosenthal_rubin(*r, scipy.stats.spearmanr(a, b)[0], len(pairs))
    assert row.p_mrr == pytest.approx(float(p))
    residuals = [statistics.fit_logistic(o, pairs.opinion)(o) - pairs.opinion for o in (a, b)]
    variances = sorted((np.square(o).sum() for o in residuals), reverse=True)
    freedom = len(pairs) - 4
    expected = 2 * scipy.stats.f.sf(variances[0] / variances[1], freedom, freedom)
    assert row.p_f == pytest.approx(expected, rel=1e-6)
    corrected = statistics.holm(one.p for one in found.significance)
    np.testing.assert_allclose([one.p_corrected for one in found.significance], corrected)


def test_krasulas_analysis(study):
    _, _, _, found = study
    alone = {(r.analysis, r.first): r for r in found.krasula if not r.second}
    names = ("psnr", "ms_ssim", "vgg16", "alexnet")
    assert set(alone) == set(itertools.product(("different_similar", "better_worse"), names))
    n = REFERENCES * len(KINDS) * LEVELS
    assert {r.couples for r in found.krasula if r.analysis == "different_similar"} == {
        n * (n - 1) // 2
    }
    assert alone["better_worse", "vgg16"].auc > alone["better_worse", "alexnet"].auc > 0.7
    assert alone["better_worse", "vgg16"].c0 > 0.97
    assert alone["different_similar", "vgg16"].auc > 0.95
    assert math.isnan(alone["different_similar", "vgg16"].c0)
    assert alone["different_similar", "vgg16"].threshold > 0
    two = [r for r in found.krasula if r.second and r.analysis == "better_worse"]
    assert len(two) == 6
    for row in two:
        first, second = (alone["better_worse", name] for name in (row.first, row.second))
        assert row.auc == pytest.approx(first.auc - second.auc)
        assert row.c0 == pytest.approx(first.c0 - second.c0)
        assert 0 <= row.c0_p <= row.c0_p_corrected <= 1
        assert row.auc_p <= row.auc_p_corrected


def test_what_is_not_known_is_said(tmp_path):
    for name, noise, why in (
        ("spread", {"spread": math.nan, "ratings": math.nan}, "how much ratings vary"),
        ("ratings", {"ratings": math.nan}, "how many ratings"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        write_study(folder, **noise)
        found = analyse(folder, higher_is="worse")
        assert [row.analysis for row in found.krasula] == ["different_similar", "better_worse"]
        assert all(row.why.startswith("not tested") and why in row.why for row in found.krasula)
        unknown = [row for row in found.ceilings if math.isnan(row.value)]
        assert len(unknown) == 2
        assert all(why in row.why for row in unknown)
        assert all(math.isnan(row.outlier_ratio) for row in found.correlations)


def test_severities_are_not_pooled_and_claim_nothing_about_people(tmp_path):
    pairs, values = write_study(tmp_path, opinion=False)
    analyse(tmp_path, higher_is="worse")
    known = Description.read(tmp_path / "study.json")
    ladder = tuple(dataclasses.replace(one, opinion=False) for one in known.databases)
    dataclasses.replace(known, databases=ladder).write(tmp_path / "study.json")
    found = analyse(tmp_path)
    rows = {(r.backbone, r.layer, r.distortion): r for r in found.correlations}
    x = values[Series("vgg16", "relu3_3", "euclidean", 0.6)]
    within = {}
    for reference, kind in itertools.product(sorted(set(pairs.references)), KINDS):
        here = (np.asarray(pairs.references) == reference) & (np.asarray(pairs.distortions) == kind)
        within[reference, kind] = scipy.stats.spearmanr(x[here], pairs.opinion[here])[0]
    row = rows["vgg16", "relu3_3", ""]
    assert row.srocc == pytest.approx(np.mean(list(within.values())))
    assert row.srocc_low < row.srocc <= row.srocc_high
    for name in ("plcc", "krocc", "rmse", "plcc_logistic", "srocc_within", "outlier_ratio"):
        assert math.isnan(getattr(row, name))
    row = rows["vgg16", "relu3_3", "blur"]
    assert row.srocc == pytest.approx(np.mean([v for k, v in within.items() if k[1] == "blur"]))
    assert math.isfinite(row.krocc)
    assert found.ceilings == []
    assert found.krasula == []
    assert all(math.isnan(row.p_mrr) and math.isnan(row.p_f) for row in found.significance)


def test_few_references_give_values_without_intervals(tmp_path):
    write_study(tmp_path, references=2)
    found = analyse(tmp_path, higher_is="worse")
    assert all(math.isfinite(row.krocc) for row in found.correlations)
    assert all(math.isnan(row.krocc_low) for row in found.correlations)
    assert found.by_distortion
    assert all(math.isfinite(row.difference) for row in found.by_distortion)
    assert all(math.isnan(row.p) for row in found.by_distortion)
    assert {row.verdict for row in found.significance} == {"undecided"}
