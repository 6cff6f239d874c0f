"""Statistics of agreement, compared with scipy and with plain loops."""

import warnings

import lpips
import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from iqa_metrics.statistics import (
    Bootstrap,
    Resampling,
    correlations,
    families,
    fit_logistic,
    holm,
    intervals,
    krocc,
    plcc,
    plcc_logistic,
    pooled,
    ranks,
    rmse,
    same_precision,
    srocc,
    srocc_difference,
    srocc_interval,
    two_afc,
)

PAIRS = {
    plcc: scipy.stats.pearsonr,
    srocc: scipy.stats.spearmanr,
    krocc: scipy.stats.kendalltau,
}
# Few distinct values: ties and constant input come often.
tied = hnp.arrays(
    np.float64, st.tuples(st.just(2), st.integers(2, 30)), elements=st.integers(-3, 3).map(float)
)
apart = hnp.arrays(np.float64, st.tuples(st.just(2), st.integers(2, 30)), elements=st.floats(-9, 9))


def by_scipy(ours, x, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says of constant input what the NaN says
        return PAIRS[ours](x, y)[0]


@pytest.mark.parametrize("correlation", PAIRS)
@given(table=tied)
def test_ties_and_constants_are_handled_as_scipy_does(correlation, table):
    x, y = table
    np.testing.assert_allclose(
        correlation(x, y), by_scipy(correlation, x, y), rtol=1e-12, atol=1e-12
    )


@given(table=apart)
def test_ranks_agree_with_scipy(table):
    np.testing.assert_array_equal(ranks(table), scipy.stats.rankdata(table, axis=-1))


@pytest.mark.parametrize("correlation", PAIRS)
def test_a_table_gives_the_values_of_its_rows(correlation):
    stream = np.random.default_rng(0)
    x, y = stream.normal(size=(3, 4, 50)), stream.normal(size=50)
    found = correlation(x, y)
    assert found.shape == (3, 4)
    for index in np.ndindex(3, 4):
        assert found[index] == pytest.approx(by_scipy(correlation, x[index], y), rel=1e-12)
    np.testing.assert_allclose(correlation(x[0], np.broadcast_to(y, (4, 50))), found[0])
    x[0, 0, 7] = np.nan
    found = correlation(x, y)
    assert np.isnan(found[0, 0])
    assert np.isfinite(found).sum() == 11


@pytest.mark.parametrize("correlation", PAIRS)
@given(table=apart)
def test_units_do_not_matter_and_signs_are_kept(correlation, table):
    x, y = np.round(table, 2)
    value = correlation(x, y)
    np.testing.assert_allclose(correlation(x * 2 + 1, y), value, atol=1e-9)
    np.testing.assert_allclose(correlation(-x, y), -value, atol=1e-9)
    np.testing.assert_allclose(correlation(y, x), value, atol=1e-9)


def test_kendall_in_blocks_equals_kendall_in_one_piece(monkeypatch):
    stream = np.random.default_rng(0)
    x, y = stream.integers(0, 20, (2, 300))
    monkeypatch.setattr(correlations, "AT_ONCE", 1000)
    assert krocc(x, y) == pytest.approx(scipy.stats.kendalltau(x, y)[0], rel=1e-12)


def test_rmse_and_2afc_agreement():
    assert rmse([1.0, 2, 3], [1.0, 2, 5]) == pytest.approx((4 / 3) ** 0.5)
    # By hand: right for 80 % of people, a tie, wrong for 90 %.
    assert two_afc([1, 2, 1], [2, 2, 3], [0.2, 0.7, 0.9]) == pytest.approx((0.8 + 0.5 + 0.1) / 3)
    assert two_afc([[1, 2], [2, 1]], [2, 1], [0.0, 1.0]).tolist() == [1.0, 0.5]
    assert np.isnan(two_afc([np.nan, 1], [1, 2], [0, 1]))
    assert np.isnan(two_afc([1, 1], [1, 2], [np.nan, 0]))
    assert np.isnan(ranks([[1.0, np.nan], [2, 1]])).tolist() == [[True, True], [False, False]]
    assert srocc(np.zeros((0, 5)), np.arange(5.0)).shape == (0,)


def test_what_does_not_fit_is_refused():
    for x, y in (([1.0], [1.0]), ([1.0, 2], [1.0, 2, 3]), (1.0, 1.0)):
        with pytest.raises(ValueError, match="expected distances"):
            srocc(x, y)


# The logistic -------------------------------------------------------------------------------------


def curve(x, low, high, centre, scale):
    return low + (high - low) / (1 + np.exp(-(x - centre) / scale))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("noise", [0.0, 0.5, 5.0])
def test_the_logistic_is_the_least_squares_fit(sign, unit, noise):
    stream = np.random.default_rng(1)
    x = stream.gamma(2.0, 1.0, 200) * unit
    y = curve(sign * x, 20, 80, sign * 2 * unit, 0.7 * unit) + noise * stream.normal(size=200)
    fitted = fit_logistic(x, y)
    error = np.square(fitted(x) - y).sum()
    start = (20, 80, 2.0, sign * 0.7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", scipy.optimize.OptimizeWarning)
        best, _ = scipy.optimize.curve_fit(curve, x / unit, y, start, maxfev=20000)
    least = np.square(curve(x / unit, *best) - y).sum()
    assert error <= least * (1 + 1e-6) + 1e-8
    assert fitted.scale > 0
    assert (fitted.high > fitted.low) == (sign > 0)
    steps = np.diff(fitted(np.sort(x)))
    assert (steps * sign >= 0).all()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("spread", [1, 2, 3])
def test_a_few_huge_distances_do_not_hide_the_bend(seed, spread):
    stream = np.random.default_rng(seed)
    x = stream.lognormal(0, spread, 200)
    y = curve(x, 0, 60, 1, 0.5) + 3 * stream.normal(size=200)
    error = np.square(fit_logistic(x, y)(x) - y).sum()
    assert error <= np.square(curve(x, 0, 60, 1, 0.5) - y).sum() * (1 + 1e-9)


def test_correlation_after_the_logistic():
    stream = np.random.default_rng(2)
    x = stream.gamma(2.0, 1.0, (2, 3, 100))
    y = curve(-x[0, 0], 0, 9, -2, 0.5) + 0.3 * stream.normal(size=100)
    correlation, error = plcc_logistic(x, y)
    assert correlation.shape == error.shape == (2, 3)
    fitted = fit_logistic(x[0, 0], y)
    assert correlation[0, 0] == pytest.approx(scipy.stats.pearsonr(fitted(x[0, 0]), y)[0], rel=1e-9)
    assert correlation[0, 0] > abs(plcc(x[0, 0], y))
    assert error[0, 0] == pytest.approx(rmse(fitted(x[0, 0]), y))
    x[1, 1, 3] = np.nan
    assert np.isnan(plcc_logistic(x, y)[0][1, 1])


@given(hnp.arrays(np.float64, (2, 12), elements=st.floats(-1e3, 1e3)))
def test_the_logistic_never_does_worse_than_the_mean(table):
    x, y = table
    error = np.square(fit_logistic(x, y)(x) - y).sum()
    assert error <= np.square(y - y.mean()).sum() * (1 + 1e-9) + 1e-9


def test_a_constant_distance_predicts_the_mean():
    assert fit_logistic([3.0] * 5, [1.0, 2, 3, 4, 5])(3.0) == 3
    with pytest.raises(ValueError, match="at least 4"):
        fit_logistic([1.0, 2, 3], [1.0, 2, 3])
    with pytest.raises(ValueError, match="finite"):
        fit_logistic([1.0, 2, 3, np.nan], [1.0, 2, 3, 4])


# Intervals ----------------------------------------------------------------------------------------


def study(rows=3, references=8, each=12, seed=0):
    """Distances that agree with opinions to a degree that depends on the reference."""
    stream = np.random.default_rng(seed)
    names = np.repeat([f"r{i}" for i in range(references)], each)
    opinion = stream.normal(size=len(names)) + np.repeat(stream.normal(size=references), each)
    noise = np.linspace(0.3, 2, rows)[:, None] * stream.normal(size=(rows, len(names)))
    return np.round(opinion + noise, 1), np.round(opinion, 1), names


def resampled(x, y, names, counts):
    """A bootstrap replicate, pair by pair."""
    index = np.repeat(np.arange(len(names)), counts.astype(int))
    return by_scipy(srocc, x[index], y[index])


def test_replicates_are_those_of_copied_pairs():
    x, y, names = study()
    counts = Resampling(names, 40, seed=3).counts()
    for name in np.unique(names):  # all of a reference's pairs, or none
        assert (np.ptp(counts[:, names == name], axis=1) == 0).all()
    assert (counts.sum(1) == len(names)).all()
    found = intervals._srocc_draws(x, y, Resampling(names, 40, seed=3).counts())
    for draw, row in np.ndindex(found.shape):
        expected = resampled(x[row], y, names, counts[draw])
        assert found[draw, row] == pytest.approx(expected, rel=1e-10)


def test_the_interval_is_that_of_the_replicates():
    x, y, names = study()
    found = srocc_interval(x, y, names, draws=400, seed=1, confidence=0.9)
    draws = intervals._srocc_draws(x, y, Resampling(names, 400, 1).counts())
    np.testing.assert_allclose(found.value, srocc(x, y))
    np.testing.assert_allclose([found.low, found.high], np.quantile(draws, [0.05, 0.95], axis=0))
    assert (found.low < found.value).all()
    assert (found.value < found.high).all()
    assert (found.p < 0.01).all()
    again = srocc_interval(x, y, names, draws=400, seed=1, confidence=0.9)
    np.testing.assert_array_equal(found.low, again.low)
    assert (srocc_interval(x, y, names, draws=400, seed=2).low != found.low).any()


def test_resampling_references_is_wider_than_resampling_pairs():
    x, y, names = study(rows=1, references=6, each=40)
    by_reference = srocc_interval(x, y, names, draws=500)
    by_pair = srocc_interval(x, y, [str(i) for i in range(len(y))], draws=500)
    assert (by_reference.high - by_reference.low > by_pair.high - by_pair.low).all()


def test_chunks_do_not_change_replicates(monkeypatch):
    x, y, names = study()
    whole = srocc_interval(x, y, names, draws=50)
    monkeypatch.setattr(intervals, "AT_ONCE", 500)
    np.testing.assert_array_equal(srocc_interval(x, y, names, draws=50).low, whole.low)


def test_a_difference_uses_the_same_replicates():
    x, y, names = study()
    found = srocc_difference(x[0], -x[2], y, names, draws=300)
    draws = intervals._srocc_draws(x, y, Resampling(names, 300).counts())
    np.testing.assert_allclose(found.value, abs(srocc(x[0], y)) - abs(srocc(x[2], y)))
    np.testing.assert_allclose(found.low, np.quantile(draws[:, 0] - draws[:, 2], 0.025), atol=1e-12)
    assert found.low > 0
    assert found.p < 0.05
    same = srocc_difference(x[0], x[0], y, names, draws=300)
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)
    signed = srocc_difference(x[0], -x[2], y, names, draws=300, absolute=False)
    assert signed.value > 1


def test_a_table_is_compared_with_a_single_row():
    x, y, names = study(rows=5)
    baseline = np.random.default_rng(9).normal(size=len(y))
    # As many draws as rows: what is broadcast along the wrong axis would not be noticed.
    found = srocc_difference(x, baseline, y, names, draws=5)
    assert found.low.shape == found.p.shape == (5,)
    for row in range(5):
        alone = srocc_difference(x[row], baseline, y, names, draws=5)
        assert (found.value[row], found.low[row], found.high[row], found.p[row]) == (
            *(alone.value, alone.low, alone.high, alone.p),
        )


def test_an_interval_holds_the_truth_as_often_as_it_says():
    """With new references each time, at 80 %; the bounds are three binomial deviations."""
    population = study(rows=1, references=400, each=6, seed=5)
    truth = srocc(population[0][0], population[1])
    stream = np.random.default_rng(6)
    hits = 0
    for trial in range(150):
        chosen = stream.choice(400, 40, replace=False)
        keep = np.isin(population[2], [f"r{i}" for i in chosen])
        x, y, names = population[0][0][keep], population[1][keep], population[2][keep]
        found = srocc_interval(x, y, names, draws=200, seed=trial, confidence=0.8)
        hits += bool(found.low <= truth <= found.high)
    assert 0.7 <= hits / 150 <= 0.9


def test_missing_values_and_single_references():
    x, y, names = study()
    x[1, 4] = np.nan
    found = srocc_interval(x, y, names, draws=20)
    assert np.isnan([found.value[1], found.low[1], found.p[1]]).all()
    assert np.isfinite(found.low[[0, 2]]).all()
    with pytest.raises(ValueError, match="at least 2 references, got 1"):
        srocc_interval(x, y, ["one"] * len(y))
    with pytest.raises(ValueError, match="a reference for each"):
        srocc_interval(x, y, names[1:])
    with pytest.raises(ValueError, match="draws"):
        srocc_interval(x, y, names, draws=0)
    with pytest.raises(ValueError, match="confidence"):
        srocc_interval(x, y, names, confidence=95)


# Families -----------------------------------------------------------------------------------------


def test_databases_are_pooled_by_fishers_z():
    r, n = np.array([[0.9, -0.5], [0.7, -0.8]]), [30, 103]
    expected = np.tanh((27 * np.arctanh(r[0]) + 100 * np.arctanh(r[1])) / 127)
    np.testing.assert_allclose(pooled(r, n), expected, rtol=1e-12)
    assert pooled([0.8, np.nan], [50, 50]) == pytest.approx(0.8)
    assert np.isnan(pooled([np.nan, np.nan], [50, 50]))
    assert pooled([1.0, 0.5], [50, 50]) == 1
    for bad in (([0.5], [3]), ([0.5, 0.6], [50])):
        with pytest.raises(ValueError, match="counts"):
            pooled(*bad)


def test_many_databases_and_replicates_are_pooled_in_parts(monkeypatch):
    r = np.random.default_rng(0).uniform(-1, 1, (3, 20, 7))
    r[1, 4, 2] = np.nan
    expected = pooled(r, [10, 20, 30])
    monkeypatch.setattr(families, "_AT_ONCE", 50)
    np.testing.assert_array_equal(pooled(r, [10, 20, 30]), expected)


def test_holms_correction():
    # The steps of the procedure, by hand.
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    corrected = holm([0.2, np.nan, 0.6])
    assert corrected[[0, 2]].tolist() == pytest.approx([0.4, 0.6])
    assert np.isnan(corrected[1])
    assert holm([]).shape == (0,)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.floats(0.001, 0.2))
def test_holm_rejects_what_stepping_down_rejects(p, level):
    order = sorted(range(len(p)), key=lambda i: p[i])
    rejected = set()
    for step, index in enumerate(order):
        if p[index] * (len(p) - step) > level:
            break
        rejected.add(index)
    assert {i for i, value in enumerate(holm(p)) if value <= level} == rejected


@pytest.mark.parametrize("seed", range(5))
def test_jnd_precision_agrees_with_the_authors(seed):
    random = np.random.default_rng(seed)
    same = random.integers(0, 4, 40) / 3
    distances = random.normal(size=(3, 40)) - same
    found = same_precision(distances, same)
    for row, value in zip(distances, found, strict=True):
        order = np.argsort(row)
        hits, misses = np.cumsum(same[order]), np.cumsum(1 - same[order])
        expected = lpips.voc_ap(hits / hits[-1], hits / (hits + misses))
        assert value == pytest.approx(expected, rel=1e-12)


def test_jnd_precision_does_not_depend_on_the_order_of_ties():
    same = np.array([1.0, 0.0, 1.0, 0.0])
    assert same_precision([0.0, 0.0, 0.0, 0.0], same) == 0.5
    assert same_precision([0.0, 1.0, 0.0, 1.0], same) == 1.0
    assert np.isnan(same_precision([0.0, 1.0], [0.0, 0.0]))
    assert np.isnan(same_precision([np.nan, 1.0], [1.0, 0.0]))


def test_p_counts_the_value_itself_as_a_replicate():
    """p = 2 (k + 1) / (draws + 1), where k replicates lie on the rarer side of 0."""
    samples = np.array([1.0, 2.0, 3.0, -1.0, 4.0, 5.0, 6.0, 7.0, 8.0])
    one_side = Bootstrap(np.float64(2.0), np.abs(samples)).interval(0.95)
    assert float(one_side.p) == pytest.approx(2 * 1 / 10)
    both_sides = Bootstrap(np.float64(2.0), samples).interval(0.95)
    assert float(both_sides.p) == pytest.approx(2 * 2 / 10)
