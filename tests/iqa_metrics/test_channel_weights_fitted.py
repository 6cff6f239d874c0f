"""Channel weights fitted to opinions: what is found, and what is not."""

import numpy as np
import pytest
import scipy.optimize

from iqa_metrics.channel_weights.fitting import fit_weights
from iqa_metrics.channel_weights.held_out import by_layer, learn_weights
from iqa_metrics.statistics import srocc


def synthetic(channels=12, references=12, each=15, noise=0.2, seed=0):
    """Squares of independent channels, and opinions made with known weights."""
    stream = np.random.default_rng(seed)
    n = references * each
    squares = stream.gamma(0.7, 1.0, (n, channels)) * stream.uniform(0.5, 2, channels)
    weights = np.where(np.arange(channels) % 3 == 0, 0.0, stream.uniform(0.2, 3, channels))
    clean = squares @ weights
    opinion = 20 + 3 * (clean + noise * clean.std() * stream.normal(size=n))
    return squares, opinion, np.repeat([f"r{i}" for i in range(references)], each), weights


def test_known_weights_are_recovered():
    squares, opinion, references, weights = synthetic(noise=0.0)
    found = fit_weights(squares, opinion, 1e-6)
    np.testing.assert_allclose(found, weights / weights.mean(), rtol=0.01, atol=0.01)
    noisy, opinion, references, weights = synthetic(noise=0.3, references=60)
    learned = learn_weights(noisy, opinion, references, draws=300)
    assert np.corrcoef(learned.weights, weights)[0, 1] > 0.95
    assert learned.weights.mean() == pytest.approx(1)
    assert (learned.weights >= 0).all()
    assert learned.gain.value > 0
    assert learned.gain.low > 0
    np.testing.assert_allclose(learned.uniform, np.sqrt(noisy.sum(1)))
    gained = srocc(learned.held_out, opinion) - srocc(learned.uniform, opinion)
    assert learned.gain.value == pytest.approx(gained)


@pytest.mark.parametrize("seed", range(4))
def test_shuffled_opinion_gains_nothing(seed):
    squares, opinion, references, _ = synthetic(seed=seed)
    shuffled = np.random.default_rng(seed).permutation(opinion)
    learned = learn_weights(squares, shuffled, references, draws=300)
    # Not distinguishable from nothing, of four tries together at one in a hundred.
    assert learned.gain.p > 0.01 / 4 or learned.gain.value < 0


def test_the_fit_is_the_minimum():
    """The penalised non-negative least squares have the minimum that scipy finds."""
    squares, opinion, _, _ = synthetic(channels=6)
    strength, count = 0.1, 6
    found = fit_weights(squares, opinion, strength)
    unit = squares.sum(1).std()
    centred = (squares - squares.mean(0)) / unit
    uniform = (centred.T @ (opinion - opinion.mean()) / len(opinion)).sum()
    penalty = strength * np.trace(centred.T @ centred / len(opinion)) / count
    rows = np.concatenate([centred / np.sqrt(len(opinion)), np.sqrt(penalty) * np.eye(count)])
    moved = (opinion - opinion.mean()) / np.sqrt(len(opinion))
    wanted = np.concatenate([moved, np.full(count, np.sqrt(penalty) * uniform)])
    best, _ = scipy.optimize.nnls(rows, wanted)
    np.testing.assert_allclose(found, best / best.mean(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("pairs", "channels"), [(60, 8), (30, 80), (120, 200)])
@pytest.mark.parametrize("strength", [1e-4, 1e-2, 1.0, 1e2])
def test_weights_are_the_solution_even_with_more_channels_than_pairs(pairs, channels, strength):
    random = np.random.default_rng(pairs)
    squares = random.gamma(1, 1, (pairs, channels)) * random.gamma(1, 1, (pairs, 1))
    opinion = np.sqrt(squares @ random.random(channels)) + random.normal(0, 1, pairs)
    weights = fit_weights(squares, opinion, strength)
    unit = squares.sum(1).std()
    centred = (squares - squares.mean(0)) / unit
    gram, moment = centred.T @ centred / pairs, centred.T @ (opinion - opinion.mean()) / pairs
    penalty = strength * np.trace(gram) / channels
    gram += penalty * np.eye(channels)
    target = moment + penalty * max(0.0, moment.sum())
    # What tells the one solution: no slope where a weight is free, none downwards where it is 0.
    scale = weights @ target / (weights @ gram @ weights)
    slope = gram @ (scale * weights) - target
    assert (weights >= 0).all()
    assert np.abs(slope[weights > 0]).max() < 1e-7 * np.abs(target).max()
    assert slope[weights == 0].min(initial=0.0) > -1e-7 * np.abs(target).max()


def test_strong_penalties_give_equal_weights_and_weak_ones_do_not():
    squares, opinion, _, _ = synthetic()
    np.testing.assert_allclose(fit_weights(squares, opinion, 1e9), 1, rtol=1e-6)
    assert np.ptp(fit_weights(squares, opinion, 1e-6)) > 1


@pytest.mark.parametrize(("scale", "shift"), [(1e-6, 0), (1e6, -3e6), (7.0, 100)])
def test_units_of_opinion_and_of_differences_do_not_matter(scale, shift):
    squares, opinion, _, _ = synthetic()
    expected = fit_weights(squares, opinion, 0.1)
    found = fit_weights(scale * squares, scale * opinion + shift, 0.1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_reversed_opinions_teach_nothing():
    squares, _, references, _ = synthetic()
    opinion = -squares.sum(1)
    np.testing.assert_array_equal(fit_weights(squares, opinion, 0.1), 1)
    learned = learn_weights(squares, opinion, references, draws=20)
    assert (learned.weights == 1).all()
    np.testing.assert_allclose(learned.held_out, learned.uniform)


def test_no_reference_is_on_both_sides():
    """Opinions that could only be predicted by memorising references are not predicted."""
    stream = np.random.default_rng(0)
    references = np.repeat([f"r{i}" for i in range(8)], 30)
    squares = np.zeros((240, 8))
    squares[np.arange(240), np.repeat(np.arange(8), 30)] = stream.gamma(1, 1, 240)
    # Each reference moves a channel of its own, which counts by a number of its own.
    opinion = squares @ stream.uniform(0, 5, 8)
    learned = learn_weights(squares, opinion, references, draws=50, folds=8)
    assert len(learned.strengths) == 8
    seen = np.sqrt(squares @ fit_weights(squares, opinion, 1e-6))
    assert srocc(seen, opinion) > 0.99
    assert srocc(learned.held_out, opinion) < 0.9
    again = learn_weights(squares, opinion, references, draws=50, folds=8)
    np.testing.assert_array_equal(again.held_out, learned.held_out)


def test_folds_are_scaled_to_each_other():
    """With channels of very different energy, the weights of folds have different scales."""
    stream = np.random.default_rng(20)
    references = np.repeat([f"r{i}" for i in range(6)], 15)
    factors = stream.gamma(1, 1, (90, 3))
    mixing = stream.gamma(0.3, 1, (3, 40)) * stream.lognormal(0, 2, 40)
    squares = factors @ mixing * stream.gamma(4, 0.25, (90, 40))
    opinion = factors @ np.array([3.0, 1.0, 0.2]) + 0.3 * stream.normal(size=90)
    learned = learn_weights(squares, opinion, references, draws=50)
    gains = [
        srocc(learned.held_out[part], opinion[part]) - srocc(learned.uniform[part], opinion[part])
        for part in (references == name for name in np.unique(references))
    ]
    # Within a reference, and so within a fold, scales do not count.
    assert np.mean(gains) > 0.05
    assert learned.gain.value > 0.05


def test_a_single_telling_channel_is_found_whatever_the_others_do():
    stream = np.random.default_rng(0)
    told = stream.uniform(0, 1, 100)
    squares = np.stack([told, 10 * (1 - told)], axis=1)
    np.testing.assert_allclose(fit_weights(squares, told, 1e-4), [2, 0], atol=1e-6)


def test_weights_by_layer():
    assert by_layer(np.arange(5.0), {"a": 2, "b": 3}) == {"a": [0, 1], "b": [2, 3, 4]}
    with pytest.raises(ValueError, match="expected 4 weights, got 5"):
        by_layer(np.arange(5.0), {"a": 2, "b": 2})


def test_what_does_not_fit_is_refused():
    squares, opinion, references, _ = synthetic()
    for x, y, words in (
        (squares[0], opinion, "expected squares"),
        (squares, opinion[1:], "expected squares"),
        (-squares, opinion, "at least 0"),
        (squares, opinion * np.nan, "finite"),
    ):
        with pytest.raises(ValueError, match=words):
            fit_weights(x, y, 1.0)
    with pytest.raises(ValueError, match="strength"):
        fit_weights(squares, opinion, 0)
    with pytest.raises(ValueError, match="at least 3 references, got 2"):
        learn_weights(squares, opinion, np.where(np.arange(len(opinion)) < 9, "a", "b"))
    with pytest.raises(ValueError, match="expected one per pair"):
        learn_weights(squares, opinion, references[1:])
    with pytest.raises(ValueError, match="folds"):
        learn_weights(squares, opinion, references, folds=1)
