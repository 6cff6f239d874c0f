"""BAPPS, which has 2AFC and JND judgements instead of mean opinion scores.

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
    DatabaseFacts,
    DatasetError,
    Judgement2AFC,
    JudgementJND,
    OpinionPair,
    Problem,
)

FOLDER_2AFC, FOLDER_JND = "2afc/val", "jnd/val"
PARTS_2AFC = ("traditional", "cnn", "superres", "deblur", "color", "frameinterp")
PARTS_JND = ("traditional", "cnn")
COUNT_2AFC = 36344

T = TypeVar("T")


def read_2afc(folder: str | Path, *, complete: bool = True) -> tuple[Judgement2AFC, ...]:
    """Read the validation part of BAPPS 2AFC.

    Parameters
    ----------
    folder
        The folder that contains ``2afc/val``.
    complete
        Whether to require all 36344 published judgements.

    Raises
    ------
    DatasetError
        If the database is not there, or parts of it are missing; ``problems`` lists them.
    """
    files, problems = Folder(Path(folder), [f"{FOLDER_2AFC}/"]), list[Problem]()
    found = tuple(_judgements_2afc(files, problems))
    if complete:
        problems += _miscounted(len(found), [*files.missing, *problems])
    return _whole(files, problems, found)


def read_jnd(folder: str | Path) -> tuple[JudgementJND, ...]:
    """Read the validation part of BAPPS JND.

    Parameters
    ----------
    folder
        The folder that contains ``jnd/val``.

    Raises
    ------
    DatasetError
        If the database is not there, or parts of it are missing; ``problems`` lists them.
    """
    files, problems = Folder(Path(folder), [f"{FOLDER_JND}/"]), list[Problem]()
    return _whole(files, problems, tuple(_judgements_jnd(files, problems)))


def pairs_2afc(
    folder: Folder, facts: DatabaseFacts, problems: list[Problem]
) -> Iterator[OpinionPair]:
    """Yield two pairs per 2AFC judgement: the reference with each of its two distorted images.

    The opinion of a pair is the share of people who chose its distorted image.
    """
    count = 0
    for one in _judgements_2afc(folder, problems):
        count += 1
        shares = (1 - one.chose_second, one.chose_second)
        for image, share in zip((one.first, one.second), shares, strict=True):
            yield OpinionPair(one.reference, image, share, one.distortion)
    problems += _miscounted(count, [*folder.missing, *problems])


def pairs_jnd(
    folder: Folder, facts: DatabaseFacts, problems: list[Problem]
) -> Iterator[OpinionPair]:
    """Yield one pair per JND judgement, with the share of people who saw no difference."""
    for one in _judgements_jnd(folder, problems):
        yield OpinionPair(one.first, one.second, one.said_same, one.distortion)


def _judgements_2afc(folder: Folder, problems: list[Problem]) -> Iterator[Judgement2AFC]:
    def made(part: str, found: dict[str, Path], share: float) -> Judgement2AFC:
        return Judgement2AFC(found["ref"], found["p0"], found["p1"], share, part)

    return _read(folder, problems, FOLDER_2AFC, PARTS_2AFC, "judge", ("ref", "p0", "p1"), made)


def _judgements_jnd(folder: Folder, problems: list[Problem]) -> Iterator[JudgementJND]:
    def made(part: str, found: dict[str, Path], share: float) -> JudgementJND:
        return JudgementJND(found["p0"], found["p1"], share, part)

    return _read(folder, problems, FOLDER_JND, PARTS_JND, "same", ("p0", "p1"), made)


def _miscounted(count: int, known: list[Problem]) -> list[Problem]:
    """Return a problem if judgements are missing and no known problem explains it."""
    if count == COUNT_2AFC or known:
        return []
    return [Problem("missing", FOLDER_2AFC, f"expected {COUNT_2AFC}, got {count}")]


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
    """Return the share of people that a file holds, or the problem with the file."""
    try:
        answer = np.load(file, allow_pickle=False)
        share = float(np.asarray(answer).reshape(-1)[0]) if answer.size == 1 else float("nan")
    except (OSError, ValueError, EOFError, AttributeError, TypeError) as error:
        return Problem("unreadable", str(file), str(error))
    if not 0 <= share <= 1:
        return Problem("opinion", str(file), f"expected a share in [0, 1], got {answer}")
    return share
