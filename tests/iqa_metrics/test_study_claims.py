"""Comparisons and claims on made-up agreements with a known truth."""

import csv
import math

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
import pytest

from iqa_metrics.readouts import READOUTS
from iqa_metrics.report import write_report
from iqa_metrics.statistics import holm
from iqa_metrics.study import DescriptionError, DistancesError, analyse
from iqa_metrics.study.claims import CLAIMS, claims
from iqa_metrics.study.comparisons import Comparer, compared
from iqa_metrics.study.concatenated import concatenated
from iqa_metrics.study.correlations import Judged
from iqa_metrics.study.description import (
    DescribedBaseline,
    DescribedDatabase,
    DescribedLayer,
    DescribedNetwork,
    Description,
)
from iqa_metrics.study.distances import Measured, Pairs, Series, written_distances
from iqa_metrics.study.plan import Statistics
from iqa_metrics.study.scopes import scopes

REFERENCES, EACH = 16, 20
TUNED = ("lpips_vgg", "lpips_alex", "dists")
SETTINGS = Statistics(draws=300, margin=0.02)


def opinions(name="made", seed=0):
    random = np.random.default_rng(seed)
    references = [f"r{i}" for i in range(REFERENCES) for _ in range(EACH)]
    distorted = [f"{r}_{i}" for i, r in enumerate(references)]
    n = len(references)
    return Pairs(
        name, tuple(references), tuple(distorted), ("",) * n, random.normal(0, 1, n), np.zeros(n)
    )


def described(name, layers=5, weighted_layers=16, goal="classification", **factors):
    facts = {"architecture": name, "data": "ImageNet-1k", **factors}
    named = tuple(DescribedLayer(f"l{i}", (i + 1) / layers, 8) for i in range(layers))
    return DescribedNetwork(
        name=name, goal=goal, weighted_layers=weighted_layers, network="0", layers=named, **facts
    )


def scope_of(networks, baselines=(), readouts=("euclidean",), concatenations=(), seed=1):
    """``networks``: (description, {readout: noise of each layer}); ``baselines``: name to noise."""
    random = np.random.default_rng(seed)
    pairs = opinions()
    series, values = [], []
    for name, noise in baselines:
        series.append(Series(name, "", "", math.nan))
        sign = -1 if name in ("ssim", "psnr") else 1
        values.append(sign * (pairs.opinion + noise * random.normal(0, 1, len(pairs))))
    for network, of_readout in networks:
        for readout, noises in of_readout.items():
            for layer, noise in zip(network.layers, noises, strict=True):
                series.append(Series(network.name, layer.name, readout, layer.depth))
                shaken = pairs.opinion + noise * random.normal(0, 1, len(pairs))
                values.append(shaken - shaken.min())
    measured = Measured(
        pairs, tuple(series), np.array(values), np.full((len(series), len(pairs)), 10)
    )
    description = Description(
        "made",
        (DescribedDatabase("made", "Made", "worse", len(pairs), REFERENCES, 0, True, "", ""),),
        tuple(network for network, _ in networks),
        tuple(
            DescribedBaseline(name, name in ("ssim", "psnr"), "", name in TUNED)
            for name, _ in baselines
        ),
        readouts,
        concatenations,
        SETTINGS,
    )
    judged = {"made": Judged(concatenated(measured, concatenations), SETTINGS, 0)}
    (found,) = scopes(judged, description)
    return Comparer(found)


def verdicts(comparer):
    return {row.claim: row for row in claims(comparer)}


def flat(noise, layers=5):
    return {"euclidean": [noise] * layers}


GOOD, MIDDLING, BAD = 0.4, 0.9, 2.0


@pytest.mark.parametrize(
    ("noises", "verdict"),
    [((GOOD, GOOD), "supported"), ((GOOD, BAD), "contradicted"), ((GOOD, 0.9), "undecided")],
)
def test_all_beat_ssim(noises, verdict):
    networks = [(described(f"n{i}"), flat(noise)) for i, noise in enumerate(noises)]
    networks.append((described("n.untrained", goal="untrained"), flat(BAD)))
    row = verdicts(scope_of(networks, [("ssim", MIDDLING)]))["all_beat_ssim"]
    assert row.verdict == verdict
    assert row.low < row.effect < row.high
    assert "of 2 backbones" in row.evidence


@pytest.mark.parametrize(
    ("noise", "verdict"), [(GOOD, "supported"), (BAD, "contradicted"), (0.62, "undecided")]
)
def test_some_match_the_state_of_the_art(noise, verdict):
    comparer = scope_of(
        [(described("n"), flat(noise))], [("ssim", BAD), ("dists", 0.6), ("lpips_alex", MIDDLING)]
    )
    row = verdicts(comparer)["some_match_the_state_of_the_art"]
    assert row.verdict == verdict
    assert "dists" in row.evidence


@pytest.mark.parametrize(("noise", "verdict"), [(GOOD, "supported"), (BAD, "contradicted")])
def test_goals_compared_with_lpips(noise, verdict):
    networks = [
        (described("n"), flat(noise)),
        (described("j", goal="self-supervised", method="jigsaw"), flat(noise)),
    ]
    found = verdicts(scope_of(networks, [("lpips_vgg", MIDDLING), ("lpips_alex_baseline", 0.1)]))
    for claim in ("classification_beats_lpips", "jigsaw_beats_lpips"):
        assert found[claim].verdict == verdict
        assert found[claim].evidence.endswith("lpips_vgg")


def test_simple_networks_compared_with_very_deep_ones():
    simple, deep = described("s", weighted_layers=16), described("d", weighted_layers=101)
    between = described("b", weighted_layers=34)
    networks = [(simple, flat(GOOD)), (deep, flat(BAD)), (between, flat(0.1))]
    assert verdicts(scope_of(networks))["simple_beats_very_deep"].verdict == "supported"
    networks = [(simple, flat(BAD)), (deep, flat(GOOD))]
    assert verdicts(scope_of(networks))["simple_beats_very_deep"].verdict == "contradicted"


RISING, FALLING = {"euclidean": [2.0, 1.2, 0.8, 0.5, 0.3]}, {"euclidean": [0.3, 0.5, 0.8, 1.2, 2.0]}


@pytest.mark.parametrize(
    ("of_simple", "verdict", "slope"),
    [
        (RISING, "supported", 0.63),
        (FALLING, "contradicted", -0.73),
        ({"euclidean": [0.02] * 5}, "contradicted", 0.0),
        (flat(BAD), "undecided", 0.0),
    ],
)
def test_depth_in_simple_networks(of_simple, verdict, slope):
    """Layers that agree equally well do not rise; that has to be shown, too."""
    networks = [
        (described("s", weighted_layers=16), of_simple),
        (described("d", weighted_layers=101), FALLING),
    ]
    row = verdicts(scope_of(networks))["depth_helps_simple"]
    assert row.verdict == verdict
    assert row.effect == pytest.approx(slope, abs=0.15)
    assert "very deep: -0." in row.evidence


@pytest.mark.parametrize(
    ("noises", "verdict"),
    [
        ([2.0, 0.3, 0.5, 0.9, 2.0], "supported"),
        ([2.0, 1.2, 0.8, 0.5, 0.3], "contradicted"),
        ([MIDDLING] * 5, "undecided"),
    ],
)
def test_the_best_layer_and_the_last(noises, verdict):
    found = verdicts(scope_of([(described(f"n{i}"), {"euclidean": noises}) for i in range(3)]))
    assert found["best_layer_is_not_the_last"].verdict == verdict
    assert found["middle_layers_beat_embeddings"].verdict == verdict


LABORATORY, DATA = "laboratory_matters_little", "environment_matters_little"


@pytest.mark.parametrize(("factor", "claim"), [("environment", LABORATORY), ("data", DATA)])
def test_what_a_network_was_trained_on_and_by_whom(factor, claim):
    def trained(name, value):
        return described(name, architecture="A", **{factor: value})

    alike = {"euclidean": [0.05] * 5}
    networks = [(trained("a", "x"), alike), (trained("b", "y"), alike)]
    assert verdicts(scope_of(networks))[claim].verdict == "supported"
    networks = [(trained("a", "x"), flat(GOOD)), (trained("b", "y"), flat(BAD))]
    found = verdicts(scope_of(networks))
    assert found[claim].verdict == "contradicted"
    assert found[claim].evidence.endswith("x and y")
    (other,) = {LABORATORY, DATA} - {claim}
    assert found[other].verdict == "not tested"


@pytest.mark.parametrize(
    ("noises", "verdict"), [((GOOD, BAD), "supported"), ((BAD, GOOD), "contradicted")]
)
def test_large_natural_data_and_small_restricted_data(noises, verdict):
    """That they differ says nothing against small changes of the data."""
    networks = [
        (described(data, architecture="A", data=data), flat(noise))
        for data, noise in zip(("Places365", "CIFAR-10"), noises, strict=True)
    ]
    found = verdicts(scope_of(networks))
    assert found["large_natural_data_is_better"].verdict == verdict
    assert found["large_natural_data_is_better"].evidence == "1 pair: CIFAR-10 and Places365"
    assert found[DATA].verdict == "not tested"


def test_laboratories_are_compared_for_each_goal_and_data():
    """Two laboratories that differ on one data set, but not on another."""
    networks = []
    for data, noises in (("ImageNet-1k", (GOOD, BAD)), ("ImageNet-22k", (GOOD, GOOD))):
        for environment, noise in zip("xy", noises, strict=True):
            facts = {"architecture": "A", "environment": environment, "data": data}
            networks.append((described(f"{data}.{environment}", **facts), flat(noise)))
    row = verdicts(scope_of(networks))[LABORATORY]
    assert row.verdict == "contradicted"
    assert "of 2 trainings" in row.evidence
    assert "ImageNet-1k" in row.evidence


def test_many_tests_give_no_false_contradiction():
    """Descriptors that are as good as the plain readout, with independent noise.

    Of so many, one lies beyond the margin by its own interval now and then.
    """
    names = [one.name for one in READOUTS if one.descriptor]
    readouts = ("euclidean", *names)
    alone = together = 0
    for seed in range(30):
        of = {name: [MIDDLING] for name in readouts}
        comparer = scope_of([(described("n", layers=1), of)], readouts=readouts, seed=seed)
        rows = [row for row in compared(comparer) if row.question == "descriptors"]
        assert len(rows) == len(names)
        alone += any(row.low > SETTINGS.margin or row.high < -SETTINGS.margin for row in rows)
        together += verdicts(comparer)["descriptors_change_little"].verdict == "contradicted"
    assert together < alone
    assert together <= 0.05 * 30


def test_a_best_layer_that_is_the_last_is_no_worse_than_itself():
    rows = compared(scope_of([(described("n"), RISING)]))
    (row,) = [row for row in rows if row.question == "layer"]
    assert row.first == "best layer, l4"
    assert (row.difference, row.low, row.high, row.verdict) == (0.0, 0.0, 0.0, "same")


def test_constant_scores_decide_nothing():
    networks = [
        (described(f"n{i}", score=70.0, score_of="top-1"), flat(noise))
        for i, noise in enumerate(np.linspace(0.3, 2.0, 6))
    ]
    row = verdicts(scope_of(networks))[PERFORMANCE]
    assert (row.verdict, "do not vary" in row.why) == ("not tested", True)


def test_descriptors_and_concatenation():
    readouts = ("euclidean", "channel_mean", "gram")
    same = {name: [0.05] * 5 for name in readouts}
    found = verdicts(scope_of([(described("n"), same)], readouts=readouts))
    assert found["descriptors_change_little"].verdict == "supported"
    worse = {**same, "gram": [BAD] * 5}
    row = verdicts(scope_of([(described("n"), worse)], readouts=readouts))
    assert row["descriptors_change_little"].verdict == "contradicted"
    assert row["descriptors_change_little"].evidence.endswith("gram")

    kinds = ("cumulative:joint", "pairs:sum")
    # Independent errors average out in several layers; equal small ones leave nothing to gain.
    gains = scope_of([(described("n"), flat(MIDDLING))], concatenations=kinds)
    assert verdicts(gains)["concatenation_changes_little"].verdict == "contradicted"
    little = scope_of([(described("n"), {"euclidean": [0.03] * 5})], concatenations=kinds)
    assert verdicts(little)["concatenation_changes_little"].verdict == "supported"
    rows = [row for row in compared(gains) if row.question == "concatenation"]
    assert {row.first for row in rows} == {"cumulative layers, joint", "two layers, sum"}
    assert "first" in {row.verdict for row in rows}
    assert "second" not in {row.verdict for row in rows}


CLASSIFICATION = "better_classification_is_not_more_human"
PERFORMANCE = "better_performance_is_not_more_human"


@pytest.mark.parametrize(("better", "verdict"), [(True, "contradicted"), (False, "supported")])
def test_better_classifiers(better, verdict):
    noises = np.linspace(2.0, 0.3, 8) if better else np.linspace(0.3, 2.0, 8)
    networks = [
        (described(f"n{i}", score=60.0 + i, score_of="top-1"), flat(noise))
        for i, noise in enumerate(noises)
    ]
    found = verdicts(scope_of(networks))
    assert found[PERFORMANCE].verdict == verdict
    row = found[CLASSIFICATION]
    assert row.verdict == verdict
    assert abs(row.effect) > 0.9


@pytest.mark.parametrize(
    ("peak", "verdict"), [(0.5, "supported"), (1.0, "contradicted"), (None, "undecided")]
)
def test_agreement_as_an_inverse_u_of_accuracy(peak, verdict):
    accuracies = np.linspace(0, 1, 12)
    noises = 0.3 + 4 * (accuracies - peak) ** 2 if peak else [MIDDLING] * 12
    networks = [
        (described(f"n{i}", score=60 + 20 * accuracy, score_of="top-1"), flat(noise))
        for i, (accuracy, noise) in enumerate(zip(accuracies, noises, strict=True))
    ]
    row = verdicts(scope_of(networks))["agreement_is_an_inverse_u_of_accuracy"]
    assert row.verdict == verdict


def test_supervised_and_self_supervised_networks_are_matched():
    """A self-supervised network of another architecture says nothing about supervision."""
    other = described("b.jigsaw", goal="self-supervised", method="jigsaw")
    networks = [(described("a"), flat(GOOD)), (other, flat(BAD))]
    assert verdicts(scope_of(networks))[SUPERVISED].verdict == "not tested"
    matched = described("a.jigsaw", architecture="a", goal="self-supervised", method="jigsaw")
    for noises, verdict in (((GOOD, BAD), "supported"), ((BAD, GOOD), "contradicted")):
        networks = [(described("a"), flat(noises[0])), (matched, flat(noises[1]))]
        assert verdicts(scope_of(networks))[SUPERVISED].verdict == verdict


SUPERVISED = "supervised_beats_self_supervised"


@pytest.mark.parametrize(
    ("noises", "verdict"), [((GOOD, BAD), "supported"), ((BAD, GOOD), "contradicted")]
)
def test_depth_within_a_family(noises, verdict):
    networks = [
        (described(f"vgg{depth}", family="VGG", depth=depth), flat(noise))
        for depth, noise in zip((11, 19), noises, strict=True)
    ]
    row = verdicts(scope_of(networks))["deeper_is_worse_within_families"]
    assert row.verdict == verdict
    assert row.evidence == "1 family: VGG"


@pytest.mark.parametrize(
    ("noises", "verdict"), [((BAD, GOOD), "supported"), ((GOOD, BAD), "contradicted")]
)
def test_channel_relevance(noises, verdict):
    readouts = ("euclidean", "weighted_euclidean")
    of = {name: [noise] * 5 for name, noise in zip(readouts, noises, strict=True)}
    found = verdicts(scope_of([(described("n"), of)], readouts=readouts))
    assert found["channel_relevance_gains"].verdict == verdict
    assert found["descriptors_change_little"].verdict == "not tested"


@pytest.mark.parametrize(
    ("noises", "most", "every"),
    [((GOOD, GOOD, BAD), "supported", "contradicted"), ((BAD, BAD, GOOD), "contradicted", "")],
)
def test_most_networks_and_all_networks(noises, most, every):
    networks = [(described(f"n{i}"), flat(noise)) for i, noise in enumerate(noises)]
    found = verdicts(scope_of(networks, [("ssim", MIDDLING)]))
    assert found["most_beat_ssim"].verdict == most
    assert found["all_beat_ssim"].verdict == (every or "contradicted")


@pytest.mark.parametrize(
    ("noise", "match", "beat"),
    [
        (GOOD, "supported", "supported"),
        (BAD, "contradicted", "contradicted"),
        (0.05, "supported", "undecided"),
    ],
)
def test_to_match_is_not_to_beat(noise, match, beat):
    tuned = 0.05 if noise == 0.05 else 0.8
    found = verdicts(scope_of([(described("n"), flat(noise))], [("dists", tuned)]))
    assert found["some_match_the_state_of_the_art"].verdict == match
    assert found["some_beat_the_state_of_the_art"].verdict == beat


def test_claims_that_can_not_be_tested_say_what_is_missing_and_how_to_get_it():
    found = verdicts(scope_of([(described("n", layers=2), {"euclidean": [GOOD] * 2})]))
    assert set(found) == set(CLAIMS)
    for row in found.values():
        assert row.verdict == "not tested"
        assert row.why
        assert row.get.startswith("iqa ") or "catalogue has none" in row.why
        assert math.isnan(row.effect)
        assert "{" not in row.test
        assert row.version in ("preprint", "journal", "preprint, journal", "control") or (
            row.version.startswith("arXiv:")
        )


def test_factors_are_compared_where_the_others_agree():
    networks = [
        (described("a", architecture="A"), flat(GOOD)),
        (
            described("a.jigsaw", architecture="A", goal="self-supervised", method="jigsaw"),
            flat(BAD),
        ),
        (described("a.places", architecture="A", data="Places365"), flat(MIDDLING)),
        (described("a.untrained", architecture="A", goal="untrained", data=""), flat(BAD)),
        (described("b", architecture="B"), flat(2 * BAD)),
    ]
    rows = compared(scope_of(networks, [("psnr", BAD), ("ssim", MIDDLING)]))
    pairs = {(row.question, row.first, row.second): row for row in rows}
    assert pairs["goal", "classification", "self-supervised: jigsaw"].verdict == "first"
    assert ("goal", "classification", "untrained") in pairs
    assert pairs["data", "ImageNet-1k", "Places365"].verdict == "first"
    assert pairs["architecture", "A", "B"].verdict == "first"
    assert pairs["baseline", "a", "psnr"].verdict == "first"
    assert pairs["baseline", "b", "ssim"].verdict == "second"
    for question in {row.question for row in rows}:
        of = [row for row in rows if row.question == question]
        assert [row.p_corrected for row in of] == pytest.approx(holm(row.p for row in of).tolist())


def test_a_series_that_mostly_failed_is_left_out_and_others_keep_their_pairs():
    comparer = scope_of([(described("n"), flat(GOOD))], [("ssim", MIDDLING)])
    scope = comparer.scope
    assert (scope.n, scope.references, scope.left_out) == (REFERENCES * EACH, REFERENCES, ())
    measured = Measured(
        opinions(),
        (Series("ssim", "", "", math.nan), *(Series("n", f"l{i}", "euclidean", i) for i in (1, 2))),
        np.random.default_rng(0).random((3, REFERENCES * EACH)),
        np.zeros((3, REFERENCES * EACH), int),
    )
    measured.values[1, 10:] = math.nan
    measured.values[2, :7] = math.nan
    (found,) = scopes({"made": Judged(measured, SETTINGS, 0)}, scope.description)
    assert found.n == REFERENCES * EACH - 7
    assert [one.name for one in found.left_out] == ["n:l1:euclidean"]


def test_series_that_fail_on_few_pairs_do_not_remove_all_pairs():
    n = REFERENCES * EACH
    series = tuple(Series("n", f"l{i}", "euclidean", (i + 1) / 3) for i in range(3))
    measured = Measured(
        opinions(), series, np.random.default_rng(0).random((3, n)), np.zeros((3, n), int)
    )
    for row in range(3):
        measured.values[row, row::3] = math.nan
    comparer = scope_of([(described("n", layers=3), flat(GOOD, 3))])
    (found,) = scopes({"made": Judged(measured, SETTINGS, 0)}, comparer.scope.description)
    assert len(found.series) == 1
    assert len(found.left_out) == 2
    assert found.n > n / 2


def write_study(folder, databases=("one", "two")):
    random = np.random.default_rng(3)
    described_databases = []
    with written_distances(folder / "distances.parquet") as table:
        for at, name in enumerate(databases):
            pairs = opinions(name, at)
            higher_is = "worse" if at == 0 else "better"
            sign = 1 if at == 0 else -1
            values = np.array(
                [sign * pairs.opinion + GOOD * random.normal(0, 1, len(pairs)) for _ in range(5)]
            )
            series = [Series("n", f"l{i}", "euclidean", (i + 1) / 5) for i in range(5)]
            values = np.concatenate([-sign * pairs.opinion[None], values])
            series.insert(0, Series("ssim", "", "", math.nan))
            table.add(pairs, series, values, np.full(values.shape, ""), np.full(values.shape, 10.0))
            described_databases.append(
                DescribedDatabase(name, name, higher_is, len(pairs), REFERENCES, 0, True, "", "")
            )
    Description(
        "two",
        tuple(described_databases),
        (described("n"),),
        (DescribedBaseline("ssim", True, "", False),),
        ("euclidean",),
        (),
        SETTINGS,
    ).write(folder / "study.json")


def test_several_databases_are_judged_one_by_one_and_together(tmp_path):
    write_study(tmp_path)
    found = analyse(tmp_path)
    of_network = [row for row in found.models if row.backbone == "n"]
    assert [row.database for row in of_network] == ["one", "two", "pooled"]
    assert all(row.held_out > 0.8 for row in found.models)
    widths = [row.held_out_high - row.held_out_low for row in of_network]
    assert widths[2] < max(widths[:2])
    assert [row.held_out for row in found.models if row.backbone == "ssim"] == [1.0] * 3
    beside = {row.database for row in found.comparisons if row.question == "baseline"}
    assert beside == {"one", "two", "pooled"}
    assert {row.database for row in found.claims} == {"one", "two", "pooled"}
    for name, rows in (("models", found.models), ("claims", found.claims)):
        with (tmp_path / f"{name}.csv").open(newline="") as file:
            assert len(list(csv.DictReader(file))) == len(rows)
    header = (tmp_path / "correlations.csv").read_text().splitlines()[0]
    assert header == (
        "database,distortion,backbone,layer,depth,readout,n,srocc,srocc_low,srocc_high,plcc,"
        "plcc_logistic,krocc,rmse,srocc_within,plcc_low,plcc_high,plcc_logistic_low,"
        "plcc_logistic_high,krocc_low,krocc_high,rmse_low,rmse_high,outlier_ratio"
    )


def test_statistics_are_the_same_each_time_and_follow_the_seed(tmp_path):
    write_study(tmp_path)
    analyse(tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.glob("*.csv")}
    analyse(tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.glob("*.csv")} == before
    text = (tmp_path / "study.json").read_text()
    (tmp_path / "study.json").write_text(text.replace('"seed": 0', '"seed": 5'))
    analyse(tmp_path)
    assert (tmp_path / "correlations.csv").read_bytes() != before["correlations.csv"]


def test_a_description_that_does_not_fit_is_refused(tmp_path):
    write_study(tmp_path)
    text = (tmp_path / "study.json").read_text()
    (tmp_path / "study.json").write_text(text.replace('"name": "two"', '"name": "other"'))
    with pytest.raises(DescriptionError, match="describes one, other"):
        analyse(tmp_path)
    for damaged, reason in (("[]", "format: expected"), ("{", "JSON"), (text[:-9], "JSON")):
        (tmp_path / "study.json").write_text(damaged)
        with pytest.raises(DescriptionError, match=reason):
            analyse(tmp_path)
    (tmp_path / "study.json").write_text(text.replace('"concatenations"', '"joined"'))
    with pytest.raises(DescriptionError, match="expected the key 'concatenations'"):
        analyse(tmp_path)


def test_distances_from_elsewhere_are_described_by_their_names(tmp_path):
    pairs = opinions()
    random = np.random.default_rng(0)
    names = [("ssim", "", ""), ("vgg16", "pool1", "euclidean"), ("new", "a", "euclidean")]
    series = [Series(*one, math.nan if not one[1] else 0.5) for one in names]
    values = pairs.opinion + random.normal(0, 0.5, (3, len(pairs)))
    with written_distances(tmp_path / "distances.parquet") as table:
        table.add(pairs, series, values * [[-1], [1], [1]], np.full(values.shape, ""))
    with pytest.raises(DescriptionError, match="no such file"):
        analyse(tmp_path)
    found = analyse(tmp_path, higher_is="worse")
    assert [row.backbone for row in found.models] == ["vgg16", "new", "ssim"]
    assert all(row.held_out > 0.7 for row in found.models)
    described = {one.name: one for one in Description.read(tmp_path / "study.json").backbones}
    assert (described["vgg16"].weighted_layers, described["vgg16"].goal) == (16, "classification")
    assert (described["new"].weighted_layers, described["new"].goal) == (None, "")
    table = pq.read_table(tmp_path / "distances.parquet")
    fewer = table.drop_columns(["depth", "distortion", "error"]).sort_by("layer")
    pq.write_table(fewer, tmp_path / "distances.parquet")
    (tmp_path / "study.json").unlink()
    analyse(tmp_path, higher_is="worse")
    page = write_report(tmp_path).read_text()
    assert "No layer was measured" not in page
    (tmp_path / "study.json").unlink()
    with pytest.raises(DescriptionError, match="better or worse"):
        analyse(tmp_path, higher_is="up")


def judged_study(folder, asked):
    """A study of 2AFC or JND judgements; SSIM sees what people see, a network does not."""
    random = np.random.default_rng(0)
    n = 200
    worse = random.uniform(0, 1, (n, 2))
    if asked == "2afc":
        nearer = (worse[:, 1] < worse[:, 0]).astype(float)
        opinion = np.stack([1 - nearer, nearer], axis=1).reshape(-1)
        seen, references = worse.reshape(-1), [f"ref{i}" for i in range(n) for _ in range(2)]
    else:
        opinion, seen = (worse[:, 0] < 0.4).astype(float), worse[:, 0]
        references = [f"p0_{i}" for i in range(n)]
    kinds = ["cnn" if int(one.strip("refp_").split("_")[-1]) % 2 else "blur" for one in references]
    pairs = Pairs(
        *("bapps", tuple(references), tuple(f"d{i}" for i in range(len(seen)))),
        *(tuple(kinds), opinion, np.full(len(seen), math.nan)),
    )
    series = [Series("ssim", "", "", math.nan), Series("n", "l0", "euclidean", 1.0)]
    values = np.array([1 - seen, random.permutation(seen)])
    values[0, 5] = math.nan
    errors = np.full(values.shape, "")
    with written_distances(folder / "distances.parquet") as table:
        table.add(pairs, series, values, errors)
    database = DescribedDatabase(
        "bapps", "BAPPS", "better", len(seen), n, 0, True, "", "", asked=asked
    )
    ssim = DescribedBaseline("ssim", True, "", False)
    networks = (described("n", layers=1),)
    Description("b", (database,), networks, (ssim,), ("euclidean",), (), SETTINGS).write(
        folder / "study.json"
    )


@pytest.mark.parametrize("asked", ["2afc", "jnd"])
def test_2afc_and_jnd_judgements_have_scores_of_their_own(asked, tmp_path):
    judged_study(tmp_path, asked)
    found = analyse(tmp_path)
    assert not found.correlations and not found.models and not found.claims  # noqa: PT018
    rows = {(row.backbone, row.distortion): row for row in found.judgements}
    assert set(rows) == {(name, part) for name in ("ssim", "n") for part in ("", "blur", "cnn")}
    assert rows["ssim", ""].agreement == 1.0
    chance = 0.5 if asked == "2afc" else 0.4
    assert rows["n", ""].agreement == pytest.approx(chance, abs=0.1)
    assert rows["n", ""].low < rows["n", ""].agreement < rows["n", ""].high
    assert rows["ssim", ""].n == 199
    assert rows["n", ""].n == rows["n", "blur"].n + rows["n", "cnn"].n == 200
    page = write_report(tmp_path).read_text()
    assert "ssim does best" in page
    assert "judgements.csv" not in page
    assert "2AFC and JND judgements" in page


def test_2afc_judgements_need_two_pairs_each(tmp_path):
    judged_study(tmp_path, "2afc")
    table = pq.read_table(tmp_path / "distances.parquet")
    fewer = table.filter(pa.compute.not_equal(table["distorted"], "d0"))
    pq.write_table(fewer, tmp_path / "distances.parquet")
    with pytest.raises(DistancesError, match="two pairs for each judgement"):
        analyse(tmp_path)
