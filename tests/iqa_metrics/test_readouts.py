"""Readouts against plain numpy and scipy in float64, and their laws."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import cdist

from iqa_metrics import READOUTS, UnknownNameError
from iqa_metrics.readouts import mean_over_elements, readout, weighted_sum
from iqa_metrics.readouts.differences import euclidean, rmse
from iqa_metrics.readouts.statistics import distance_correlation, pooled


def unit(x, axis, epsilon=1e-10):
    """Return vectors of length one, except for the epsilon that LPIPS adds."""
    length = np.sqrt((x**2).sum(axis, keepdims=True)) + epsilon
    return x / np.where(length == 0, 1, length)


def angle(x, y, axis):
    both_zero = ~(x.any(axis) | y.any(axis))
    return np.where(both_zero, 0, 1 - (unit(x, axis, 0) * unit(y, axis, 0)).sum(axis))


def norm(values):
    return np.sqrt((np.asarray(values) ** 2).sum())


def describe(*functions):
    def distance(x, y):
        rows = [r.reshape(len(r), -1) for r in (x, y)]
        return norm([f(rows[0]) - f(rows[1]) for f in functions])

    return distance


def mean(rows):
    return rows.mean(1)


def std(rows):
    return rows.std(1)


def skewness(rows):
    return of_varied(stats.skew, rows)


def kurtosis(rows):
    return of_varied(stats.kurtosis, rows)


def of_varied(function, rows):
    """Return a function of each row, and 0 for constant rows."""
    return np.array([function(row) if row.std() > 0 else 0 for row in rows])


def gram(x, y):
    x, y = (r.reshape(len(r), -1) for r in (x, y))
    return norm((x @ x.T - y @ y.T) / x.shape[1])


def wasserstein(x, y):
    rows = zip(x.reshape(len(x), -1), y.reshape(len(y), -1), strict=True)
    return np.mean([stats.wasserstein_distance(a, b) for a, b in rows])


def grid_means(x, cells=4):
    def bounds(n):
        k = min(cells, n)
        return [(i * n // k, -(-(i + 1) * n // k)) for i in range(k)]

    return np.array(
        [x[:, a:b, c:d].mean((1, 2)) for a, b in bounds(x.shape[1]) for c, d in bounds(x.shape[2])]
    )


def correlation(x, y):
    matrices = []
    for r in (x, y):
        rows = r.reshape(len(r), -1)
        d = cdist(rows, rows)
        matrices.append(d - d.mean(0) - d.mean(1)[:, None] + d.mean())
    a, b = matrices
    return 1 - (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())


def texture(x, y):
    a, b = (r.reshape(len(r), -1).mean(1) for r in (x, y))
    return 1 - ((2 * a * b + 1e-6) / (a**2 + b**2 + 1e-6)).mean()


def structure(x, y):
    terms = []
    for a, b in zip(x.reshape(len(x), -1), y.reshape(len(y), -1), strict=True):
        (va, cov), (_, vb) = np.cov(a, b, ddof=0)
        terms.append((2 * cov + 1e-6) / (va + vb + 1e-6))
    return 1 - np.mean(terms)


def weigh(x):
    return WEIGHTS[: len(x)].reshape(-1, *[1] * (x.ndim - 1))


WEIGHTS = np.random.RandomState(0).rand(64)

# Of one image's responses [C, H, W]; each by its definition, not by our way to compute it.
EXPECTED = {
    "euclidean": lambda x, y: norm(x - y),
    "rmse": lambda x, y: np.sqrt(((x - y) ** 2).mean()),
    "mean_absolute": lambda x, y: np.abs(x - y).mean(),
    "cosine": lambda x, y: angle(x.ravel(), y.ravel(), 0),
    "position_cosine": lambda x, y: angle(x, y, 0).mean(),
    "weighted_euclidean": lambda x, y: np.sqrt((weigh(x) * (x - y) ** 2).sum()),
    "lpips": lambda x, y: ((unit(x, 0) - unit(y, 0)) ** 2).sum(0).mean(),
    "weighted_lpips": lambda x, y: (weigh(x) * (unit(x, 0) - unit(y, 0)) ** 2).sum(0).mean(),
    "gram": gram,
    "channel_mean": describe(mean),
    "channel_std": describe(std),
    "channel_mean_std": describe(mean, std),
    "channel_skewness": describe(skewness),
    "channel_kurtosis": describe(kurtosis),
    "channel_skewness_kurtosis": describe(skewness, kurtosis),
    "pooled": lambda x, y: norm(grid_means(x) - grid_means(y)),
    "dists_texture": texture,
    "dists_structure": structure,
    "wasserstein": wasserstein,
    "distance_correlation": correlation,
}

all_readouts = pytest.mark.parametrize("record", READOUTS, ids=lambda r: r.name)
shapes = st.sampled_from([(1, 5, 3, 3), (2, 3, 4, 6), (3, 2, 5, 7), (2, 16, 17, 9)])


@st.composite
def responses(draw):
    shape = draw(shapes)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    scale = 10.0 ** draw(st.integers(-2, 3))
    x, y = (scale * torch.randn(shape, generator=generator) for _ in range(2))
    return (x.relu(), y.relu()) if draw(st.booleans()) else (x, y)


def call(record, x, y, dtype=torch.float32):
    weights = [torch.from_numpy(WEIGHTS[: y.shape[1]]).to(dtype)] if record.weighted else []
    return record.function(x, y, *weights)


def rough_map(record, x, y):
    weights = [torch.from_numpy(WEIGHTS[: y.shape[1]]).float()] if record.weighted else []
    return record.map(x, y, *weights)


def test_every_readout_has_an_independent_formula():
    assert list(EXPECTED) == [record.name for record in READOUTS]


@all_readouts
@settings(deadline=None, max_examples=50)
@given(pair=responses())
def test_values_are_those_of_the_formula(record, pair):
    found = call(record, *pair).double().numpy()
    expected = [
        EXPECTED[record.name](x, y)
        for x, y in zip(*(r.double().numpy() for r in pair), strict=True)
    ]
    assert found.shape == (len(expected),)
    # The definitions themselves lose digits where they take a sum from 1.
    assert np.allclose(found, expected, rtol=1e-6, atol=1e-14)


@all_readouts
@settings(deadline=None, max_examples=50)
@given(pair=responses(), factor=st.sampled_from([0.25, 2.0, 8.0]))
def test_identity_symmetry_batch_and_scale(record, pair, factor):
    x, y = pair
    value = call(record, x, y)
    assert torch.equal(call(record, x, x), torch.zeros(len(x)))
    assert torch.allclose(call(record, y, x), value, rtol=1e-6) == record.symmetric
    one = call(record, x[:1], y)
    assert torch.allclose(one, call(record, x[:1].expand_as(y), y), rtol=1e-6)
    single = torch.cat([call(record, x[i : i + 1], y[i : i + 1]) for i in range(len(x))])
    assert torch.allclose(single, value, rtol=1e-6)
    order = torch.arange(len(x) - 1, -1, -1)
    assert torch.allclose(call(record, x[order], y[order]), value[order], rtol=1e-6)
    if record.degree is not None:
        if record.degree == 0:  # LPIPS's epsilon counts where a length is nearly as small
            x, y = (torch.where(r.abs() < 1e-3, 0.0, r) for r in (x, y))
            value = call(record, x, y)
        scaled = call(record, factor * x, factor * y)
        assert torch.allclose(scaled, value * factor**record.degree, rtol=1e-5)


@pytest.mark.parametrize(
    "record", [r for r in READOUTS if r.joint and not r.descriptor], ids=lambda r: r.name
)
@given(parts=st.lists(st.integers(1, 20), min_size=2, max_size=5), seed=st.integers(0, 2**31))
def test_joint_layers_are_one_readout_of_all_layers(record, parts, seed):
    """Layers of one channel each, concatenated along the positions."""
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(2, 1, sum(parts), generator=generator) for _ in range(2))
    layers = list(zip(x.split(parts, 2), y.split(parts, 2), strict=True))
    joined = record.joint([call(record, a, b) for a, b in layers], parts)
    assert torch.allclose(joined, call(record, x, y), rtol=1e-5)
    backwards = record.joint([call(record, a, b) for a, b in layers[::-1]], parts[::-1])
    assert torch.allclose(backwards, joined, rtol=1e-6)


@pytest.mark.parametrize(
    "record", [r for r in READOUTS if r.joint and r.descriptor], ids=lambda r: r.name
)
def test_joint_descriptors_are_one_vector(record):
    x, y = (torch.randn(2, 3, 5, 5) for _ in range(2))
    values = [record.function(x[:, c : c + 1], y[:, c : c + 1]) for c in range(3)]
    joined = record.joint(values, [25] * 3)
    assert torch.allclose(joined, torch.stack(values).square().sum(0).sqrt(), rtol=1e-6)
    if record.name != "gram":  # its products between the channels are of one layer alone
        assert torch.allclose(joined, record.function(x, y), rtol=1e-5)


def test_a_sum_weighs_each_layer():
    values = [torch.tensor([1.0, 2.0]), torch.tensor([10.0, 20.0])]
    assert weighted_sum(values, [3, 0.5]).tolist() == [8.0, 16.0]


@all_readouts
@pytest.mark.parametrize("equal", [True, False])
def test_gradients_are_finite_and_right(record, equal):
    generator = torch.Generator().manual_seed(4)
    x, y = (torch.randn(2, 3, 3, 2, dtype=torch.float64, generator=generator) for _ in range(2))
    y = (x.clone() if equal else y).requires_grad_()
    values = call(record, x, y, torch.float64)
    assert values.dtype == torch.float64
    total = record.joint([values, values], [6, 6]) if record.joint else values
    total.sum().backward()
    if equal:
        assert torch.equal(y.grad, torch.zeros_like(y))
    else:
        assert torch.autograd.gradcheck(lambda t: call(record, x, t, torch.float64), (y,))


@all_readouts
def test_zeros_and_constants_give_numbers_and_gradients(record):
    """Feature maps of dead channels, black images and flat regions."""
    zeros, ones = torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.1)
    some = torch.zeros(1, 3, 4, 4)
    some[0, 1, 1:3, 1:3] = 0.7
    for x, y in itertools.product((zeros, ones, some), repeat=2):
        distorted = y.clone().requires_grad_()
        value = call(record, x, distorted)
        assert bool(torch.isfinite(value).all())
        if torch.equal(x, y):
            assert float(value.detach()) == 0
        value.sum().backward()
        assert bool(torch.isfinite(distorted.grad).all())


@all_readouts
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_is_not_swallowed(record, value):
    """NaN and infinity, as from a network in too low a precision, are not hidden."""
    x = torch.rand(2, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    broken = x.clone()
    broken[1, 2, 3, 1] = value
    for pair in ((x, broken), (broken, x), (broken, broken)):
        found = call(record, *pair)
        assert bool(torch.isfinite(found[0]))
        assert not bool(torch.isfinite(found[1])), record.name


@pytest.mark.parametrize("count", [3, 7, 10, 63, 100])
@pytest.mark.parametrize("value", [0.1, 0.3, 1e-8, 1e6])
def test_a_constant_channel_has_no_skewness_whatever_its_mean_rounds_to(count, value):
    x, y = (torch.full((1, 2, count), v, dtype=torch.float64) for v in (value, 2 * value))
    for name in ("channel_skewness", "channel_kurtosis", "channel_skewness_kurtosis"):
        assert float(readout(name).function(x, y)) == 0


@pytest.mark.parametrize(("offset", "noise"), [(1e3, 1e-2), (1.0, 1e-5), (10.0, 1e-4)])
def test_distance_correlation_of_channels_with_a_common_pattern(offset, noise):
    generator = torch.Generator().manual_seed(0)
    common = offset * torch.rand(1, 1, 6, 6, generator=generator, dtype=torch.float64)
    parts = (noise * torch.randn(1, 5, 6, 6, generator=generator).double() for _ in range(2))
    x, y = (common + part for part in parts)
    expected = correlation(x[0].numpy(), y[0].numpy())
    assert float(distance_correlation(x, y)) == pytest.approx(expected, rel=1e-6)


@all_readouts
def test_the_wider_of_two_precisions_is_used(record):
    x = torch.rand(1, 3, 5, 4)
    for pair in ((x.double(), x.flip(3)), (x, x.flip(3).double())):
        assert call(record, *pair).dtype == torch.float64


@all_readouts
def test_half_precision_is_computed_in_single_precision(record):
    generator = torch.Generator().manual_seed(2)
    x, y = (torch.randn(2, 3, 8, 8, generator=generator).bfloat16() for _ in range(2))
    found = call(record, x, y)
    assert found.dtype == torch.float32
    assert torch.allclose(found, call(record, x.float(), y.float()), rtol=1e-6)


def test_half_precision_does_not_overflow():
    x = torch.full((1, 1, 100_000), 300.0, dtype=torch.float16)
    assert float(euclidean(x, -x)) == pytest.approx(600 * 100_000**0.5, rel=1e-6)
    assert float(rmse(x.bfloat16(), -x.bfloat16())) == pytest.approx(600, rel=1e-6)
    top = torch.full((1, 3), 60_000.0, dtype=torch.float16)
    assert torch.isfinite(euclidean(top, -top)).all()


@pytest.mark.parametrize("record", [r for r in READOUTS if r.map], ids=lambda r: r.name)
@given(pair=responses())
def test_a_map_sums_up_to_the_value(record, pair):
    layer_map = rough_map(record, *pair)
    x = pair[1]
    assert layer_map.shape == (len(x), 1, *x.shape[2:])
    positions, value = layer_map.flatten(1).unbind(1), call(record, *pair)
    # Positions join as layers do; without a way to, the value is their mean.
    join = record.joint or mean_over_elements
    assert torch.allclose(join(positions, [1] * len(positions)), value, rtol=1e-5)


@all_readouts
def test_feature_maps_without_positions(record):
    """Feature maps such as those of a fully connected layer, [N, C]."""
    x, y = torch.rand(2, 6), torch.rand(2, 6)
    value = call(record, x, y)
    assert value.shape == (2,)
    assert torch.equal(call(record, x[..., None, None], y[..., None, None]), value)


def test_the_grid_of_one_cell_is_the_mean():
    x, y = torch.rand(2, 3, 9, 7), torch.rand(2, 3, 9, 7)
    mean_only = readout("channel_mean").function(x, y)
    assert torch.allclose(pooled(x, y, grid=1), mean_only, rtol=1e-6)


def test_distance_correlation_ignores_shift_and_scale_of_all_channels():
    x = torch.rand(1, 5, 4, 4)
    assert float(distance_correlation(x, 3 * x + 0.5)) == pytest.approx(0, abs=1e-9)


def test_unit_weights_change_nothing():
    x, y = torch.rand(2, 3, 5, 4), torch.rand(2, 3, 5, 4)
    weighted = [record for record in READOUTS if record.weighted]
    plain = {record.function: record for record in READOUTS if not record.weighted}
    assert len(weighted) == 2
    for record in weighted:
        found = record.function(x, y, torch.ones(3))
        assert torch.equal(found, plain[record.function].function(x, y))


def test_small_differences_keep_their_digits():
    """One minus a cosine, or a difference of statistics, would lose them to rounding."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(1, 8, 20, 20, generator=generator)
    y = x + 1e-4 * torch.rand(1, 8, 20, 20, generator=generator)
    for record in READOUTS:
        exact = float(call(record, x.double(), y.double(), torch.float64))
        assert math.isclose(float(call(record, x, y)), exact, rel_tol=1e-4), record.name


def test_an_unknown_readout_is_answered_with_near_ones():
    with pytest.raises(UnknownNameError, match="did you mean 'euclidean'") as caught:
        readout("euclidian")
    assert caught.value.code == "unknown_readout"
