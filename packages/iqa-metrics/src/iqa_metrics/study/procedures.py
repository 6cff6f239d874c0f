"""The statistical procedures of a study: the functions that the analysis calls, with their names.

The report's methods text takes the names from here, so that it says what was computed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, ParamSpec, TypeVar

from iqa_metrics import statistics
from iqa_metrics.statistics import Bootstrap

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Procedure(Generic[P, R]):
    """A procedure.

    Attributes
    ----------
    name
        What a methods text calls it.
    run
        The function that carries it out.
    source
        The publication, or empty for what needs none.
    """

    name: str
    run: Callable[P, R]
    source: str = ""


AGREEMENT = Procedure("Spearman's rank correlation coefficient (SROCC)", statistics.srocc)
VALUES = Procedure("percentiles of the bootstrap replicates", Bootstrap.interval)
DIFFERENCES = Procedure(
    "Student's t with R − 1 degrees of freedom, where R is the number of reference images",
    Bootstrap.student_interval,
    "Cameron and Miller, 2015",
)
FAMILIES = Procedure("Holm's method", statistics.holm, "Holm, 1979")
POOLING = Procedure("Fisher's z transformation", statistics.pooled, "Fisher, 1921")
HELD_OUT_REFERENCES = "leave-one-reference-out"
HELD_OUT_DATABASES = "leave-one-database-out"
CONTRIBUTIONS = "jackknife pseudo-value"
"""What :mod:`iqa_metrics.study.held_out` does."""
