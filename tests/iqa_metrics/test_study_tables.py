"""The table of distances and its statistics, against independent computations."""

import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from iqa_metrics.statistics import Bootstrap, Resampling
from iqa_metrics.study import DistancesError, presence, read_distances
from iqa_metrics.study import correlations as study_correlations
from iqa_metrics.study.concatenated import concatenated
from iqa_metrics.study.concatenated_values import LazyRows
from iqa_metrics.study.correlations import Judged, correlations
from iqa_metrics.study.distances import Measured, Pairs, Series, written_distances
from iqa_metrics.study.plan import Statistics
from iqa_metrics.study.presence import Presence

NAN = math.nan


def pairs_of(name="made", references=6, kinds=("a", "b"), levels=5, seed=0):
    random = np.random.default_rng(seed)
    rows = [
        (f"r{r}", f"r{r}_{kind}_{level}", kind, level)
        for r in range(references)
        for kind in kinds
        for level in range(levels)
    ]
    reference, distorted, kind, level = zip(*rows, strict=True)
    opinion = np.array(level) * 10.0 + random.normal(0, 5, len(rows))
    return Pairs(name, reference, distorted, kind, opinion, np.array(level, dtype=float))


def measured_of(pairs, layers=4, seed=1, readout="euclidean", baselines=("ssim",)):
    random = np.random.default_rng(seed)
    series = [Series(name, "", "", NAN) for name in baselines]
    values = [-pairs.opinion + random.normal(0, 10, len(pairs)) for _ in baselines]
    for layer in range(layers):
        series.append(Series("net", f"l{layer}", readout, (layer + 1) / layers))
        values.append(np.exp(pairs.opinion / 40) + random.normal(0, 0.5, len(pairs)))
    elements = np.full((len(series), len(pairs)), 100)
    return Measured(pairs, tuple(series), np.array(values), elements)


def written(measured, path):
    with written_distances(path) as table:
        table.add(
            measured.pairs,
            measured.series,
            measured.values,
            np.full(measured.values.shape, ""),
            measured.elements.astype(float),
        )
    return path


def test_what_is_written_is_read_back(tmp_path):
    measured = measured_of(pairs_of())
    found = read_distances(written(measured, tmp_path / "d.parquet"))
    assert list(found) == ["made"]
    back = found["made"]
    assert back.pairs.references == measured.pairs.references
    assert back.pairs.distortions == measured.pairs.distortions
    assert back.pairs.opinion.tolist() == measured.pairs.opinion.tolist()
    assert [s.name for s in back.series] == [s.name for s in measured.series]
    assert back.series[1:] == measured.series[1:]
    assert (back.values == measured.values).all()
    assert (back.elements == measured.elements).all()


def test_rows_in_any_order_and_fewer_columns_give_the_same(tmp_path):
    measured = measured_of(pairs_of())
    table = pq.read_table(written(measured, tmp_path / "d.parquet"))
    shuffled = table.take(np.random.default_rng(0).permutation(len(table)))
    pq.write_table(
        shuffled.drop_columns(["elements", "error", "level", "depth"]),
        tmp_path / "s.parquet",
        row_group_size=17,
    )
    back = read_distances(tmp_path / "s.parquet")["made"]
    order = [back.pairs.distorted.index(name) for name in measured.pairs.distorted]
    rows = [[s.name for s in back.series].index(s.name) for s in measured.series]
    assert (back.values[np.ix_(rows, order)] == measured.values).all()
    assert (back.pairs.opinion[order] == measured.pairs.opinion).all()


def test_two_databases_are_kept_apart(tmp_path):
    one, two = (measured_of(pairs_of(name, seed=s), seed=s) for s, name in enumerate("ab"))
    tables = [
        pq.read_table(written(m, tmp_path / f"{m.pairs.database}.parquet")) for m in (one, two)
    ]
    pq.write_table(pa.concat_tables(tables), tmp_path / "both.parquet")
    found = read_distances(tmp_path / "both.parquet")
    assert (found["a"].values == one.values).all()
    assert (found["b"].values == two.values).all()


def test_other_files_than_tables_of_distances_are_refused(tmp_path):
    (tmp_path / "no.parquet").write_bytes(b"no")
    with pytest.raises(DistancesError, match="can't be read"):
        read_distances(tmp_path / "no.parquet")
    pq.write_table(pa.table({"database": ["a"], "value": [1.0]}), tmp_path / "few.parquet")
    with pytest.raises(DistancesError, match="missing columns reference, distorted"):
        read_distances(tmp_path / "few.parquet")
    table = pq.read_table(written(measured_of(pairs_of()), tmp_path / "d.parquet"))
    pq.write_table(pa.concat_tables([table, table.slice(3, 1)]), tmp_path / "twice.parquet")
    with pytest.raises(DistancesError, match="has two values for"):
        read_distances(tmp_path / "twice.parquet")


def test_correlations_are_those_of_scipy():
    measured = measured_of(pairs_of())
    rows = correlations({"made": Judged(measured, Statistics(draws=20), 0)}, {"made": "worse"})
    assert [row.distortion for row in rows] == [""] * 5 + ["a"] * 5 + ["b"] * 5
    for row, (kind, at) in zip(
        rows, ((kind, at) for kind in ("", "a", "b") for at in range(5)), strict=True
    ):
        chosen = [kind in ("", one) for one in measured.pairs.distortions]
        x, y = measured.values[at][chosen], measured.pairs.opinion[chosen]
        assert row.n == len(x)
        assert row.srocc == pytest.approx(stats.spearmanr(x, y)[0], rel=1e-12)
        assert row.plcc == pytest.approx(stats.pearsonr(x, y)[0], rel=1e-12)
        assert row.krocc == pytest.approx(stats.kendalltau(x, y)[0], rel=1e-12)
        assert abs(row.plcc) - 1e-9 <= row.plcc_logistic <= 1
        assert 0 < row.rmse <= y.std() + 1e-9
        assert row.srocc_low <= row.srocc <= row.srocc_high


def test_intervals_agree_with_resampling_references_one_by_one():
    measured = measured_of(pairs_of())
    rows = correlations({"made": Judged(measured, Statistics(draws=200), 3)}, {"made": "worse"})
    references = np.array(measured.pairs.references)
    names = np.unique(references)
    counts = Resampling(measured.pairs.references, 200, 3).counts()
    found = []
    for count in counts:
        index = np.concatenate(
            [
                np.repeat(np.flatnonzero(references == n), int(count[references == n][0]))
                for n in names
            ]
        )
        found.append(stats.spearmanr(measured.values[2][index], measured.pairs.opinion[index])[0])
    low, high = np.quantile(found, [0.025, 0.975])
    assert rows[2].srocc_low == pytest.approx(low, rel=1e-9)
    assert rows[2].srocc_high == pytest.approx(high, rel=1e-9)


def test_missing_values_are_left_out_and_counted():
    measured = measured_of(pairs_of())
    measured.values[1, 4] = NAN
    measured.values[2, :] = NAN
    measured.values[3, 7] = math.inf
    rows = correlations({"made": Judged(measured, Statistics(draws=20), 0)}, {"made": "worse"})
    assert [row.n for row in rows[:5]] == [60, 59, 0, 60, 60]
    keep = np.arange(60) != 4
    expected = stats.spearmanr(measured.values[1][keep], measured.pairs.opinion[keep])[0]
    assert rows[1].srocc == pytest.approx(expected, rel=1e-12)
    assert math.isnan(rows[2].srocc)
    # What is infinite has a rank, and nothing more.
    expected = stats.spearmanr(measured.values[3], measured.pairs.opinion)[0]
    assert rows[3].srocc == pytest.approx(expected, rel=1e-12)
    assert math.isnan(rows[3].plcc)
    measured.pairs.opinion[8] = NAN
    rows = correlations({"made": Judged(measured, Statistics(draws=20), 0)}, {"made": "worse"})
    assert [row.n for row in rows[:5]] == [59, 58, 0, 59, 59]
    assert not math.isnan(rows[0].srocc)


def test_one_reference_has_no_interval():
    rows = correlations(
        {"made": Judged(measured_of(pairs_of(references=1)), Statistics(), 0)}, {"made": "worse"}
    )
    assert not math.isnan(rows[1].srocc)
    assert math.isnan(rows[1].srocc_low)


def test_databases_are_pooled_by_fishers_z_with_opinions_reversed():
    one = measured_of(pairs_of("dmos"))
    other = pairs_of("mos", references=9, seed=5)
    other = measured_of(Pairs(**{**vars(other), "opinion": other.opinion}))
    turned = Pairs(**{**vars(other.pairs), "opinion": 100 - other.pairs.opinion})
    other = Measured(turned, other.series, other.values, other.elements)
    judged = {
        "dmos": Judged(one, Statistics(draws=30), 0),
        "mos": Judged(other, Statistics(draws=30), 1),
    }
    rows = correlations(judged, {"dmos": "worse", "mos": "better"})
    pooled = [row for row in rows if row.database == "pooled"]
    assert len(pooled) == 5
    for row in pooled:
        parts = {
            r.database: r
            for r in rows
            if not r.distortion and (r.backbone, r.layer) == (row.backbone, row.layer)
        }
        z = [np.arctanh(parts["dmos"].srocc), np.arctanh(-parts["mos"].srocc)]
        counts = [parts["dmos"].n - 3, parts["mos"].n - 3]
        assert row.srocc == pytest.approx(np.tanh(np.average(z, weights=counts)), rel=1e-12)
        assert row.n == parts["dmos"].n + parts["mos"].n
        assert row.srocc_low < row.srocc < row.srocc_high
        assert math.isnan(row.rmse)
    assert pooled[0].srocc < 0 < pooled[1].srocc


# Concatenation ------------------------------------------------------------------------------------


@given(st.integers(0, 2**16), st.sampled_from(["euclidean", "rmse", "mean_absolute"]))
def test_a_joint_series_is_the_readout_of_concatenated_feature_maps(seed, readout):
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 30, 3)
    differences = [random.normal(0, 2, (2, size)) for size in sizes]
    formula = {
        "euclidean": lambda d: np.sqrt(np.square(d).sum(-1)),
        "rmse": lambda d: np.sqrt(np.square(d).mean(-1)),
        "mean_absolute": lambda d: np.abs(d).mean(-1),
    }[readout]
    pairs = Pairs("p", ("r", "r"), ("a", "b"), ("", ""), np.zeros(2), np.zeros(2))
    series = tuple(Series("n", f"l{i}", readout, (i + 1) / 3) for i in range(3))
    values = np.array([formula(d) for d in differences])
    elements = np.repeat(sizes[:, None], 2, axis=1)
    found = concatenated(
        Measured(pairs, series, values, elements), ["cumulative:joint", "pairs:sum"]
    )
    by_name = {one.name: row for row, one in zip(found.values, found.series, strict=True)}
    joint = f"{readout}:joint"
    for name, members in (("l0+l1", (0, 1)), ("l0+l1+l2", (0, 1, 2))):
        expected = formula(np.concatenate([differences[i] for i in members], axis=1))
        assert by_name[f"n:{name}:{joint}"] == pytest.approx(expected, rel=1e-12)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        expected = values[a] + values[b]
        assert by_name[f"n:l{a}+l{b}:{readout}:sum"] == pytest.approx(expected, rel=1e-12)
    assert len(found.series) == 3 + 2 + 3


def test_images_of_different_sizes_are_joined_by_their_own_sizes():
    pairs = Pairs("p", ("r", "s"), ("a", "b"), ("", ""), np.zeros(2), np.zeros(2))
    series = tuple(Series("n", f"l{i}", "rmse", (i + 1) / 2) for i in range(2))
    values, elements = np.array([[1.0, 1.0], [2.0, 2.0]]), np.array([[10, 40], [30, 10]])
    found = concatenated(Measured(pairs, series, values, elements), ["cumulative:joint"])
    expected = [math.sqrt((10 + 30 * 4) / 40), math.sqrt((40 + 10 * 4) / 50)]
    assert found.values[2].tolist() == pytest.approx(expected, rel=1e-12)


def test_concatenations_of_two_kinds_that_coincide_appear_once():
    kinds = ["cumulative:joint", "pairs:joint"]
    found = concatenated(measured_of(pairs_of()), kinds)
    assert len({one.name for one in found.series}) == len(found.series) == 1 + 4 + 3 + 5


def test_without_a_joint_form_or_sizes_there_are_only_sums():
    pairs = pairs_of()
    found = concatenated(measured_of(pairs, readout="cosine"), ["cumulative:joint", "pairs:sum"])
    assert {one.readout for one in found.series} == {"", "cosine", "cosine:sum"}
    unknown = measured_of(pairs, readout="rmse")
    unknown.elements[:] = 0
    found = concatenated(unknown, ["cumulative:joint"])
    assert {one.readout for one in found.series} == {"", "rmse"}


def test_concatenations_are_computed_when_they_are_read():
    """What reads them is given the same as from an array, and no more than it asks for."""
    pairs = pairs_of()
    measured = measured_of(pairs, layers=5)
    measured.values[2, 7] = math.nan
    found = concatenated(measured, ["cumulative:joint", "pairs:sum", "pairs:joint"])
    whole, n = np.array(list(found.values)), len(pairs)
    assert isinstance(found.values, LazyRows)
    assert found.values.shape == whole.shape == (len(found.series), n)
    assert (found.values.dtype, found.values.ndim) == (whole.dtype, 2)
    some = np.arange(n) % 3 == 0
    rows = np.array([0, 9, 7])
    for key in (
        *(0, -1, 9, slice(3, 12, 4), [1, 8], rows, whole[:, 0] > np.median(whole[:, 0])),
        *((9, 3), (9, some), (slice(None), some), (slice(2, 9), slice(1, 5))),
        *(np.ix_(rows, some), np.ix_(rows, [4, 2]), (rows, [1, 2, 3]), (rows, slice(0, 7))),
    ):
        np.testing.assert_array_equal(found.values[key], whole[key])
    np.testing.assert_array_equal(np.asarray(found.values), whole)
    with pytest.raises(IndexError):
        found.values[len(whole)]
    with pytest.raises(IndexError, match="indices of rows and of pairs"):
        found.values[None]
    there = Presence.of(found.values, np.arange(n) > 3)
    expected = ~np.isnan(whole) & (np.arange(n) > 3)
    np.testing.assert_array_equal(there, expected)
    np.testing.assert_array_equal(there[9], expected[9])
    np.testing.assert_array_equal(there[rows], expected[rows])
    for axis in (0, 1):
        np.testing.assert_array_equal(there[rows].all(axis), expected[rows].all(axis))
        np.testing.assert_allclose(there.mean(axis), expected.mean(axis), rtol=1e-12)


def test_no_more_than_a_few_concatenations_are_in_memory(monkeypatch):
    read, rows = [], LazyRows._rows

    def spy(self, wanted):
        read.append(int((wanted >= len(self._first)).sum()))
        return rows(self, wanted)

    monkeypatch.setattr(LazyRows, "_rows", spy)
    pairs = pairs_of()
    few = 4
    monkeypatch.setattr(study_correlations, "_AT_ONCE", few * len(pairs))
    monkeypatch.setattr(presence, "_AT_ONCE", few * len(pairs))
    measured = measured_of(pairs, layers=8)
    measured.values[2, 7] = math.nan
    kinds = ("cumulative:joint", "cumulative:sum", "pairs:joint", "pairs:sum")
    judged = Judged(concatenated(measured, kinds), Statistics(draws=20), 0)
    assert len(judged.measured.series) == 1 + 8 + 2 * (7 + 28 - 1)
    found = correlations({"made": judged}, {"made": "worse"})
    assert len({(row.layer, row.readout) for row in found}) == len(judged.measured.series)
    everything = range(len(judged.measured.series))
    drawn = judged.replicates(everything, judged.there[everything].all(axis=0))
    assert drawn.samples.shape == (20, len(everything))
    assert 1 < max(read) <= few


# Student's interval -------------------------------------------------------------------------------


@pytest.mark.parametrize("references", [4, 12])
def test_student_intervals_cover_what_they_claim(references):
    """For the mean of few clusters, percentile intervals cover too rarely; these do not."""
    random = np.random.default_rng(1)
    covered = {"student": 0, "percentile": 0}
    runs = 400
    for _ in range(runs):
        clusters = random.normal(0, 1, references)
        counts = random.multinomial(references, np.full(references, 1 / references), 200)
        found = Bootstrap(np.array(clusters.mean()), counts @ clusters / references)
        for name, one in (
            ("student", found.student_interval(references)),
            ("percentile", found.interval()),
        ):
            covered[name] += bool(one.low <= 0 <= one.high)
    assert covered["student"] / runs == pytest.approx(0.95, abs=0.035)
    assert covered["percentile"] < covered["student"]


def test_students_p_and_interval_agree():
    random = np.random.default_rng(2)
    samples = random.normal(0.3, 0.1, (500, 3))
    found = Bootstrap(np.array([0.3, 0.05, 0.0]), samples)
    interval = found.student_interval(8)
    assert ((interval.p < 0.05) == ((interval.low > 0) | (interval.high < 0))).all()
    t, _ = stats.ttest_1samp([1, 2, 3.5], 0), None
    clusters = np.array([1, 2, 3.5])
    counts = random.multinomial(3, np.full(3, 1 / 3), 200_000)
    same = Bootstrap(np.array(clusters.mean()), counts @ clusters / 3).student_interval(3)
    assert float(same.p) == pytest.approx(t.pvalue, rel=0.01)


def test_no_difference_at_all_is_certain_and_bad_input_is_refused():
    nothing = Bootstrap(np.array(0.0), np.zeros(50)).student_interval(5)
    assert (float(nothing.low), float(nothing.high), float(nothing.p)) == (0.0, 0.0, 1.0)
    silent = Bootstrap(np.array([0.3, 0.0]), np.tile([0.3, 0.0], (50, 1))).student_interval(5)
    assert np.isnan([silent.low[0], silent.high[0], silent.p[0]]).all()
    assert (silent.low[1], silent.p[1]) == (0.0, 1.0)
    with pytest.raises(ValueError, match="at least 2"):
        Bootstrap(np.array(0.0), np.zeros(50)).student_interval(1)
    with pytest.raises(ValueError, match="confidence"):
        Bootstrap(np.array(0.0), np.zeros(50)).student_interval(5, 1.5)
