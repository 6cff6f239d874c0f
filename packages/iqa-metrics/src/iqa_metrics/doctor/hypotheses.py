"""What a hypothesis is: one mistake that could turn the right value into the claimed one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Pairwise = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Maps reference and distorted, ``[1, 3, H, W]`` each, to what a mistaken program compares."""
Measure = Callable[[Tensor, Tensor], Tensor]
"""Maps reference and distorted to a value ``[1]``."""
Group = Literal["colour", "geometry", "range", "metric", "value"]
GROUPS: tuple[Group, ...] = ("colour", "geometry", "range", "metric", "value")
"""The kinds of mistakes, in the order in which a program makes them."""


@dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """A mistake, and what it does.

    Attributes
    ----------
    name
        A short name.
    group
        What it concerns. Two mistakes of one group are not combined.
    explanation
        One line: what the other program does.
    remedy
        One line: how to fix that program.
    tier
        How usual it is: 1 for the classic mistakes, 2 for common ones, 3 for rare ones.
    images
        What it does to the images; they may leave [0, 1]. None if nothing.
    measure
        What is computed in place of the metric, or the spec of another metric. None for the metric.
    value
        What it does to the metric's value. None if nothing.
    """

    name: str
    group: Group
    explanation: str
    remedy: str
    tier: int = 2
    images: Pairwise | None = None
    measure: Measure | str | None = None
    value: Callable[[float], float] | None = None


def both(transform: Callable[[Tensor], Tensor]) -> Pairwise:
    """Return a function of a pair that does the same to both images."""
    return lambda x, y: (transform(x), transform(y))
