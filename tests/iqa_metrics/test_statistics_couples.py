"""Tests of two metrics on the same pairs, ROC curves, and Krasula's couples of stimuli."""

import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from iqa_metrics.statistics import (
    areas_under_roc,
    better_worse,
    couples_of,
    different_similar,
    meng_rosenthal_rubin,
    residual_variance_test,
    shares_differ,
)

# Two metrics on the same pairs --------------------------------------------------------------------


def test_meng_rosenthal_and_rubins_own_example():
    """Their paper: 15 people, correlations .63 and -.03, -.19 between the two; z = 1.68."""
    z, p = meng_rosenthal_rubin(0.63, -0.03, -0.19, 15)
    assert z == pytest.approx(1.68, abs=0.005)
    assert p / 2 == pytest.approx(0.047, abs=0.0005)
    turned, same = meng_rosenthal_rubin(-0.03, 0.63, -0.19, 15)
    assert (turned, same) == (-z, p)


def test_metrics_that_can_not_be_told_apart():
    assert np.isnan(meng_rosenthal_rubin(0.8, 0.8, 1.0, 50)).all()
    assert np.isnan(meng_rosenthal_rubin(np.nan, 0.8, 0.5, 50)).all()
    assert np.isnan(meng_rosenthal_rubin(1.0, 0.8, 0.5, 50)).all()
    assert meng_rosenthal_rubin(0.8, 0.8, 0.5, 50)[1] == 1
    with pytest.raises(ValueError, match="at least 4"):
        meng_rosenthal_rubin(0.8, 0.7, 0.5, 3)


def test_equally_good_metrics_are_rarely_called_unequal():
    """With independent pairs, the false decisions at 5 % are 5 %, within 3 binomial deviations."""
    stream = np.random.default_rng(0)
    trials, n = 600, 80
    y = stream.normal(size=(trials, n))
    shared = stream.normal(size=(trials, n))
    a, b = (y + 0.5 * shared + stream.normal(0, 0.8, (trials, n)) for _ in range(2))

    def r(u, v):
        return np.array([np.corrcoef(i, j)[0, 1] for i, j in zip(u, v, strict=True)])

    _, p = meng_rosenthal_rubin(r(a, y), r(b, y), r(a, b), n)
    assert (p < 0.05).mean() == pytest.approx(0.05, abs=3 * np.sqrt(0.05 * 0.95 / trials))


def test_the_f_test_is_that_of_the_f_distribution():
    ratio, p = residual_variance_test([2.0, 1.0, 1.0], [1.0, 2.0, 1.0], 24)
    expected = 2 * scipy.stats.f.sf(4.0, 20, 20)
    np.testing.assert_allclose(ratio, [4, 4, 1])
    np.testing.assert_allclose(p, [expected, expected, 1])
    assert scipy.stats.f.cdf(4.0, 20, 20) == pytest.approx(1 - expected / 2)
    assert np.isnan(residual_variance_test(0.0, 0.0, 24)).all()
    assert residual_variance_test(0.0, 1.0, 24)[1] == 0
    with pytest.raises(ValueError, match="more than 4"):
        residual_variance_test(1.0, 1.0, 4)


# Areas under ROC curves ---------------------------------------------------------------------------


@given(
    hnp.arrays(np.float64, (2, 14), elements=st.integers(-3, 3).map(float)),
    hnp.arrays(bool, 14),
)
def test_an_area_is_the_share_of_couples_in_the_right_order(scores, positive):
    found = areas_under_roc(scores, positive)
    if positive.all() or not positive.any():
        assert np.isnan(found.value).all()
        return
    for row, value in zip(scores, found.value, strict=True):
        right = [
            (a > b) + (a == b) / 2 for a, b in itertools.product(row[positive], row[~positive])
        ]
        assert value == pytest.approx(np.mean(right), abs=1e-12)
        u = scipy.stats.mannwhitneyu(row[positive], row[~positive]).statistic
        assert value == pytest.approx(u / positive.sum() / (~positive).sum())


def test_variances_are_those_of_delongs_formula_and_of_a_simulation():
    stream = np.random.default_rng(1)
    positive = np.arange(60) < 25
    values, found = [], []
    for _ in range(400):
        signal = stream.normal(0.8, 1, 60) * 1.0
        signal[~positive] -= 0.8
        scores = np.stack([signal, signal + stream.normal(0, 0.7, 60)])
        areas = areas_under_roc(scores, positive)
        values.append(areas.value)
        found.append(areas.covariance)
    np.testing.assert_allclose(np.mean(found, axis=0), np.cov(np.transpose(values)), rtol=0.2)
    # By the definition, for the last sample.
    kernel = [
        (row[positive][:, None] > row[~positive]) + (row[positive][:, None] == row[~positive]) / 2
        for row in scores
    ]
    of_positive, of_negative = ([k.mean(axis) for k in kernel] for axis in (1, 0))
    expected = np.cov(of_positive) / 25 + np.cov(of_negative) / 35
    np.testing.assert_allclose(areas.covariance, expected, rtol=1e-10)


def test_a_metric_does_not_differ_from_itself():
    stream = np.random.default_rng(2)
    row, positive = stream.normal(size=40), stream.random(40) < 0.5
    areas = areas_under_roc(np.stack([row, row, -row]), positive)
    assert areas.difference(0, 1)[0] == 0
    assert np.isnan(areas.difference(0, 1)[1:]).all()
    apart, low, high, p = areas.difference(0, 2)
    assert apart == pytest.approx(2 * areas.value[0] - 1)
    assert low < apart < high
    assert 0 <= p <= 1
    low, high = areas.interval()
    assert (low <= areas.value).all()
    assert (areas.value <= high).all()
    assert ((low >= 0) & (high <= 1)).all()
    with pytest.raises(ValueError, match="expected scores"):
        areas_under_roc(row, positive)


# Couples of stimuli -------------------------------------------------------------------------------


def test_couples_are_different_by_a_z_test():
    opinion, errors = np.array([1.0, 2.0, 2.1, 5.0]), np.array([0.3, 0.4, 0.4, 0.0])
    found = couples_of(opinion, errors)
    assert len(found.first) == 6
    for a, b, different, higher in zip(
        found.first, found.second, found.different, found.higher, strict=True
    ):
        z = abs(opinion[a] - opinion[b]) / np.hypot(errors[a], errors[b])
        assert different == (z > 1.959964)
        assert higher == (opinion[a] > opinion[b])
    same = couples_of([1.0, 1.0], [0.0, 0.0])
    assert not same.different.any()
    with pytest.raises(ValueError, match="finite"):
        couples_of(opinion, errors * np.nan)


def test_a_sample_of_couples_has_each_at_most_once():
    opinion = np.random.default_rng(3).normal(size=80)
    every = couples_of(opinion, np.ones(80))
    assert len(every.first) == 80 * 79 // 2
    some = couples_of(opinion, np.ones(80), most=500, seed=4)
    couples = {frozenset(pair) for pair in zip(some.first, some.second, strict=True)}
    assert len(couples) == len(some.first) == 500
    assert all(len(couple) == 2 for couple in couples)
    again = couples_of(opinion, np.ones(80), most=500, seed=4)
    np.testing.assert_array_equal(again.first, some.first)
    whole = couples_of(opinion, np.ones(80), most=3159)
    assert len({frozenset(p) for p in zip(whole.first, whole.second, strict=True)}) == 3159


def test_a_metric_that_knows_opinions_is_right_and_its_reverse_is_wrong():
    stream = np.random.default_rng(5)
    opinion = stream.uniform(0, 10, 60)
    couples = couples_of(opinion, np.full(60, 0.7))
    quality = np.stack([opinion, -opinion, stream.normal(size=60), np.zeros(60)])
    preferred = better_worse(quality, couples)
    np.testing.assert_allclose(preferred.areas.value[[0, 1, 3]], [1, 0, 0.5])
    np.testing.assert_allclose(preferred.c0[[0, 1, 3]], [1, 0, 0.5])
    assert preferred.c0[2] == pytest.approx(0.5, abs=0.15)
    apart = different_similar(quality, couples)
    # The noise is the same for all stimuli, so that the difference of opinions tells exactly.
    np.testing.assert_allclose(apart.areas.value[[0, 1, 3]], [1, 1, 0.5])
    similar = ~couples.different
    gaps = np.abs(opinion[couples.first] - opinion[couples.second])
    assert (gaps[similar] <= apart.thresholds[0]).mean() == pytest.approx(0.95, abs=0.01)
    assert (gaps[couples.different] > apart.thresholds[0]).all()


def test_infinite_values_are_compared_like_others():
    couples = couples_of([0.0, 5.0, 5.0], [0.1, 0.1, 0.1])
    found = better_worse([[1.0, np.inf, np.inf], [1.0, np.nan, 2.0]], couples)
    assert found.c0[0] == 1
    assert np.isnan(found.c0[1])


def test_shares_are_compared_on_the_couples_that_one_gets_right():
    first = np.array([1.0] * 9 + [0.0] + [1.0] * 20)
    second = np.array([0.0] * 9 + [1.0] + [1.0] * 20)
    assert shares_differ(first, second) == pytest.approx(scipy.stats.binomtest(9, 10).pvalue)
    assert shares_differ(first, first) == 1
