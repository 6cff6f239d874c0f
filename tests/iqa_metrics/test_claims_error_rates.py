"""Each claim's test keeps its error rate: simulated studies in which the claim is on the border.

On the border between true and false, a verdict is wrong in at most one of twenty studies. The quick
tests look at few studies and find gross errors; the slow ones look at many.
"""

import collections

import numpy as np
import pytest
from scipy.stats import binom
from simulated import READOUTS, alike, flat, network, noise_for, simulated, verdicts

from iqa_metrics.study.claim_performance import WEAK
from iqa_metrics.study.claims import CLAIMS
from iqa_metrics.study.plan import WEIGHTED

QUICK, MANY = 30, 200
RATE = 0.05
AMOUNTS = [QUICK, pytest.param(MANY, marks=pytest.mark.slow)]
WITHIN = {"descriptors_change_little", "environment_matters_little", "laboratory_matters_little"}
"""Claims that are true, and not on the border, where everything agrees equally well."""
UNTESTED = {"concatenation_changes_little"}
"""Layers with independent noise gain by concatenation, so its truth is another one."""


def most(studies):
    """The number of wrong verdicts that a test with the right rate exceeds once in 1,000 times."""
    return int(binom.ppf(0.999, studies, RATE))


@pytest.mark.parametrize(
    ("studies", "references"),
    [
        (QUICK, 8),
        pytest.param(MANY, 4, marks=pytest.mark.slow),
        pytest.param(MANY, 8, marks=pytest.mark.slow),
        pytest.param(100, 25, marks=pytest.mark.slow),
    ],
)
def test_where_everything_is_equal_nothing_is_decided(studies, references):
    """Only that there is no difference may be said."""
    found = collections.defaultdict(collections.Counter)
    for seed in range(studies):
        for claim, row in verdicts(alike(seed=seed, references=references)).items():
            found[claim][row.verdict] += 1
    assert set(found) == set(CLAIMS)
    for claim in set(CLAIMS) - UNTESTED:
        true = found[claim]["undecided"] + (found[claim]["supported"] if claim in WITHIN else 0)
        assert studies - true <= most(studies), claim
        assert found[claim]["not tested"] == 0


@pytest.mark.parametrize("studies", AMOUNTS)
def test_concatenations_of_nearly_equal_layers_change_little(studies):
    found = collections.Counter()
    for seed in range(studies):
        scope = simulated(
            [(network("a"), flat(0.85))],
            {},
            seed=seed,
            common=0.99,
            margin=0.05,
            concatenations=("cumulative:sum", "pairs:sum"),
        )
        found[verdicts(scope)["concatenation_changes_little"].verdict] += 1
    assert found["not tested"] == 0
    assert found["contradicted"] <= most(studies)


MARGIN = 0.05
TWIN = {"architecture": "R", "weighted_layers": 50}


def border(claim, seed):
    """A study in which the truth of a claim lies on the border that ``margin`` draws."""
    of = {"seed": seed, "margin": MARGIN, "references": 8}
    good, worse = 0.85, 0.85 - MARGIN
    if claim == "environment_matters_little":
        networks = [network("a", **TWIN), network("b", data="Places365", **TWIN)]
        return simulated([(networks[0], flat(good)), (networks[1], flat(worse))], {}, **of)
    if claim == "laboratory_matters_little":
        networks = [network("a", environment="x", **TWIN), network("b", environment="y", **TWIN)]
        return simulated([(networks[0], flat(good)), (networks[1], flat(worse))], {}, **of)
    if claim == "descriptors_change_little":
        rows = [(network("a"), {"euclidean": [good] * 4, "channel_mean_std": [worse] * 4})]
        return simulated(rows, {}, readouts=READOUTS[:2], **of)
    if claim == "some_match_the_state_of_the_art":
        rows = [(network(f"n{i}", layers=1), flat(worse, layers=1)) for i in range(6)]
        return simulated(rows, {"dists": good}, **of)
    if claim == "depth_helps_simple":
        layers = [good - MARGIN * (3 - at) / 4 for at in range(4)]
        return simulated([(network("a"), {"euclidean": layers})], {}, **of)
    if claim == "all_beat_ssim":
        rows = [(network("n0"), flat(0.6)), (network("n1"), flat(0.9)), (network("n2"), flat(0.9))]
        return simulated(rows, {"ssim": 0.6}, **of)
    random = np.random.default_rng(1000 + seed)
    scores = random.normal(0, 1, 25)
    noise = 2 * np.sin(np.pi * WEAK / 6)
    level = noise * scores + np.sqrt(1 - noise**2) * random.normal(0, 1, 25)
    rows = [
        (
            network(f"n{i}", layers=1, score=70 + score, score_of="top-1"),
            flat(float(np.clip(0.75 + 0.08 * level[i], 0.4, 0.97)), layers=1),
        )
        for i, score in enumerate(scores)
    ]
    return simulated(rows, {}, **of)


@pytest.mark.parametrize("claim", [
    "environment_matters_little",
    "laboratory_matters_little",
    "descriptors_change_little",
    "some_match_the_state_of_the_art",
    "depth_helps_simple",
    "all_beat_ssim",
    "better_classification_is_not_more_human",
])  # fmt: skip
@pytest.mark.parametrize("studies", AMOUNTS)
def test_on_its_border_a_claim_is_not_supported(claim, studies):
    """The difference equals the margin, one backbone equals SSIM, or the correlation is weak."""
    found = collections.Counter(
        verdicts(border(claim, seed))[claim].verdict for seed in range(studies)
    )
    assert found["not tested"] == 0
    assert found["supported"] <= most(studies)


def gained(learned, seed, references=16):
    rows = [(network("a"), {"euclidean": [0.8] * 4, WEIGHTED: [learned] * 4})]
    return simulated(rows, {}, readouts=("euclidean", WEIGHTED), seed=seed, references=references)


@pytest.mark.parametrize(("learned", "verdict"), [(0.95, "supported"), (0.4, "contradicted")])
def test_a_clear_truth_is_found(learned, verdict):
    found = [
        verdicts(gained(learned, seed))["channel_relevance_gains"].verdict for seed in range(8)
    ]
    assert found.count(verdict) >= 6


def test_the_simulation_has_the_agreement_that_it_is_asked_for():
    values = [
        float(simulated([], {"ssim": 0.85}, seed=seed, references=40).agreement.value[0])
        for seed in range(20)
    ]
    assert np.mean(values) == pytest.approx(0.85, abs=0.03)
    assert noise_for(0.99) < noise_for(0.5)
