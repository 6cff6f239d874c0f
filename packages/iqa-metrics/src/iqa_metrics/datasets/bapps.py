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
SAMENESSES = ("traditional", "cnn")

T = TypeVar("T")


def read_choices(folder: str | Path) -> tuple[Choice, ...]:
    """Read the validation part of BAPPS 2AFC.

    Parameters
    ----------
    folder
        The one that holds ``2afc/val``.

    Raises
    ------
    DatasetError
        If it is not there, or parts are missing; ``problems`` names them.
    """

    def made(part: str, found: dict[str, Path], share: float) -> Choice:
        return Choice(found["ref"], found["p0"], found["p1"], share, part)

    return _read(Path(folder), "2afc/val", CHOICES, "judge", ("ref", "p0", "p1"), made)


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
) -> tuple[T, ...]:
    folder = Folder(root, [f"{below}/"])
    found, problems = [], []
    for part in parts:
        files = folder.under(f"{below}/{part}/{answers}", ".npy")
        if not files:
            problems.append(Problem("missing", f"{below}/{part}/{answers}/*.npy"))
        for file in files:
            name = Path(file).stem
            pictures = {
                kind: path
                for kind in images
                if (path := folder.find(f"{below}/{part}/{kind}/{name}.png")) is not None
            }
            try:
                answer = np.load(folder.need(file), allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                problems.append(Problem("unreadable", file, str(error)))
                continue
            share = float(answer.ravel()[0]) if answer.size == 1 else float("nan")
            if not 0 <= share <= 1:
                problems.append(Problem("opinion", file, f"expected a share, got {answer}"))
            elif len(pictures) == len(images):
                found.append(made(part, pictures, share))
    problems = [*dict.fromkeys(folder.missing), *problems]
    if problems:
        raise DatasetError(f"BAPPS in {folder.path} is not complete", problems)
    return tuple(found)
