"""Readouts against plain numpy in float64, and their laws."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from iqa_metrics import READOUTS, UnknownNameError
from iqa_metrics.readouts import euclidean, readout, rmse

EXPECTED = {
    "euclidean": lambda x, y: np.sqrt(((x - y) ** 2).sum(1)),
    "rmse": lambda x, y: np.sqrt(((x - y) ** 2).mean(1)),
}

shapes = st.sampled_from([(1, 5), (2, 3, 4), (3, 2, 5, 7), (2, 64, 33, 17)])


@st.composite
def responses(draw):
    shape = draw(shapes)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    scale = 10.0 ** draw(st.integers(-4, 4))
    x, y = (scale * torch.randn(shape, generator=generator) for _ in range(2))
    return x, y


def wide(tensor):
    return tensor.double().numpy().reshape(len(tensor), -1)


def close(found, expected, tolerance=1e-6):
    return np.allclose(found.double().numpy(), expected, rtol=tolerance, atol=0)


@pytest.mark.parametrize("record", READOUTS, ids=lambda r: r.name)
@given(pair=responses())
def test_values_are_those_of_the_formula(record, pair):
    assert close(record.function(*pair), EXPECTED[record.name](*map(wide, pair)))


@pytest.mark.parametrize("record", READOUTS, ids=lambda r: r.name)
@given(pair=responses())
def test_identity_symmetry_and_scale(record, pair):
    x, y = pair
    value = record.function(x, y)
    assert torch.equal(record.function(x, x), torch.zeros(len(x)))
    assert torch.equal(record.function(y, x), value)
    assert torch.allclose(record.function(2 * x, 2 * y), 2 * value, rtol=1e-6)
    assert torch.allclose(record.function(x[:1], y)[:1], value[:1], rtol=1e-6)


@pytest.mark.parametrize("record", READOUTS, ids=lambda r: r.name)
@given(parts=st.lists(st.integers(1, 50), min_size=2, max_size=5), seed=st.integers(0, 2**31))
def test_joining_layers_is_one_readout_of_all_of_them(record, parts, seed):
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(2, sum(parts), generator=generator) for _ in range(2))
    layers = zip(x.split(parts, 1), y.split(parts, 1), strict=True)
    joined = record.join([record.function(a, b) for a, b in layers], parts)
    assert torch.allclose(joined, record.function(x, y), rtol=1e-5)


@pytest.mark.parametrize("record", READOUTS, ids=lambda r: r.name)
@pytest.mark.parametrize("equal", [True, False])
def test_gradients_are_finite_and_right(record, equal):
    x = torch.randn(2, 6, dtype=torch.float64)
    y = (x.clone() if equal else torch.randn(2, 6, dtype=torch.float64)).requires_grad_()
    values = record.function(x, y)
    record.join([values, values], [6, 6]).sum().backward()
    if equal:
        assert torch.equal(y.grad, torch.zeros(2, 6, dtype=torch.float64))
    else:
        assert torch.autograd.gradcheck(lambda t: record.function(x, t), (y,))


def test_half_precision_is_summed_in_single():
    x = torch.full((1, 100_000), 300.0, dtype=torch.float16)
    assert close(euclidean(x, -x), np.array([600 * 100_000**0.5]))
    assert close(rmse(x.bfloat16(), -x.bfloat16()), np.array([600.0]))
    top = torch.full((1, 3), 60_000.0, dtype=torch.float16)
    assert torch.isfinite(euclidean(top, -top)).all()


def test_an_unknown_readout_is_answered_with_near_ones():
    with pytest.raises(UnknownNameError, match="did you mean 'euclidean'"):
        readout("euclidian")
