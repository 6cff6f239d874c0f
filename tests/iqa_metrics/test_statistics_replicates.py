"""Intervals of all measures: replicates from sums equal replicates of copied pairs."""

import dataclasses
import warnings

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from iqa_metrics.statistics import (
    Resampling,
    fit_logistic,
    intervals,
    krocc,
    measures,
    opinion_reach,
    replicates,
    srocc_bootstrap,
    srocc_within,
)

SIZES = (3, 7, 5, 12, 4, 9)
EQUAL = (6,) * 7


def material(sizes=SIZES, series=3, seed=0, step=None):
    """Distances, opinions and shuffled references; rounded to steps, so that there are ties."""
    stream = np.random.default_rng(seed)
    references = np.repeat([f"r{i}" for i in range(len(sizes))], sizes)
    stream.shuffle(references)
    y = stream.normal(size=len(references))
    x = y + stream.normal(0, 1, (series, len(references)))
    return (
        (x, y, references) if step is None else (np.round(x / step), np.round(y / step), references)
    )


def copied(x, y, references, resampling, correlation):
    """The correlation on each replicate, with the pairs copied."""
    found = []
    for counts in resampling.counts().astype(int):
        index = np.repeat(np.arange(len(y)), counts)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found.append(correlation(x[index], y[index])[0])
    return np.array(found)


@pytest.mark.parametrize("step", [None, 0.5, 2.0])
@pytest.mark.parametrize("sizes", [SIZES, EQUAL])
def test_replicates_equal_those_of_copied_pairs(sizes, step):
    x, y, references = material(sizes, step=step)
    resampling = Resampling(references.tolist(), 40, 3)
    by = resampling.by_reference()
    ours = {
        scipy.stats.spearmanr: replicates.srocc_replicates(x, y, by),
        scipy.stats.pearsonr: replicates.pearson_replicates(x, y, by),
        scipy.stats.kendalltau: replicates.krocc_replicates(x, y, by)[1],
    }
    for correlation, found in ours.items():
        assert found.shape == (40, 3)
        for row in range(3):
            expected = copied(x[row], y, references, resampling, correlation)
            np.testing.assert_allclose(found[:, row], expected, atol=1e-9)


def test_the_error_of_a_replicate_is_that_of_its_pairs():
    x, y, references = material()
    resampling = Resampling(references.tolist(), 20, 1)
    found = replicates.rmse_replicates(x - y, resampling.by_reference())
    for draw, counts in enumerate(resampling.counts().astype(int)):
        index = np.repeat(np.arange(len(y)), counts)
        assert found[draw, 1] == pytest.approx(np.sqrt(np.square(x[1] - y)[index].mean()))


def test_many_references_take_the_other_way_with_the_same_values(monkeypatch):
    x, y, references = material(EQUAL)
    few = srocc_bootstrap(x, y, references.tolist(), draws=30).samples
    monkeypatch.setattr(intervals, "sums_are_faster", lambda *_: False)
    np.testing.assert_allclose(srocc_bootstrap(x, y, references.tolist(), draws=30).samples, few)


def test_blocks_do_not_change_replicates(monkeypatch):
    x, y, references = material((140, 9, 60), series=4, step=0.3)
    by = Resampling(references.tolist(), 12, 0).by_reference()
    whole = replicates.krocc_replicates(x, y, by), replicates.srocc_replicates(x, y, by)
    np.testing.assert_allclose(whole[0][0], krocc(x, y), rtol=1e-12)
    monkeypatch.setattr(replicates, "_AT_ONCE", 500)
    monkeypatch.setattr(replicates, "_PRODUCTS", 10)
    monkeypatch.setattr(replicates, "_SUMS", 100)
    again = replicates.krocc_replicates(x, y, by), replicates.srocc_replicates(x, y, by)
    np.testing.assert_array_equal(again[0][1], whole[0][1])
    np.testing.assert_array_equal(again[1], whole[1])


@given(
    hnp.arrays(np.float64, (2, 15), elements=st.integers(-2, 2).map(float)),
    st.integers(0, 1000),
)
def test_kendall_of_all_pairs_is_scipys_whatever_the_ties(table, seed):
    x, y = table
    by = Resampling([f"r{i % 4}" for i in range(15)], 5, seed).by_reference()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = scipy.stats.kendalltau(x, y)[0]
    np.testing.assert_allclose(
        replicates.krocc_replicates(x[None], y, by)[0][0], expected, atol=1e-12
    )


def test_missing_and_infinite_distances():
    x, y, references = material()
    x[0, 3], x[1, 4] = np.nan, np.inf
    resampling = Resampling(references.tolist(), 25, 0)
    drawn = srocc_bootstrap(x, y, references.tolist(), draws=25)
    found = measures(x, y, drawn, resampling=resampling)
    assert np.isnan(
        [found.krocc[0], found.krocc_low[0], found.plcc_low[0], found.srocc_within[0]]
    ).all()
    assert np.isnan([found.plcc[1], found.plcc_low[1], found.rmse_low[1]]).all()
    assert np.isfinite([found.krocc_low[1], found.krocc_high[1], found.srocc_within[1]]).all()
    for name in ("srocc", "plcc", "plcc_logistic", "krocc", "rmse"):
        low, value, high = (getattr(found, f"{name}{end}")[2] for end in ("_low", "", "_high"))
        assert low < value < high


def test_measures_beside_their_plain_versions():
    x, y, references = material(EQUAL)
    names = references.tolist()
    drawn = srocc_bootstrap(x, y, names, draws=60)
    reach = opinion_reach(np.full(len(y), 0.5), 10)
    found = measures(x, y, drawn, 0.9, resampling=Resampling(names, 60, 0), reach=reach)
    curve = fit_logistic(x[0], y)
    samples = copied(curve(x[0]), y, references, Resampling(names, 60, 0), scipy.stats.pearsonr)
    ends = found.plcc_logistic_low[0], found.plcc_logistic_high[0]
    np.testing.assert_allclose(ends, np.quantile(samples, [0.05, 0.95]), rtol=1e-8)
    np.testing.assert_allclose(found.srocc_within, srocc_within(x, y, names))
    assert found.outlier_ratio[0] == (np.abs(curve(x[0]) - y) > reach).mean()
    alone = measures(x, y, None, resampling=Resampling(["one"] * len(y)))
    assert np.isnan([alone.krocc_low, alone.plcc_low, alone.outlier_ratio]).all()
    assert np.isfinite([alone.krocc, alone.rmse, alone.srocc_within]).all()
    few = measures(x[:, :3], y[:3], None)
    assert all(np.isnan(getattr(few, one.name)).all() for one in dataclasses.fields(few))


@pytest.mark.parametrize("step", [None, 0.5])
def test_many_references_with_many_pairs_are_summed_too(monkeypatch, step):
    """As in KADID-10k: sums over 81 references are faster where each has many pairs."""
    x, y, references = material((30,) * 81, series=2, step=step)
    assert replicates.sums_are_faster(81, len(y))
    assert not replicates.sums_are_faster(81, 5 * 81)
    assert not replicates.sums_are_faster(400, 10**6)
    names = references.tolist()
    summed = srocc_bootstrap(x, y, names, draws=20)
    monkeypatch.setattr(intervals, "sums_are_faster", lambda *_: False)
    ranked = srocc_bootstrap(x, y, names, draws=20)
    np.testing.assert_allclose(summed.samples, ranked.samples, rtol=1e-10)
