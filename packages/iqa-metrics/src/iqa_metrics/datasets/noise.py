"""How certain an opinion is, as a table of one's own tells it."""

import math
from collections.abc import Mapping

from iqa_metrics.datasets.files import number_in

DEVIATION, ERROR, RATINGS = "opinion_sd", "opinion_se", "ratings"


def noise_of(row: Mapping[str, str]) -> tuple[float | None, float | None] | str:
    """Return the standard deviation of the ratings and their number, or what is wrong with them.

    Parameters
    ----------
    row
        The cells of a row by column; ``opinion_sd``, ``opinion_se`` and ``ratings`` are read.
        Columns that are absent and cells that are empty are unknown. A standard error becomes a
        standard deviation by the number of ratings, without which it can't be used.
    """
    numbers: dict[str, float | None] = {}
    for name in (DEVIATION, ERROR, RATINGS):
        text = row.get(name, "").strip()
        value = number_in(text) if text else None
        if text and (value is None or value < 0 or (name == RATINGS and value <= 0)):
            wanted = "a positive number" if name == RATINGS else "a number of at least 0"
            return f"{name}: expected {wanted}, got {text!r}"
        numbers[name] = value
    spread, error, ratings = (numbers[name] for name in (DEVIATION, ERROR, RATINGS))
    if spread is None and error is not None:
        if ratings is None:
            return f"{ERROR}: expected the column {RATINGS} as well, how many ratings there are"
        spread = error * math.sqrt(ratings)
    return spread, ratings
