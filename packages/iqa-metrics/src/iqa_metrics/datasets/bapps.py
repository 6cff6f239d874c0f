"""BAPPS, whose opinions are choices between two images, scored its own way.

References
----------
R. Zhang, P. Isola, A. A. Efros, E. Shechtman and O. Wang, "The Unreasonable Effectiveness of Deep
Features as a Perceptual Metric", CVPR 2018, arXiv:1801.03924.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from iqa_metrics.datasets.folders import Folder
from iqa_metrics.datasets.records import Choice, DatasetError, Problem, Sameness

CHOICES = ("traditional", "cnn", "superres", "deblur", "color", "frameinterp")
CHOICE_COUNT = 36344
SAMENESSES = ("traditional", "cnn")

T = TypeVar("T")


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

    def made(part: str, found: dict[str, Path], share: float) -> Choice:
        return Choice(found["ref"], found["p0"], found["p1"], share, part)

    count = CHOICE_COUNT if complete else None
    return _read(Path(folder), "2afc/val", CHOICES, "judge", ("ref", "p0", "p1"), made, count)


def read_samenesses(folder: str | Path) -> tuple[Sameness, ...]:
    """Read the validation part of BAPPS JND, in a folder that holds ``jnd/val``; as above."""

    def made(part: str, found: dict[str, Path], share: float) -> Sameness:
        return Sameness(found["p0"], found["p1"], share, part)

    return _read(Path(folder), "jnd/val", SAMENESSES, "same", ("p0", "p1"), made)


def _read(
    root: Path,
    below: str,
    parts: tuple[str, ...],
    answers: str,
    images: tuple[str, ...],
    made: Callable[[str, dict[str, Path], float], T],
    expected: int | None = None,
) -> tuple[T, ...]:
    folder = Folder(root, [f"{below}/"])
    found, problems = [], []
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
                found.append(made(part, there, share))
    if expected is not None and len(found) != expected and not (problems or folder.missing):
        problems.append(Problem("missing", below, f"expected {expected}, got {len(found)}"))
    problems = [*dict.fromkeys(folder.missing), *problems]
    if problems:
        raise DatasetError(f"BAPPS in {folder.path} is not complete", problems)
    return tuple(found)


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
