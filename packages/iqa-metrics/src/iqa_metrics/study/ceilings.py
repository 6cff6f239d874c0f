"""``ceilings.csv``: how well people agree with the mean opinion, where a database tells it."""

import math
from collections.abc import Iterator

import numpy as np

from iqa_metrics import statistics
from iqa_metrics.study.agreement_rows import Ceiling
from iqa_metrics.study.correlations import Judged

ONE = "one observer"
_NO_SPREAD = "the database does not tell how much ratings vary"
_NO_RATINGS = "the database does not tell how many ratings there are"
_MEASURES = ("srocc", "plcc")


def ceilings(name: str, judged: Judged) -> Iterator[Ceiling]:
    """Yield the ceilings of a database with human ratings.

    Parameters
    ----------
    name
        Its name.
    judged
        Its pairs. Those whose noise is unknown are left out.
    """
    of, settings = judged.measured.pairs, judged.settings
    known = np.isfinite(of.opinion_sd) & np.isfinite(of.opinion)
    if known.sum() < statistics.FEWEST:
        for measure in _MEASURES:
            yield Ceiling(name, measure, ONE, math.nan, math.nan, math.nan, _NO_SPREAD)
        return
    counts = of.ratings[known]
    ratings = float(np.mean(counts)) if np.isfinite(counts).all() else math.nan
    for observers in (1.0, ratings):
        what = ONE if observers == 1 else "mean of all observers"
        if math.isfinite(observers) and observers != 1:
            what = f"mean of {observers:.3g} observers"
        for measure in _MEASURES:
            if not math.isfinite(observers):
                yield Ceiling(name, measure, what, math.nan, math.nan, math.nan, _NO_RATINGS)
                continue
            found = statistics.noise_ceiling(
                of.opinion[known],
                of.opinion_sd[known],
                measure,
                references=np.asarray(of.references)[known].tolist(),
                observers=observers,
                draws=settings.draws,
                seed=settings.seed,
                confidence=settings.confidence,
            )
            value, low, high = (float(one) for one in (found.value, found.low, found.high))
            if judged.references(known) < statistics.FEWEST_REFERENCES:
                low = high = math.nan
            yield Ceiling(name, measure, what, value, low, high)
