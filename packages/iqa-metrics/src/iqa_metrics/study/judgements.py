"""``judgements.csv``: the agreement of distances with 2AFC and JND judgements.

For 2AFC judgements it is the share of observers that a metric agrees with. For JND judgements it is
the average precision with which small distances find the pairs that look the same. The sign of
similarities is reversed.

References
----------
R. Zhang, P. Isola, A. A. Efros, E. Shechtman and O. Wang, "The Unreasonable Effectiveness of Deep
Features as a Perceptual Metric", CVPR 2018, arXiv:1801.03924.
"""

import math
from collections.abc import Iterator

import numpy as np

from iqa_metrics import statistics
from iqa_metrics.study.description import DescribedDatabase, Description
from iqa_metrics.study.distances import DistancesError, Floats, Ints, Measured
from iqa_metrics.study.rows import Judgement


def judgements(
    measured: Measured, database: DescribedDatabase, description: Description
) -> Iterator[Judgement]:
    """Yield the rows of a database: for all of it, and for each part.

    Raises
    ------
    DistancesError
        If the pairs of a reference do not come in twos whose shares of people add up to 1.
    """
    similar = {one.name for one in description.baselines if one.higher_is_better}
    signs = np.array([-1.0 if one.backbone in similar else 1.0 for one in measured.series])
    if database.asked == "2afc":
        firsts, seconds = _judgements_2afc(measured)
        judged = measured.pairs.opinion[seconds]
        parts = np.asarray(measured.pairs.distortions)[firsts]
        sets = [firsts, seconds]
    else:
        judged, parts, sets = (
            measured.pairs.opinion,
            np.asarray(measured.pairs.distortions),
            [np.arange(len(measured.pairs))],
        )
    kinds = [kind for kind in dict.fromkeys(parts.tolist()) if kind]
    settings = description.statistics
    for part in ["", *(kinds if len(kinds) > 1 else [])]:
        chosen = np.ones(len(judged), bool) if not part else parts == part
        for row, one in enumerate(measured.series):
            values = measured.values[row] * signs[row]
            there = chosen & np.logical_and.reduce([np.isfinite(values[of]) for of in sets])
            of_row = [values[of][there] for of in sets]
            agreement, low, high = _scored(
                of_row, judged[there], settings.confidence, settings.seed
            )
            yield Judgement(
                database=database.name,
                distortion=part,
                backbone=one.backbone,
                layer=one.layer,
                depth=one.depth,
                readout=one.readout,
                measure=database.asked,
                n=int(there.sum()),
                agreement=agreement,
                low=low,
                high=high,
            )


def _judgements_2afc(measured: Measured) -> tuple[Ints, Ints]:
    """Return the indices of the two pairs of each 2AFC judgement.

    A reference may have several judgements: its pairs then come two by two.
    """
    order = np.argsort(np.asarray(measured.pairs.references), kind="stable")
    ordered = np.asarray(measured.pairs.references)[order]
    shares = measured.pairs.opinion[order]
    if (
        len(order) % 2
        or (ordered[::2] != ordered[1::2]).any()
        or (np.abs(shares[::2] + shares[1::2] - 1) > 1e-6).any()
    ):
        raise DistancesError(
            f"{measured.pairs.database}: expected two pairs for each judgement, with the reference "
            "and the two images that people chose between, and shares of people that add up to 1"
        )
    return order[::2], order[1::2]


_REPLICATES = 200


def _scored(
    distances: list[Floats], judged: Floats, confidence: float, seed: int
) -> tuple[float, float, float]:
    """Return an agreement and its interval over judgements."""
    if len(judged) < 2:
        return math.nan, math.nan, math.nan
    if len(distances) == 2:
        from scipy.stats import norm

        agreed = statistics.agreed_with(distances[0], distances[1], judged)
        # The mean of thousands of independent judgements is normally distributed.
        reach = norm.ppf((1 + confidence) / 2) * agreed.std(ddof=1) / math.sqrt(len(agreed))
        value = float(agreed.mean())
        return value, max(0.0, value - float(reach)), min(1.0, value + float(reach))
    value = float(statistics.same_precision(distances[0], judged))
    stream = np.random.default_rng(seed)
    draws = [stream.integers(len(judged), size=len(judged)) for _ in range(_REPLICATES)]
    replicates = np.array(
        [statistics.same_precision(distances[0][index], judged[index]) for index in draws]
    )
    if np.isnan(replicates).any():
        return value, math.nan, math.nan
    low, high = np.quantile(replicates, [(1 - confidence) / 2, (1 + confidence) / 2])
    return value, float(low), float(high)
