"""BAPPS, whose opinions are choices between two images, scored its own way.

References
----------
R. Zhang, P. Isola, A. A. Efros, E. Shechtman and O. Wang, "The Unreasonable Effectiveness of Deep
Features as a Perceptual Metric", CVPR 2018, arXiv:1801.03924.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np

from iqa_metrics.datasets.folders import Folder
from iqa_metrics.datasets.opinions import (
    Choice,
    DatabaseFacts,
    DatasetError,
    OpinionPair,
    Problem,
    Sameness,
)

CHOICES = ("traditional", "cnn", "superres", "deblur", "color", "frameinterp")
CHOICE_COUNT = 36344
SAMENESSES = ("traditional", "cnn")

T = TypeVar("T")


CHOICES_BELOW, SAMENESSES_BELOW = "2afc/val", "jnd/val"


def read_choices(folder: str | Path, *, complete: bool = True) -> tuple[Choice, ...]:
    """Read the validation part of BAPPS 2AFC.

    Parameters
    ----------
    folder
        The one that holds ``2afc/val``.
    complete
        Refuse other than the 36344 choices that were published.

    Raises
    ------
    DatasetError
        If it is not there, or parts are missing; ``problems`` names them.
    """
    files, problems = Folder(Path(folder), [f"{CHOICES_BELOW}/"]), list[Problem]()
    found = tuple(_choices(files, problems))
    if complete:
        problems += _miscounted(len(found), [*files.missing, *problems])
    return _whole(files, problems, found)


def read_samenesses(folder: str | Path) -> tuple[Sameness, ...]:
    """Read the validation part of BAPPS JND, in a folder that holds ``jnd/val``; as above."""
    files, problems = Folder(Path(folder), [f"{SAMENESSES_BELOW}/"]), list[Problem]()
    return _whole(files, problems, tuple(_samenesses(files, problems)))


def choice_pairs(
    folder: Folder, facts: DatabaseFacts, problems: list[Problem]
) -> Iterator[OpinionPair]:
    """Yield choices as pairs, two a choice: both images beside their reference.

    The opinion of each is the share of people who chose it.
    """
    count = 0
    for one in _choices(folder, problems):
        count += 1
        shares = (1 - one.chose_second, one.chose_second)
        for image, share in zip((one.first, one.second), shares, strict=True):
            yield OpinionPair(one.reference, image, share, one.distortion)
    problems += _miscounted(count, [*folder.missing, *problems])


def sameness_pairs(
    folder: Folder, facts: DatabaseFacts, problems: list[Problem]
) -> Iterator[OpinionPair]:
    """Yield pairs of images with the share of people who called them the same."""
    for one in _samenesses(folder, problems):
        yield OpinionPair(one.first, one.second, one.said_same, one.distortion)


def _choices(folder: Folder, problems: list[Problem]) -> Iterator[Choice]:
    def made(part: str, found: dict[str, Path], share: float) -> Choice:
        return Choice(found["ref"], found["p0"], found["p1"], share, part)

    return _read(folder, problems, CHOICES_BELOW, CHOICES, "judge", ("ref", "p0", "p1"), made)


def _samenesses(folder: Folder, problems: list[Problem]) -> Iterator[Sameness]:
    def made(part: str, found: dict[str, Path], share: float) -> Sameness:
        return Sameness(found["p0"], found["p1"], share, part)

    return _read(folder, problems, SAMENESSES_BELOW, SAMENESSES, "same", ("p0", "p1"), made)


def _miscounted(count: int, known: list[Problem]) -> list[Problem]:
    """Return that choices are missing, unless problems that are known say which."""
    if count == CHOICE_COUNT or known:
        return []
    return [Problem("missing", CHOICES_BELOW, f"expected {CHOICE_COUNT}, got {count}")]


def _whole(folder: Folder, problems: list[Problem], found: tuple[T, ...]) -> tuple[T, ...]:
    problems = [*dict.fromkeys(folder.missing), *problems]
    if problems:
        raise DatasetError(f"BAPPS in {folder.path} is not complete", problems)
    return found


def _read(
    folder: Folder,
    problems: list[Problem],
    below: str,
    parts: tuple[str, ...],
    answers: str,
    images: tuple[str, ...],
    made: Callable[[str, dict[str, Path], float], T],
) -> Iterator[T]:
    for part in parts:
        kinds = {
            **{kind: (f"{below}/{part}/{kind}", ".png") for kind in images},
            answers: (f"{below}/{part}/{answers}", ".npy"),
        }
        stems = {
            kind: {Path(file).stem for file in folder.under(where, ending)}
            for kind, (where, ending) in kinds.items()
        }
        if not stems[answers]:
            problems.append(Problem("missing", f"{below}/{part}/{answers}/*.npy"))
            continue
        for name in sorted(set().union(*stems.values())):
            files = {
                kind: folder.find(f"{where}/{name}{ending}")
                for kind, (where, ending) in kinds.items()
            }
            there = {kind: file for kind, file in files.items() if file is not None}
            answer = there.pop(answers, None)
            if answer is None:
                continue
            share = _share(answer)
            if isinstance(share, Problem):
                problems.append(share)
            elif len(there) == len(images):
                yield made(part, there, share)


def _share(file: Path) -> float | Problem:
    """Return the share of people in a file, or what is wrong with it."""
    try:
        answer = np.load(file, allow_pickle=False)
        share = float(np.asarray(answer).reshape(-1)[0]) if answer.size == 1 else float("nan")
    except (OSError, ValueError, EOFError, AttributeError, TypeError) as error:
        return Problem("unreadable", str(file), str(error))
    if not 0 <= share <= 1:
        return Problem("opinion", str(file), f"expected a share, got {answer}")
    return share
