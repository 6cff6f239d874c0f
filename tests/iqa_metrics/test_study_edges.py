"""Tables on the edge of what can be told: few references, ties, and corrected tests."""

from dataclasses import replace

import numpy as np
import pytest
from simulated import DATABASE, alike, flat, network, simulated, verdicts

from iqa_metrics.statistics import Bootstrap
from iqa_metrics.study.ceilings import ceilings
from iqa_metrics.study.claim_verdicts import CORRECTED, little
from iqa_metrics.study.comparisons import Comparer
from iqa_metrics.study.correlations import Judged, correlations
from iqa_metrics.study.description import Description
from iqa_metrics.study.distances import Measured, Pairs, Series
from iqa_metrics.study.facts import description_of
from iqa_metrics.study.models import models, winners
from iqa_metrics.study.plan import WEIGHTED, Statistics
from iqa_metrics.study.scopes import scopes

SETTINGS = Statistics(draws=50)


def measured(name="A", references=8, each=12, readouts=("euclidean",), **noise):
    """Distances of two layers and of SSIM that agree well with scores of how bad images look."""
    random = np.random.default_rng(len(name) + references)
    n = references * each
    worse = np.tile(np.arange(each, dtype=float), references) + random.normal(0, 0.3, n)
    series = [Series("ssim", "", "", np.nan)]
    series += [Series("own", layer, of, depth) for of in readouts for layer, depth in LAYERS]
    values = worse + random.normal(0, 1, (len(series), n))
    values[0] *= -1
    pairs = Pairs(
        name,
        tuple(f"r{i // each:03}" for i in range(n)),
        tuple(f"d{i}" for i in range(n)),
        ("",) * n,
        worse,
        np.full(n, np.nan),
        **{of: np.full(n, value) for of, value in noise.items()},
    )
    return Measured(pairs, tuple(series), values, np.zeros(values.shape, np.int64))


LAYERS = (("a", 0.5), ("b", 1.0))


def studied(*databases, opinion=True):
    """Return the databases with their series, and the scopes."""
    tables = {one.pairs.database: one for one in databases}
    description = description_of(tables, "worse", SETTINGS)
    described = tuple(replace(one, opinion=opinion) for one in description.databases)
    description = replace(description, databases=described)
    judged = {
        name: Judged(one, SETTINGS, at, opinion=opinion)
        for at, (name, one) in enumerate(tables.items())
    }
    return judged, scopes(judged, description)


@pytest.mark.parametrize("other", [1, 2, 3])
def test_databases_together_need_references_in_each(other):
    """The degrees of freedom of 8 and 3 references are many, but 3 have too few replicates."""
    judged, found = studied(measured("A", 8), measured("B", other))
    pooled = found[-1]
    assert pooled.name == "pooled"
    assert "fewer than 4 reference images in B" in pooled.too_few
    for row in winners(pooled):
        assert "in B" in row.why
        assert np.isnan([row.low, row.high, row.stability]).all()
    assert {row.why for row in verdicts(pooled).values() if row.claim == "all_beat_ssim"} == {
        pooled.too_few
    }
    for row in models(pooled, Comparer(pooled).best):
        assert np.isfinite(row.best)
        assert np.isnan([row.last_low, row.held_out_low]).all()
    rows = correlations(judged, dict.fromkeys(judged, "worse"))
    assert np.isnan([row.srocc_low for row in rows if row.database == "pooled"]).all()
    _, enough = studied(measured("A", 8), measured("B", 4))
    assert enough[-1].too_few == ""
    assert np.isfinite([row.low for row in winners(enough[-1])]).all()


@pytest.mark.filterwarnings("error")
def test_severities_without_a_series_of_three_have_no_agreement():
    judged, found = studied(measured(references=40, each=2), opinion=False)
    assert found == []
    (one,) = judged.values()
    assert one.references(np.ones(80, bool)) == 0
    assert np.isnan([row.srocc for row in correlations(judged, {"A": "worse"})]).all()


def test_only_references_with_a_severity_series_count():
    """Of 10 references, 7 have two pairs: three tell something, and that is too few."""
    table = measured(references=10, each=6)
    short = np.array([int(name[1:]) < 7 for name in table.pairs.references])
    level = np.tile(np.arange(6), 10)
    keep = ~(short & (level > 1))
    pairs = table.pairs

    def of(texts):
        return tuple(np.asarray(texts)[keep].tolist())

    fewer = Pairs(
        pairs.database,
        of(pairs.references),
        of(pairs.distorted),
        of(pairs.distortions),
        pairs.opinion[keep],
        pairs.levels[keep],
    )
    table = Measured(fewer, table.series, table.values[:, keep], table.elements[:, keep])
    judged, (scope,) = studied(table, opinion=False)
    assert scope.references == 3
    assert "only 3 reference images" in scope.too_few
    assert np.isnan([row.low for row in winners(scope)]).all()
    assert np.isnan([row.srocc_low for row in correlations(judged, {"A": "worse"})]).all()


@pytest.mark.parametrize(("references", "known"), [(3, False), (4, True)])
def test_ceilings_have_no_interval_from_few_references(references, known):
    table = measured(references=references, opinion_sd=1.0, ratings=20.0)
    rows = list(ceilings("A", Judged(table, SETTINGS, 0)))
    assert np.isfinite([row.value for row in rows]).all()
    assert np.isfinite([[row.low, row.high] for row in rows]).all() == known


def test_learned_weights_are_never_the_plain_readout():
    """A table made elsewhere may hold them first."""
    readouts = (WEIGHTED, "euclidean")
    description = description_of({"A": measured(readouts=readouts)}, "worse")
    assert description.readouts == ("euclidean", WEIGHTED)
    assert replace(description, readouts=readouts).plain == "euclidean"
    assert Description("", (), (), (), (WEIGHTED,)).plain == ""
    _, (scope,) = studied(measured(readouts=readouts))
    assert Comparer(scope).plain == "euclidean"


def test_learned_weights_of_joined_layers_are_tuned_too():
    table = measured()
    joined = tuple(
        replace(one, readout=f"{WEIGHTED}:joint") if one.layer == "b" else one
        for one in table.series
    )
    _, (scope,) = studied(replace(table, series=joined))
    assert {row.among: row.candidates for row in winners(scope)} == {
        "backbones": 1,
        "tuned": 1,
        "baselines": 1,
    }


def test_a_verdict_that_only_the_correction_withholds_says_so():
    """Both intervals lie above the margin, but the p-values are too large for one of several."""
    scope = alike(seed=0, references=8)
    comparer = Comparer(scope)
    random = np.random.default_rng(0)
    size = 200

    def one(value, error):
        noise = random.normal(0, 1, size)
        noise = (noise - noise.mean()) / noise.std(ddof=1)
        return Bootstrap(np.asarray(value), value + error * noise)

    clear = one(0.10, 0.03)
    interval = comparer.interval(clear)
    assert interval.low > comparer.margin
    others = {f"n{i}": one(0.0, 0.03) for i in range(9)}
    found = little(comparer, {"clear": clear, **others}, "changes", comparer.margin)
    assert (found.verdict, found.why) == ("undecided", CORRECTED)
    alone = little(comparer, {"clear": clear}, "changes", comparer.margin)
    assert (alone.verdict, alone.why) == ("contradicted", "")
    wide = little(comparer, {"wide": one(0.05, 0.05)}, "changes", comparer.margin)
    assert (wide.verdict, wide.why) == ("undecided", "")


def test_the_best_of_many_backbones_may_need_the_correction():
    rows = [(network("best", layers=1), flat(0.9, layers=1))]
    rows += [(network(f"n{i}", layers=1), flat(0.85, layers=1)) for i in range(12)]
    found = [
        verdicts(simulated(rows, {"dists": 0.85}, seed=seed))["some_beat_the_state_of_the_art"]
        for seed in range(12)
    ]
    withheld = [row for row in found if row.verdict == "undecided" and row.low > 0]
    assert withheld
    assert {row.why for row in withheld} == {CORRECTED}
    wide = {row.why for row in found if row.verdict == "undecided" and row.low <= 0}
    assert wide <= {"the interval is too wide to tell"}


def test_layers_that_are_the_same_do_not_differ():
    scope = simulated([(network("a"), flat(0.8))], {"ssim": 0.7}, seed=0, database=DATABASE)
    (first, *_) = scope.layers("a", "euclidean")
    place = scope.series[first]
    same = {one: place if one.backbone == "a" else at for one, at in scope.series.items()}
    row = verdicts(replace(scope, series=same))["best_layer_is_not_the_last"]
    assert (row.effect, row.low, row.high) == (0, 0, 0)
    assert (row.verdict, row.why) == ("undecided", "there is no difference at all")
