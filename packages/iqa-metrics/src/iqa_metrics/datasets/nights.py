"""NIGHTS: which of two variations of a synthetic image people find more similar to it.

Triplets have the answers of people who agreed; those with fewer than 6 votes were left out by the
authors and are left out here.

References
----------
S. Fu, N. Tamir, S. Sundaram, L. Chai, R. Zhang, T. Dekel and P. Isola, "DreamSim: Learning New
Dimensions of Human Visual Similarity using Synthetic Data", NeurIPS 2023, arXiv:2306.09344.
"""

from collections.abc import Iterator
from pathlib import Path

from iqa_metrics.datasets.files import number_in, rows_of
from iqa_metrics.datasets.folders import Folder
from iqa_metrics.datasets.opinions import (
    DatabaseFacts,
    DatasetError,
    Judgement2AFC,
    OpinionPair,
    Problem,
)

TABLE = "data.csv"
SPLITS = ("train", "val", "test")
LEAST_VOTES = 6
_COLUMNS = ("id", "ref_path", "left_path", "right_path", "left_vote", "right_vote")


def read_nights(folder: str | Path, split: str = "test") -> tuple[Judgement2AFC, ...]:
    """Read a part of NIGHTS.

    Parameters
    ----------
    folder
        The folder that contains ``data.csv``, and the images that it names.
    split
        ``train``, ``val`` or ``test``. The authors' metric was trained on the first.

    Returns
    -------
    tuple
        The judgements; the first image is the left one. ``distortion`` is ``imagenet`` for
        triplets of ImageNet's classes and ``not imagenet`` for others, if the table says which.

    Raises
    ------
    DatasetError
        If the database is not there, or parts of it are missing; ``problems`` lists them.
    """
    if split not in SPLITS:
        raise DatasetError(f"split: expected {' or '.join(SPLITS)}, got {split!r}")
    files, problems = Folder(Path(folder), [TABLE]), list[Problem]()
    found = tuple(_judgements(files, problems, split))
    problems = [*dict.fromkeys(files.missing), *problems]
    if not found and not problems:
        problems = [Problem("missing", f"{TABLE}: triplets of the part {split}")]
    if problems:
        raise DatasetError(f"NIGHTS in {files.path} is not complete", problems)
    return found


def pairs_nights(
    folder: Folder, facts: DatabaseFacts, problems: list[Problem]
) -> Iterator[OpinionPair]:
    """Yield two pairs per triplet of the test part: the reference with each of its variations.

    The opinion of a pair is the share of people who chose its image.
    """
    count = 0
    for one in _judgements(folder, problems, "test"):
        count += 1
        shares = (1 - one.chose_second, one.chose_second)
        for image, share in zip((one.first, one.second), shares, strict=True):
            yield OpinionPair(one.reference, image, share, one.distortion)
    if not count and not problems and not folder.missing:
        problems.append(Problem("missing", f"{TABLE}: triplets of the part test"))


def _judgements(folder: Folder, problems: list[Problem], split: str) -> Iterator[Judgement2AFC]:
    path = folder.need(TABLE)
    for number, row in rows_of(path, _COLUMNS):
        votes = number_in(row.get("votes", LEAST_VOTES))
        if row.get("split", split) != split or (votes is not None and votes < LEAST_VOTES):
            continue
        left, right = (number_in(row[name]) for name in ("left_vote", "right_vote"))
        where = f"{path.name}, line {number}"
        if left is None or right is None or min(left, right) < 0 or left + right <= 0:
            got = f"left_vote {row['left_vote']!r} and right_vote {row['right_vote']!r}"
            problems.append(Problem("opinion", where, f"expected votes of at least 0, got {got}"))
            continue
        images = [folder.find(row[name]) for name in ("ref_path", "left_path", "right_path")]
        reference, first, second = images
        if reference and first and second:
            yield Judgement2AFC(reference, first, second, right / (left + right), _part(row))


def _part(row: dict[str, str]) -> str:
    known = row.get("is_imagenet", "").strip().lower()
    if known in ("true", "1", "1.0"):
        return "imagenet"
    return "not imagenet" if known in ("false", "0", "0.0") else ""
