"""How sure a study is asked to be."""

from dataclasses import dataclass


class PlanError(ValueError):
    """A plan that can't be carried out; the message says what was expected and what came."""

    code = "bad_plan"


@dataclass(frozen=True)
class Statistics:
    """How sure the study is asked to be.

    Attributes
    ----------
    draws, seed, confidence
        Of the bootstrap over reference images.
    margin
        The difference of correlations that counts as none, in [0, 1].
    """

    draws: int = 1000
    seed: int = 0
    confidence: float = 0.95
    margin: float = 0.02

    def __post_init__(self) -> None:
        checks = {
            "draws": (isinstance(self.draws, int) and self.draws >= 1, "a number from 1 on"),
            "seed": (isinstance(self.seed, int) and self.seed >= 0, "a number from 0 on"),
            "confidence": (0 < self.confidence < 1, "a share between 0 and 1"),
            "margin": (0 <= self.margin <= 1, "a difference between 0 and 1"),
        }
        for name, (fine, expected) in checks.items():
            if not fine:
                raise PlanError(f"{name}: expected {expected}, got {getattr(self, name)!r}")
