"""What networks are told apart by: goal, data, architecture, and what else made them."""

from dataclasses import dataclass

UNTRAINED = "untrained"
"""The goal of networks with random weights."""


@dataclass(frozen=True, kw_only=True)
class Factors:
    """The factors of a network.

    Attributes
    ----------
    name
        What specs call it.
    architecture
        Published name of the network.
    family
        Architecture without its size, such as ``"ResNet"``.
    kind
        Variant of the family, such as ``"BN"`` or ``"32x4d"``.
    depth
        Number of weighted layers by the paper's count, where it has one.
    goal
        What it was trained for, such as ``"classification"`` or ``"self-supervised"``.
    method
        How, where that has a name, such as ``"jigsaw"`` or ``"contrastive"``.
    data
        What it was trained on, such as ``"ImageNet-1k"``; empty where untrained.
    start
        Data of the weights that training started from, or empty.
    environment
        The laboratory: software and authors that trained it. What the paper calls the environment
        of a network, the images that it learned from, is ``data``.
    recipe
        What else tells it from trainings of the same goal and data.
    parameters
        Number of parameters as published, the classifier's included.
    score, score_of
        How well it does its own task, where published, and what is counted.
    paper
        Where it was published.
    note
        What a user should know.
    """

    name: str
    architecture: str
    goal: str
    data: str
    family: str = ""
    kind: str = ""
    depth: int | None = None
    method: str = ""
    start: str = ""
    environment: str = ""
    recipe: str = ""
    parameters: int | None = None
    score: float | None = None
    score_of: str = ""
    paper: str = ""
    note: str = ""

    @property
    def trained(self) -> bool:
        """Whether it is not a control with random weights."""
        return self.goal != UNTRAINED
