"""Databases of people's opinions as records: pairs, opinions, and which way these point."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

HigherIs = Literal["better", "worse"]
HIGHER_IS: tuple[HigherIs, ...] = ("better", "worse")

Asked = Literal["score", "choice", "sameness"]

_SHOWN = 5


@dataclass(frozen=True)
class OpinionPair:
    """A distorted image and what people think of it.

    Attributes
    ----------
    reference, distorted
        The files.
    opinion
        In the database's own units; its direction is the database's.
    distortion
        Kind of the distortion, or empty.
    level
        Its strength as the database numbers it, or None.
    """

    reference: Path
    distorted: Path
    opinion: float
    distortion: str = ""
    level: float | None = None


@dataclass(frozen=True)
class Choice:
    """Two images, one of which people found nearer to a reference (BAPPS 2AFC).

    Attributes
    ----------
    reference, first, second
        The files.
    chose_second
        Share of people who chose the second, in [0, 1].
    distortion
        The part of the database that it belongs to.
    """

    reference: Path
    first: Path
    second: Path
    chose_second: float
    distortion: str = ""


@dataclass(frozen=True)
class Sameness:
    """Two images that people called the same or not (BAPPS JND).

    Attributes
    ----------
    first, second
        The files.
    said_same
        Share of people who saw no difference, in [0, 1].
    distortion
        The part of the database that it belongs to.
    """

    first: Path
    second: Path
    said_same: float
    distortion: str = ""


@dataclass(frozen=True, kw_only=True)
class DatabaseFacts:
    """What is known of a database before it is read.

    Attributes
    ----------
    name
        What commands call it.
    title
        Published name.
    higher_is
        Whether a higher opinion means a better or a worse looking image.
    range
        Least and greatest opinion, about.
    references, pairs
        How many images it has.
    source
        The paper to cite.
    licence
        What its owners allow; none may be passed on by us.
    layout
        One line about the files that are expected.
    opinion
        Whether people were asked; False where scores are something else, such as severity.
    asked
        What people were asked: to score an image (``score``), to choose which of two images is
        nearer to a reference (``choice``: each choice is two pairs, one behind the other, and their
        opinions are the shares of people who chose them), or whether two images are the same
        (``sameness``: the opinion is the share who said so).
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
        What is known of it.
    pairs
        Its pairs, in its own order.
    problems
        What is not as it was published; empty unless it was read with ``complete=False``.
    """

    facts: DatabaseFacts
    pairs: tuple[OpinionPair, ...]
    problems: tuple["Problem", ...] = ()


@dataclass(frozen=True)
class Problem:
    """Something that is not as it was published.

    Attributes
    ----------
    kind
        ``missing``, ``unreadable``, ``size``, ``opinion`` or ``unexpected``.
    what
        The file, or the line of a file.
    why
        What was expected and what came.
    """

    kind: str
    what: str
    why: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}{f' ({self.why})' if self.why else ''}"


class DatasetError(ValueError):
    """A database that can't be used as it is; ``problems`` has all that is wrong with it."""

    code = "bad_dataset"

    def __init__(self, message: str, problems: Iterable[Problem] = ()) -> None:
        self.problems = tuple(problems)
        listed = "; ".join(str(problem) for problem in self.problems[:_SHOWN])
        more = len(self.problems) - _SHOWN
        rest = f"; and {more} more" if more > 0 else ""
        super().__init__(f"{message}: {listed}{rest}" if listed else message)
