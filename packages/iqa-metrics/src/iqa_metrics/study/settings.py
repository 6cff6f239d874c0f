"""The settings of a study's statistics."""

from dataclasses import dataclass

WEIGHTED = "weighted_euclidean"
"""The only weighted readout in studies. Its channel weights are learned from the study's opinion
scores, and each pair is measured with weights that were learned without its reference."""


class PlanError(ValueError):
    """A plan that can't be carried out. The message says what was expected and what was found."""

    code = "bad_plan"


@dataclass(frozen=True)
class Statistics:
    """The settings of a study's statistics.

    Attributes
    ----------
    draws
        The number of bootstrap replicates over reference images, at least 1.
    seed
        The seed of the bootstrap, at least 0.
    confidence
        The confidence level of intervals, between 0 and 1.
    margin
        The largest difference between correlations that counts as none, in [0, 1].

    Raises
    ------
    PlanError
        If a setting is out of range.
    """

    draws: int = 1000
    seed: int = 0
    confidence: float = 0.95
    margin: float = 0.02

    def __post_init__(self) -> None:
        checks = {
            "draws": (isinstance(self.draws, int) and self.draws >= 1, "an integer of at least 1"),
            "seed": (isinstance(self.seed, int) and self.seed >= 0, "an integer of at least 0"),
            "confidence": (0 < self.confidence < 1, "a number between 0 and 1"),
            "margin": (0 <= self.margin <= 1, "a number from 0 to 1"),
        }
        for name, (fine, expected) in checks.items():
            if not fine:
                raise PlanError(f"{name}: expected {expected}, got {getattr(self, name)!r}")
