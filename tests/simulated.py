"""Simulated studies: agreements with a known truth, and what makes references differ."""

import math

import numpy as np

from iqa_metrics.study.claims import claims
from iqa_metrics.study.comparisons import Comparer
from iqa_metrics.study.concatenated import concatenated
from iqa_metrics.study.correlations import Judged
from iqa_metrics.study.description import (
    DescribedBaseline,
    DescribedDatabase,
    DescribedLayer,
    DescribedNetwork,
    Description,
)
from iqa_metrics.study.distances import Measured, Pairs, Series
from iqa_metrics.study.plan import WEIGHTED, Statistics
from iqa_metrics.study.scopes import scopes

LAYERS = 4
DATABASE = DescribedDatabase("made", "Made", "worse", 0, 0, 0, True, "", "")
SIMILARITIES = ("psnr", "ssim")


def noise_for(srocc):
    """Return the noise, relative to the spread of opinions, that gives an expected SROCC."""
    return math.sqrt(1 / (2 * math.sin(math.pi * srocc / 6)) ** 2 - 1)


def network(name, layers=LAYERS, weighted_layers=16, goal="classification", **factors):
    facts = {"architecture": name, "data": "ImageNet-1k", "environment": "here", **factors}
    named = tuple(DescribedLayer(f"l{i}", (i + 1) / layers, 8) for i in range(layers))
    return DescribedNetwork(
        name=name, goal=goal, weighted_layers=weighted_layers, network="0", layers=named, **facts
    )


def simulated(
    networks,
    baselines,
    *,
    seed,
    references=8,
    each=16,
    database=DATABASE,
    draws=200,
    margin=0.02,
    readouts=("euclidean",),
    concatenations=(),
    shared=0.5,
    common=0.0,
):
    """Return a study's only scope.

    ``networks``: [(network, {readout: expected SROCC of each layer})]; ``baselines``: {name:
    expected SROCC}. Some references are harder than others, for each series in its own way and, by
    ``shared``, for all of them alike. ``common`` is the share of the noise that the layers of a
    network have in common.
    """
    random = np.random.default_rng(seed)
    names = [f"r{i}" for i in range(references)]
    of_pair = np.repeat(np.arange(references), each)
    n = len(of_pair)
    opinion = random.normal(0, 1, n) + random.normal(0, 0.3, references)[of_pair]
    hard = random.normal(0, 1, references)

    def distances(srocc, noise_of_network=0.0):
        alone = shared * hard + math.sqrt(1 - shared**2) * random.normal(0, 1, references)
        noise = noise_for(srocc) * np.exp(0.3 * alone - 0.045)[of_pair]
        alone = math.sqrt(1 - common) if common else 1.0
        found = opinion + noise * (alone * random.normal(0, 1, n) + noise_of_network)
        return found + noise_for(srocc) * 0.3 * random.normal(0, 1, references)[of_pair]

    series, values = [], []
    for name, srocc in baselines.items():
        series.append(Series(name, "", "", math.nan))
        values.append(distances(srocc) * (-1 if name in SIMILARITIES else 1))
    for one, of_readout in networks:
        of_network = math.sqrt(common) * random.normal(0, 1, n) if common else 0.0
        for readout, of_layers in of_readout.items():
            for layer, srocc in zip(one.layers, of_layers, strict=True):
                series.append(Series(one.name, layer.name, readout, layer.depth))
                values.append(distances(srocc, of_network))
    pairs = Pairs(
        "made",
        tuple(names[i] for i in of_pair),
        tuple(f"d{i}" for i in range(n)),
        ("",) * n,
        opinion,
        np.zeros(n),
    )
    table = np.array(values)
    table -= table.min()
    measured = Measured(pairs, tuple(series), table, np.full(table.shape, 10))
    settings = Statistics(draws=draws, seed=seed, margin=margin)
    description = Description(
        "made",
        (database,),
        tuple(one for one, _ in networks),
        tuple(
            DescribedBaseline(
                name, name in SIMILARITIES, "", name.startswith("lpips") or name == "dists"
            )
            for name in baselines
        ),
        readouts,
        concatenations,
        settings,
    )
    judged = {"made": Judged(concatenated(measured, concatenations), settings, seed)}
    (found,) = scopes(judged, description)
    return found


def verdicts(scope):
    return {row.claim: row for row in claims(Comparer(scope))}


def flat(srocc, readouts=("euclidean",), layers=LAYERS):
    return {readout: [srocc] * layers for readout in readouts}


READOUTS = ("euclidean", "channel_mean_std", WEIGHTED)


def alike(srocc=0.85, **settings):
    """Return a study in which everything agrees equally well, with all that claims need."""
    twin = {"architecture": "R50", "weighted_layers": 50, "family": "R", "depth": 50}
    networks = [
        network("r50", **twin),
        network("r50.jigsaw", goal="self-supervised", method="jigsaw", **twin),
        network("r50.places", **(twin | {"data": "Places365"})),
        network("r50.cifar", **(twin | {"data": "CIFAR-10"})),
        network("r50.other", environment="other", **twin),
        network("r18", weighted_layers=18, family="R", depth=18),
        network("a", weighted_layers=8),
    ]
    random = np.random.default_rng(settings["seed"])
    scored = [
        network(f"s{i}", weighted_layers=30, score=float(random.normal(70, 8)), score_of="top-1")
        for i in range(10)
    ]
    rows = [(one, flat(srocc, READOUTS)) for one in networks] + [(o, flat(srocc)) for o in scored]
    return simulated(
        rows,
        {"ssim": srocc, "lpips_alex": srocc, "lpips_vgg": srocc, "dists": srocc},
        readouts=READOUTS,
        **settings,
    )
