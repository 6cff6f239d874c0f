"""Observer noise: intervals of opinions, outliers, weights, and the noise ceiling."""

import numpy as np
import pytest
import scipy.stats

from iqa_metrics.statistics import (
    noise_ceiling,
    noise_weights,
    opinion_reach,
    outlier_ratio,
    plcc,
    srocc,
    standard_errors,
    weighted_plcc,
    weighted_srocc,
)


def test_the_interval_of_an_opinion_is_that_of_its_mean():
    ratings = np.random.default_rng(0).normal(3, 1, 12)
    reach = opinion_reach([ratings.std(ddof=1)], 12)
    ends = scipy.stats.ttest_1samp(ratings, 0).confidence_interval(0.95)
    assert reach[0] == pytest.approx((ends.high - ends.low) / 2, rel=1e-12)
    assert standard_errors([2.0], [16.0])[0] == 0.5
    unknown = opinion_reach([1.0, np.nan, 1.0], [np.nan, 4, 1])
    assert np.isnan(unknown).all()
    for bad in (([-1.0], 4), ([1.0], 0)):
        with pytest.raises(ValueError, match="expected deviations"):
            standard_errors(*bad)
    with pytest.raises(ValueError, match="confidence"):
        opinion_reach([1.0], 4, 95)


def test_outliers_are_counted_where_the_interval_is_known():
    opinion, reach = np.array([1.0, 2, 3, 4]), np.array([0.5, 0.5, np.nan, 0.5])
    predicted = np.array([[1.4, 2.6, 9.0, 4.0], [0.0, 0.0, 0.0, 0.0], [1.0, np.nan, 3, 4]])
    np.testing.assert_allclose(outlier_ratio(predicted, opinion, reach), [1 / 3, 1, np.nan])
    assert np.isnan(outlier_ratio(opinion, opinion, np.full(4, np.nan)))
    with pytest.raises(ValueError, match="reach"):
        outlier_ratio(opinion, opinion, [1.0])


def test_a_perfect_metric_has_outliers_as_often_as_the_interval_allows():
    """Opinions are means of 20 ratings around the truth, which the metric knows."""
    stream = np.random.default_rng(1)
    truth = stream.uniform(1, 5, 4000)
    ratings = truth[:, None] + stream.normal(0, 1, (4000, 20))
    reach = opinion_reach(ratings.std(1, ddof=1), 20)
    assert outlier_ratio(truth, ratings.mean(1), reach) == pytest.approx(0.05, abs=0.012)


def test_weights_are_inverse_variances():
    weights = noise_weights([1.0, 2.0, np.nan, 2.0])
    np.testing.assert_allclose(weights / weights[1], [4, 1, 1, 1])
    assert weights.mean() == pytest.approx(1)
    assert np.isfinite(noise_weights([0.0, 1.0, 1.0])).all()
    with pytest.raises(ValueError, match="above 0"):
        noise_weights([0.0, np.nan])
    stream = np.random.default_rng(2)
    x, y = stream.normal(size=(2, 3, 30)).reshape(2, 3, 30)[0], stream.normal(size=30)
    whole = stream.integers(1, 4, 30)
    copies = np.repeat(np.arange(30), whole)
    np.testing.assert_allclose(weighted_plcc(x, y, whole), plcc(x[:, copies], y[copies]))
    np.testing.assert_allclose(weighted_srocc(x, y, np.ones(30)), srocc(x, y))
    with pytest.raises(ValueError, match="weights"):
        weighted_plcc(x, y, np.zeros(30))


def test_the_ceiling_of_normal_opinions_is_that_of_classical_test_theory():
    """Where opinions have the variance v and noise s, the correlation is sqrt(v / (v + s))."""
    y = np.random.default_rng(3).normal(0, 2, 4000)
    for observers in (1, 9):
        found = noise_ceiling(y, np.full(4000, 3.0), "plcc", observers=observers, draws=50)
        expected = np.sqrt(y.var() / (y.var() + 9 / observers))
        assert found.value == pytest.approx(expected, abs=0.003)
        assert found.low < expected < found.high


def test_the_ceiling_falls_with_noise_and_is_one_without():
    y = np.random.default_rng(4).normal(size=200)
    assert noise_ceiling(y, np.zeros(200), draws=20).value == pytest.approx(1)
    values = [float(noise_ceiling(y, np.full(200, s), draws=30).value) for s in (0.2, 0.6, 2.0)]
    assert values == sorted(values, reverse=True)
    first = noise_ceiling(y, np.full(200, 0.5), draws=30, seed=5)
    again = noise_ceiling(y, np.full(200, 0.5), draws=30, seed=5)
    assert (first.value, first.low) == (again.value, again.low)


@pytest.mark.parametrize("measure", ["plcc", "srocc"])
def test_resampling_references_widens_the_ceilings_interval(measure):
    stream = np.random.default_rng(5)
    references = [f"r{i}" for i in range(8) for _ in range(20)]
    y = np.repeat(stream.normal(0, 1, 8), 20) * np.tile(stream.normal(0, 1, 20), 8)
    noise = np.full(160, 0.3)
    alone = noise_ceiling(y, noise, measure, draws=200)
    wide = noise_ceiling(y, noise, measure, references=references, draws=200)
    assert wide.value == pytest.approx(alone.value)
    assert wide.high - wide.low > 1.5 * (alone.high - alone.low)


def test_what_the_ceiling_refuses():
    y, noise = np.arange(10.0), np.ones(10)
    for given, options, match in (
        (-noise, {}, "deviations"),
        (noise * np.nan, {}, "deviations"),
        (noise, {"measure": "krocc"}, "measure"),
        (noise, {"observers": 0}, "positive"),
        (noise, {"confidence": 2}, "confidence"),
        (noise, {"references": ["a", "b"]}, "a reference for each"),
    ):
        with pytest.raises(ValueError, match=match):
            noise_ceiling(y, given, draws=3, **{"measure": "plcc", **options})
