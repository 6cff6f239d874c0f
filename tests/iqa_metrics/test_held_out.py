"""The best of many is chosen on other references than it is judged on."""

from dataclasses import replace

import numpy as np
import pytest
from simulated import DATABASE, flat, network, simulated

from iqa_metrics import statistics
from iqa_metrics.statistics import Bootstrap, srocc, srocc_without
from iqa_metrics.study.comparisons import Comparer
from iqa_metrics.study.held_out import DatabaseFolds, ReferenceFolds, contributions
from iqa_metrics.study.models import best_of, models, winners
from iqa_metrics.study.plan import WEIGHTED


def test_srocc_without_a_reference_is_that_of_the_other_pairs():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(3, 40)), np.round(random.normal(size=40), 1)
    names = np.array(random.choice(["b", "a", "c"], 40))
    of, found = srocc_without(x, y, names.tolist())
    assert of == ("a", "b", "c")
    for row, name in enumerate(of):
        np.testing.assert_allclose(found[row], srocc(x[:, names != name], y[names != name]))
    with pytest.raises(ValueError, match="at least 2 references, got 1"):
        srocc_without(x, y, ["a"] * 40)


def folds_of(values, draws=200):
    """Folds whose agreement is the mean over references of ``values [R, S]``."""
    drawn = statistics.Resampling([f"r{i:02}" for i in range(len(values))], draws).of_references()
    agreement = Bootstrap(values.mean(0), drawn @ values / len(values))
    return ReferenceFolds(agreement, lambda: values, drawn), agreement, drawn


def test_each_reference_is_judged_by_what_is_best_on_the_others():
    values = np.random.default_rng(1).normal(0.5, 0.2, (6, 4))
    folds, agreement, drawn = folds_of(values)
    found = folds.held_out(range(4))
    expected = []
    for reference in range(6):
        left = np.delete(values, reference, axis=0)
        assert found.chosen[reference] == left.mean(0).argmax()
        expected.append(values[reference, left.mean(0).argmax()])
    assert found.agreement.value == pytest.approx(np.mean(expected), rel=1e-12)
    for draw in range(20):  # everything is chosen again in each replicate
        copies = np.repeat(np.arange(6), drawn[draw].astype(int))
        again = []
        for reference in copies:
            left = values[copies[copies != reference]]
            chosen = left.sum(0).argmax() if len(left) else 0
            again.append(values[reference, chosen])
        assert found.agreement.samples[draw] == pytest.approx(np.mean(again), rel=1e-9)
    alone = folds.held_out([2])
    assert alone.agreement.value == agreement.value[2]
    np.testing.assert_array_equal(alone.agreement.samples, agreement.samples[:, 2])


def test_a_choice_that_never_changes_is_the_series_itself():
    values = np.random.default_rng(1).normal([0.5, 0.8, 0.5], 0.01, (6, 3))
    folds, agreement, _ = folds_of(values)
    found = folds.held_out(range(3)).agreement
    assert found.value == agreement.value[1]
    np.testing.assert_array_equal(found.samples, agreement.samples[:, 1])


def test_contributions_average_to_the_agreement():
    random = np.random.default_rng(2)
    without, agreement = random.uniform(0, 1, (5, 3)), random.uniform(0, 1, 3)
    np.testing.assert_allclose(contributions(without, agreement).mean(0), agreement)
    of_means = random.uniform(0, 1, (5, 3))  # of a mean, they are its terms
    left = (of_means.sum(0) - of_means) / 4
    np.testing.assert_allclose(contributions(left, of_means.mean(0)), of_means)


def test_databases_are_held_out_one_by_one():
    values = np.array([[0.9, 0.5, 0.7], [0.1, 0.6, 0.5], [0.2, 0.6, 0.5]])
    random = np.random.default_rng(0)
    parts = [Bootstrap(row, row + random.normal(0, 0.01, (50, 3))) for row in values]
    found = DatabaseFolds(parts, [100, 200, 300]).held_out(range(3))
    assert found.chosen.tolist() == [1, 0, 0] or found.chosen.tolist()[0] == 1
    for place, at in enumerate(found.chosen):
        others = [i for i in range(3) if i != place]
        pooled = statistics.pooled(values[others], np.array([100, 200, 300])[others])
        assert at == pooled.argmax()
    judged = [values[place, at] for place, at in enumerate(found.chosen)]
    assert found.agreement.value == pytest.approx(statistics.pooled(judged, [100, 200, 300]))
    assert found.agreement.samples.mean() == pytest.approx(float(found.agreement.value), abs=0.05)


LAYERS = 8


def chosen_among_equals(seed):
    one = network("n", layers=LAYERS)
    return simulated([(one, flat(0.8, layers=LAYERS))], {"ssim": 0.8}, seed=seed, draws=100)


def test_the_best_of_equals_is_flattered_and_its_held_out_value_is_not():
    """Of eight equally good layers the best looks better than each is; held out it does not."""
    flattered, fair, single = [], [], []
    for seed in range(60):
        scope = chosen_among_equals(seed)
        best = best_of(scope, scope.layers("n", "euclidean"))
        flattered.append(best.value)
        fair.append(float(best.held_out.value))
        single.append(float(scope.baseline("ssim").value))
    error = np.std(fair) / np.sqrt(60)
    assert np.mean(flattered) - np.mean(single) > 0.025
    assert np.mean(fair) - np.mean(single) < 2.5 * error + 0.005


def test_winners_are_chosen_apart():
    """An opinion-trained readout or network never wins among those that were not."""
    readouts = ("euclidean", WEIGHTED)
    networks = [
        (network("a"), {"euclidean": [0.5, 0.8, 0.6, 0.5], WEIGHTED: [0.9] * 4}),
        (network("judge", goal="image quality"), flat(0.95, readouts)),
        (network("a.untrained", goal="untrained"), flat(0.97, readouts)),
    ]
    baselines = {"ssim": 0.7, "psnr": 0.6, "dists": 0.75}
    scope = simulated(networks, baselines, seed=0, readouts=readouts)
    found = {row.among: row for row in winners(scope)}
    assert (found["backbones"].backbone, found["backbones"].layer) == ("a", "l1")
    assert found["backbones"].readout == "euclidean"
    assert found["backbones"].candidates == 4
    assert (found["tuned"].backbone, found["tuned"].candidates) == ("judge", 13)
    assert (found["baselines"].backbone, found["baselines"].candidates) == ("ssim", 2)
    for row in found.values():
        assert row.low < row.held_out < row.high
        assert 0 < row.stability <= 1
        assert row.why == ""


@pytest.mark.parametrize("references", [1, 2, 3])
def test_too_few_references_are_said_and_values_are_kept(references):
    networks = [(network("n"), {"euclidean": [0.5, 0.6, 0.9, 0.6]})]
    scope = simulated(networks, {"ssim": 0.7}, seed=0, references=references, each=60)
    rows = models(scope, Comparer(scope).best)
    assert [row.backbone for row in rows] == ["n", "ssim"]
    for row in rows:
        assert np.isfinite([row.last, row.best]).all()
        assert np.isnan([row.last_low, row.last_high, row.held_out_low, row.held_out_high]).all()
    assert np.isnan(rows[0].held_out)
    for row in winners(scope):
        assert np.isfinite(row.best)
        assert np.isnan([row.low, row.high]).all()
        assert "expected at least 4" in row.why


def test_severities_are_compared_within_kind_and_reference():
    database = replace(DATABASE, opinion=False)
    networks = [(network("n"), {"euclidean": [0.5, 0.6, 0.95, 0.6]})]
    scope = simulated(networks, {"ssim": 0.7}, seed=0, database=database)
    assert scope.opinion is False
    of = scope.folds.contributions
    np.testing.assert_allclose(of.mean(0), scope.agreement.value)
    assert best_of(scope, scope.layers("n", "euclidean")).series.layer == "l2"
