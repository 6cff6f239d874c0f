"""The logistic is no worse than scipy's least squares from many starts, on tables of many kinds."""

import warnings

import numpy as np
import pytest
import scipy.optimize

from iqa_metrics.statistics import fit_logistic, plcc_logistic, predicted_by_logistic

KINDS = (
    "plain",
    "saturated",
    "heavy tails",
    "ties",
    "few pairs",
    "outliers",
    "reversed",
    "steep",
    "weak",
    "exponential",
    "few opinions",
    "wild opinions",
)


def table(kind, stream):
    """Distances and opinions of one kind."""
    n = int(stream.choice([12, 30, 80, 200]))
    x = stream.gamma(2, 1, n)
    if kind == "saturated":  # near 1, as MS-SSIM is
        x = 1 - np.exp(-stream.gamma(1.5, 2.5, n))
    elif kind == "heavy tails":
        x = stream.lognormal(0, 2.5, n)
    elif kind == "ties":
        x = stream.integers(0, int(stream.integers(2, 8)), n).astype(float)
    elif kind == "few pairs":
        x = stream.gamma(2, 1, int(stream.integers(4, 10)))
    place = (x - np.median(x)) / (np.std(x) * stream.uniform(0.2, 2) + 1e-12)
    place *= 30 if kind == "steep" else 1
    noise = 250 if kind == "weak" else 15
    y = 25 * (1 + np.tanh(place / 2)) + noise * stream.uniform(0.05, 1) * stream.normal(size=len(x))
    if kind == "exponential":
        y = np.exp(x / 2) + 0.2 * stream.normal(size=len(x))
    elif kind == "outliers":
        x[stream.choice(len(x), 2)] *= stream.choice([1e2, -1e2, 1e4])
        y[stream.choice(len(x), 1)] += 300
    elif kind == "reversed":
        y = -y
    elif kind == "few opinions":
        y = np.round(y / 40)
    elif kind == "wild opinions":
        y = y + 20 * stream.standard_t(1.2, len(x))
    return x, y


def share(parameters, x):
    _, _, centre, log_scale = parameters
    return 0.5 * (1 + np.tanh(np.clip((x - centre) / np.exp(log_scale) / 2, -400, 400)))


def curve(parameters, x):
    low, high = parameters[:2]
    return low + (high - low) * share(parameters, x)


def slopes(parameters, x):
    low, high, centre, log_scale = parameters
    scale, s = np.exp(log_scale), share(parameters, x)
    rise = (high - low) * s * (1 - s)
    return np.stack([1 - s, s, -rise / scale, -rise * (x - centre) / scale], axis=-1)


def least_error_of_scipy(x, y, stream, starts):
    """The least squared error of scipy's least squares from many starts, and that of a constant."""
    z = (x - x.min()) / np.ptp(x)
    least = constant = np.square(y - y.mean()).sum()
    quartiles = max(np.subtract(*np.quantile(z, [0.75, 0.25])), 1e-6)
    for _ in range(starts):
        centre = stream.choice([np.quantile(z, stream.random()), stream.uniform(-0.3, 1.3)])
        log_scale = stream.uniform(np.log(1e-3 * quartiles), 1)
        ends = np.quantile(y, [0.05, 0.95])
        if np.cov(z, y)[0, 1] < 0 and stream.random() < 0.8:
            ends = ends[::-1]
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = scipy.optimize.least_squares(
                lambda p: curve(p, z) - y,
                [*ends, centre, log_scale],
                jac=lambda p: slopes(p, z),
                method="lm",
                max_nfev=400,
            )
            error = np.square(curve(found.x, z) - y).sum()
        least = min(least, error) if np.isfinite(error) else least
    return least, constant


def worse_than_scipy(tables, seed, starts):
    found = []
    for number in range(tables):
        kind = KINDS[number % len(KINDS)]
        stream = np.random.default_rng([seed, number])
        x, y = table(kind, stream)
        if np.ptp(x) == 0:
            continue
        fitted = fit_logistic(x, y)
        assert fitted.scale > 0
        error = np.square(fitted(x) - y).sum()
        least, constant = least_error_of_scipy(x, y, stream, starts)
        if error > least * (1 + 1e-6) + 1e-9 * constant:
            found.append((kind, number, error / least - 1))
    return found


def test_no_worse_than_scipy_from_many_starts():
    assert worse_than_scipy(96, seed=0, starts=8) == []


@pytest.mark.slow
def test_no_worse_than_scipy_from_many_starts_in_a_thousand_tables():
    assert worse_than_scipy(1008, seed=1, starts=30) == []


def test_rows_are_fitted_as_if_each_were_alone():
    stream = np.random.default_rng(3)
    y = stream.normal(size=300)
    x = np.exp(y + stream.normal(0, 1, (5, 300)))
    x[4, 7] = np.nan
    together = predicted_by_logistic(x, y)
    for row in range(4):
        np.testing.assert_allclose(together[row], fit_logistic(x[row], y)(x[row]), rtol=1e-9)
    assert np.isnan(together[4]).all()
    assert np.isnan(plcc_logistic(x, y)[0]).tolist() == [False] * 4 + [True]


@pytest.mark.parametrize("many", [50, 5000])
@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_units_and_direction_do_not_matter(many, unit):
    stream = np.random.default_rng(4)
    x = stream.gamma(2, 1, many)
    y = np.tanh(x - 2) + stream.normal(0, 0.3, many)
    error = np.square(fit_logistic(x, y)(x) - y).sum()
    for a, b in ((x * unit, y), (-x * unit, y * 1e6), (x + 1e3, -y)):
        again = np.square(fit_logistic(a, b)(a) - b).sum() / np.ptp(b) ** 2 * np.ptp(y) ** 2
        assert again == pytest.approx(error, rel=1e-6)


def test_one_end_of_the_curve_is_enough():
    """An exponential is a logistic whose centre lies far outside of the distances."""
    x = np.linspace(0, 1, 60)
    for y in (np.exp(3 * x), -np.exp(-3 * x), 1 - np.exp(5 * x)):
        fitted = fit_logistic(x, y)
        np.testing.assert_allclose(fitted(x), y, atol=1e-6 * np.ptp(y))
