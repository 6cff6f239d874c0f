"""Opinion databases as records: pairs, opinions, and the opinions' direction."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

HigherIs = Literal["better", "worse"]
HIGHER_IS: tuple[HigherIs, ...] = ("better", "worse")

Asked = Literal["score", "2afc", "jnd"]

_SHOWN = 5


@dataclass(frozen=True)
class OpinionPair:
    """A reference, a distorted image, and people's opinion of it.

    Attributes
    ----------
    reference, distorted
        The image files.
    opinion
        The opinion in the database's own units and direction.
    distortion
        The kind of distortion, or empty.
    level
        The strength of the distortion as the database numbers it, or None.
    opinion_sd
        The standard deviation of the ratings that the opinion is the mean of, in the opinion's
        units, or None where it is unknown. It is the spread of single ratings; that of the mean is
        ``sqrt(ratings)`` times smaller.
    ratings
        The number of ratings, or None where it is unknown.
    """

    reference: Path
    distorted: Path
    opinion: float
    distortion: str = ""
    level: float | None = None
    opinion_sd: float | None = None
    ratings: float | None = None


@dataclass(frozen=True)
class Judgement2AFC:
    """A 2AFC judgement: which of two distorted images looks closer to the reference.

    BAPPS 2AFC and NIGHTS have such judgements.

    Attributes
    ----------
    reference, first, second
        The image files.
    chose_second
        The share of people who chose the second image, in [0, 1].
    distortion
        The part of the database that the judgement belongs to.
    """

    reference: Path
    first: Path
    second: Path
    chose_second: float
    distortion: str = ""


@dataclass(frozen=True)
class JudgementJND:
    """A JND judgement: whether two images look the same (BAPPS JND).

    Attributes
    ----------
    first, second
        The image files.
    said_same
        The share of people who saw no difference, in [0, 1].
    distortion
        The part of the database that the judgement belongs to.
    """

    first: Path
    second: Path
    said_same: float
    distortion: str = ""


@dataclass(frozen=True, kw_only=True)
class DatabaseFacts:
    """What is known about a database before it is read.

    Attributes
    ----------
    name
        The name that commands use.
    title
        The published name.
    higher_is
        Whether a higher opinion means a better or a worse looking image.
    range
        The approximate lowest and highest opinion.
    references, pairs
        The numbers of reference images and of pairs, or None where they may vary.
    source
        The paper to cite.
    licence
        What the owners allow. This package redistributes no database.
    layout
        One line about the expected files.
    opinion
        Whether the scores are human ratings; False where they are something else, such as severity.
    asked
        What people were asked: to rate an image (``score``); which of two images looks closer to a
        reference (``2afc``: a judgement is two consecutive pairs, and a pair's opinion is the share
        of people who chose its image); or whether two images look the same (``jnd``: the opinion is
        the share of people who saw no difference).
    """

    name: str
    title: str
    higher_is: HigherIs
    range: tuple[float, float]
    references: int | None
    pairs: int | None
    source: str
    licence: str
    layout: str
    opinion: bool = True
    asked: Asked = "score"


@dataclass(frozen=True)
class OpinionDatabase:
    """A database that was read.

    Attributes
    ----------
    facts
        What is known about it.
    pairs
        Its pairs, in the database's own order.
    problems
        What differs from the published database; empty unless it was read with ``complete=False``.
    """

    facts: DatabaseFacts
    pairs: tuple[OpinionPair, ...]
    problems: tuple["Problem", ...] = ()


@dataclass(frozen=True)
class Problem:
    """Something that differs from the published database.

    Attributes
    ----------
    kind
        ``missing``, ``unreadable``, ``size``, ``opinion`` or ``unexpected``.
    what
        The file, or the line of a file.
    why
        What was expected, and what was found.
    """

    kind: str
    what: str
    why: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}{f' ({self.why})' if self.why else ''}"


class DatasetError(ValueError):
    """A database that can't be used as it is; ``problems`` lists everything wrong with it."""

    code = "bad_dataset"

    def __init__(self, message: str, problems: Iterable[Problem] = ()) -> None:
        self.problems = tuple(problems)
        listed = "; ".join(str(problem) for problem in self.problems[:_SHOWN])
        more = len(self.problems) - _SHOWN
        rest = f"; and {more} more" if more > 0 else ""
        super().__init__(f"{message}: {listed}{rest}" if listed else message)
