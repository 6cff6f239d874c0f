"""A server's state folder: its content, who may change it, and what is kept.

The folder is marked as such and contains everything that a server writes: ``server.json`` (what is
running), ``key_file.json`` (tokens, which only the owner can read), ``config.properties``,
``metrics.json``, ``logs/`` with the logs of the previous run in ``logs/previous/``, and
``archives/``. The latter has copies of the served archives, so that a rollback does not depend on
the original files, and a new build can't change what is served.
"""

import fcntl
import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from iqa_torchserve.archive import Contents

DESCRIPTION, KEYS, MARK, LOGS = "server.json", "key_file.json", ".iqa-serve", "logs"
ARCHIVES, KEPT = "archives", 3
BUSY, DRAIN = "busy", "draining"
"""Files for signals between server and workers; see :class:`iqa_torchserve.worker.Worker`."""
STATE_VARIABLE = "IQA_SERVE_STATE_FOLDER"
"""The variable that tells workers the state folder."""
_NUMBERED = re.compile(r"([0-9]{4,})-.*\.mar")


class ServerError(RuntimeError):
    """A server that can't be started, found or stopped; the message says why and what to do."""

    code = "server"


def prepared(state: Path) -> Path:
    """Make the state folder, or check that it is one; any other folder is left unchanged."""
    if state.is_dir():
        if any(state.iterdir()) and not (state / MARK).is_file():
            raise ServerError(
                f"{state} is used for something else; use --state with a new or an empty folder"
            )
    else:
        # Another start may have made it in the meantime.
        state.mkdir(parents=True, mode=0o700, exist_ok=True)
    state.chmod(0o700)
    (state / MARK).touch()
    return state


@contextmanager
def locked(state: Path) -> Iterator[None]:
    """Let one process at a time start or stop the server of a state folder."""
    with (state / MARK).open("w") as mark:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ServerError(
                f"another start or stop of the server in {state} is in progress"
            ) from None
        yield


def is_locked(state: Path) -> bool:
    """Return whether a start or stop is in progress."""
    try:
        with locked(state):
            return False
    except (ServerError, OSError):
        return True


def fresh_logs(state: Path) -> Path:
    """Move the logs of the previous run aside, replacing older ones, and return the log folder.

    Anything that is not a regular file is left alone, such as a link to another place for logs.
    """
    logs = state / LOGS
    logs.mkdir(exist_ok=True)
    files = [path for path in logs.iterdir() if path.is_file() and not path.is_symlink()]
    if files:
        previous = logs / "previous"
        shutil.rmtree(previous, ignore_errors=True)
        previous.mkdir()
        for path in files:
            path.rename(previous / path.name)
    return logs


def kept_archives(state: Path) -> list[Path]:
    """Return the archives that were served, from the oldest to the latest."""
    folder = state / ARCHIVES
    found = list(folder.iterdir()) if folder.is_dir() else []
    return sorted((p for p in found if _NUMBERED.fullmatch(p.name)), key=_number)


def keep_archive(state: Path, archive: Path, contents: Contents) -> Path:
    """Copy an archive into the state folder, and return its path there."""
    kept = kept_archives(state)
    if archive in kept:
        return archive
    digest = _sha256(archive)
    for path in kept[-1:]:
        if _sha256(path) == digest:
            return path
    number = _number(kept[-1]) + 1 if kept else 1
    folder = state / ARCHIVES
    folder.mkdir(exist_ok=True)
    path = folder / f"{number:04d}-{contents.name}-{contents.version}-{digest[:8]}.mar"
    temporary = path.with_suffix(".part")
    temporary.unlink(missing_ok=True)
    shutil.copyfile(archive, temporary)  # not a link: overwriting the original would change it
    temporary.rename(path)
    return path


def forget_archives(state: Path, served: Path, before: Path | None) -> None:
    """Remove all but the last few archives, now that one is served.

    Parameters
    ----------
    state
        The state folder.
    served
        The archive that is served.
    before
        The archive that was served before, if any. Archives between the two, which were rolled
        back, are removed, so that a rollback from ``served`` leads to it.
    """
    kept = kept_archives(state)
    if before is not None and before in kept and _number(before) < _number(served):
        between = kept[kept.index(before) + 1 : kept.index(served)]
        for path in between:
            path.unlink()
        kept = [path for path in kept if path not in between]
    for path in kept[:-KEPT]:
        if path != served:
            path.unlink()


def log_lines(path: Path) -> list[str]:
    """Return the lines of a log, or an empty list if it is not a readable regular file."""
    # A log may be a link to a device, some of which never end.
    if not path.is_file():
        return []
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []


def tail(path: Path, lines: int = 15) -> str:
    """Return the last lines of a log."""
    return "\n".join(log_lines(path)[-lines:]) or f"({path} is empty)"


def _number(path: Path) -> int:
    match = _NUMBERED.fullmatch(path.name)
    return int(match[1]) if match else 0


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(2**20):
            digest.update(block)
        return digest.hexdigest()
