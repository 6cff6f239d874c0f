"""A database's folder as downloaded, its files found in any letter case."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from iqa_metrics.datasets.opinions import DatasetError, Problem

_DEEPEST = 3


class Folder:
    """The files of a database, by their lower-case paths.

    Copies of a database differ in the letter case of their names, and only some archives unpack
    into a folder of their own. So files are found in any letter case, relative to the folder that
    contains a marker of the database.

    Parameters
    ----------
    root
        The folder that the user passed.
    markers
        Paths at least one of which the database has, such as its file of opinions.

    Raises
    ------
    DatasetError
        If there is no such folder, or it contains no marker, or several folders in it do.
    """

    def __init__(self, root: Path, markers: Iterable[str]) -> None:
        if not root.is_dir():
            raise DatasetError(f"{root} is not a folder")
        wanted = [marker.lower() for marker in markers]
        for depth in range(_DEEPEST):
            found = {folder: _files(folder) for folder in sorted(_folders(root, depth))}
            marked = {
                folder: files
                for folder, files in found.items()
                if any(marker in files or _has_folder(files, marker) for marker in wanted)
            }
            if len(marked) > 1:
                raise DatasetError(
                    f"{root} contains more than one such database: pass one of "
                    f"{', '.join(map(str, marked))}"
                )
            if marked:
                ((self.path, self._files),) = marked.items()
                self.missing: list[Problem] = []
                return
        raise DatasetError(
            f"{root} contains no {' or '.join(markers)}; expected the folder as downloaded and "
            "unpacked"
        )

    def find(self, *paths: str) -> Path | None:
        """Return the first of the paths that exists; if none does, record it as missing."""
        for path in paths:
            found = self._files.get(path.lower())
            if found is not None:
                return found
        self.missing.append(Problem("missing", paths[0]))
        return None

    def optional(self, path: str) -> Path | None:
        """Return a file that copies of the database may lack, or None."""
        return self._files.get(path.lower())

    def need(self, *paths: str) -> Path:
        """Return a file without which the database can't be read.

        Raises
        ------
        DatasetError
            If the file is missing.
        """
        found = self.find(*paths)
        if found is None:
            raise DatasetError(f"{self.path} is incomplete", self.missing[-1:])
        return found

    def under(self, folder: str, ending: str) -> list[str]:
        """Return the lower-case paths of files in a folder, sorted."""
        prefix = f"{folder.lower()}/"
        return sorted(p for p in self._files if p.startswith(prefix) and p.endswith(ending))


def _folders(root: Path, depth: int) -> Iterator[Path]:
    if depth == 0:
        yield root
        return
    for child in root.iterdir():
        if child.is_dir():
            yield from _folders(child, depth - 1)


def _files(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for where, folders, names in os.walk(folder, followlinks=True):
        around = {parent.resolve() for parent in (Path(where) / "_").parents[1:]}
        if Path(where).resolve() in around:  # a link back to a parent folder
            folders.clear()
            continue
        below = os.path.relpath(where, folder)
        for name in names:
            path = name if below == "." else f"{Path(below).as_posix()}/{name}"
            found[path.lower()] = Path(where) / name
    return found


def _has_folder(files: dict[str, Path], marker: str) -> bool:
    return marker.endswith("/") and any(path.startswith(marker) for path in files)
