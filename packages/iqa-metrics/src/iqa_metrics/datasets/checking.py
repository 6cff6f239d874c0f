"""Check a database before a study uses it: complete, readable, and as it was published."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from iqa_metrics.datasets.opinions import OpinionDatabase, Problem
from iqa_metrics.datasets.readers import read_database
from iqa_metrics.io.decoding import ImageError


def check_database(
    name: str, folder: str | Path, progress: Callable[[int, int], None] | None = None
) -> OpinionDatabase:
    """Read a database and decode each of its images.

    Parameters
    ----------
    name, folder
        As for :func:`iqa_metrics.datasets.read_database`.
    progress
        Called with the number of images checked so far and their total number.

    Returns
    -------
    OpinionDatabase
        Its ``problems`` list everything that is wrong: files that are missing or can't be decoded,
        and images that differ in size from their reference.

    Raises
    ------
    UnknownNameError, DatasetError
        If there is no such database, or if none of it can be read.
    """
    found = read_database(name, folder, complete=False)
    images = list(
        dict.fromkeys(file for pair in found.pairs for file in (pair.reference, pair.distorted))
    )
    sizes: dict[Path, tuple[int, ...]] = {}
    problems = list(found.problems)
    with ThreadPoolExecutor() as pool:
        for index, (file, size) in enumerate(
            zip(images, pool.map(_size, images), strict=True), start=1
        ):
            if isinstance(size, str):
                problems.append(Problem("unreadable", str(file), size))
            else:
                sizes[file] = size
            if progress is not None:
                progress(index, len(images))
    for pair in found.pairs:
        expected, got = sizes.get(pair.reference), sizes.get(pair.distorted)
        if expected and got and expected != got:
            why = "{1}x{0}; its reference is {3}x{2}".format(*got, *expected)
            problems.append(Problem("size", str(pair.distorted), why))
    return OpinionDatabase(found.facts, found.pairs, tuple(problems))


def _size(file: Path) -> tuple[int, ...] | str:
    """Return an image's height and width, or why it can't be decoded."""
    from iqa_metrics.io.images import read_image

    try:
        # Whether its colours can be converted matters only beside the other image of a pair.
        return tuple(read_image(file, colour="ignore").shape[-2:])
    except (ImageError, OSError) as error:
        return str(error)
