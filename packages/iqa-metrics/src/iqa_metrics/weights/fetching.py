"""Download weights files that have a URL, or copy files that the user has.

Either way the file ends up in torch's hub cache under its published name, once its SHA-256 was
checked. A download is written to a hidden file beside its target, from which a later download
resumes, and which is renamed when it is complete. Processes that fetch the same file take turns.
Proxies come from the environment (``https_proxy``, ``no_proxy``), and ``IQA_OFFLINE=1`` forbids
downloads.
"""

import contextlib
import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock

from iqa_metrics.io.atomic import written_at_once
from iqa_metrics.weights.files import (
    AnotherFileError,
    MissingWeightsError,
    WeightsError,
    WeightsFile,
)

OFFLINE_VARIABLE = "IQA_OFFLINE"
Progress = Callable[[int, int | None], None]
"""Called with the number of bytes here and their total, or None if the server does not state it."""

_BLOCK = 1 << 18
_ATTEMPTS = 4


class _NeverLessSecure(urllib.request.HTTPRedirectHandler):
    """Refuses redirections from https to anything else."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """Refuse an unencrypted redirection, and leave others to the standard library."""
        if req.type == "https" and not newurl.lower().startswith("https:"):
            raise _Refused(f"the server redirects to {newurl}, which is not encrypted")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Refused(Exception):  # noqa: N818 - becomes a WeightsError
    """A failure that another attempt will not change."""


def fetch(
    weights: WeightsFile,
    *,
    progress: Progress | None = None,
    timeout: float = 30.0,
    pause: float = 0.5,
) -> Path:
    """Download a weights file and return its path in torch's hub cache or the user's folder.

    A file that is already here is checked and kept. An interrupted download is resumed, up to three
    times in this call and again in later ones.

    Parameters
    ----------
    weights
        The file.
    progress
        Called with the progress of the download.
    timeout
        Longest time to wait for data from the server, in seconds.
    pause
        Seconds before the second attempt, doubled before each further one.

    Raises
    ------
    WeightsError
        If the file has no URL, the download fails or is forbidden, or the SHA-256 differs.
    """
    if weights.find() is not None:
        return weights.verified()
    if weights.url is None:
        raise MissingWeightsError(weights.how_to_get())
    if is_offline():
        raise WeightsError(
            f"{weights.filename} is not on this machine and {OFFLINE_VARIABLE} forbids fetching "
            f"it: unset the variable, or download {weights.url} elsewhere and run "
            f"'iqa weights add {weights.filename} FILE'"
        )
    target = weights.home
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(_hidden(target, "lock")):
            if weights.find() is not None:  # another process was faster
                return weights.verified()
            _download(weights, target, progress, timeout, pause)
    except (_Refused, OSError, ValueError) as error:
        raise WeightsError(
            f"{weights.filename} could not be fetched from {weights.url}: {error}"
        ) from error
    return target


def add(weights: WeightsFile, file: Path) -> Path:
    """Copy a file that was downloaded elsewhere to where it is found, and return the copy's path.

    Raises
    ------
    WeightsError
        If it is not the published file, or can't be copied.
    """
    if not file.is_file():
        there = "it is a folder" if file.is_dir() else "there is no such file"
        raise MissingWeightsError(f"{file}: expected the file {weights.filename}, but {there}")
    weights.check(file)
    target = weights.home
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with file.open("rb") as given, written_at_once(target) as copy:
            shutil.copyfileobj(given, copy)
    except OSError as error:
        raise WeightsError(f"{file} could not be copied to {target}: {error.strerror}") from error
    return target


def is_offline() -> bool:
    """Return whether the environment forbids downloads."""
    return os.environ.get(OFFLINE_VARIABLE, "").strip().lower() not in ("", "0", "false", "no")


def _hidden(target: Path, what: str) -> Path:
    return target.with_name(f".{target.name}.{what}")


def _download(
    weights: WeightsFile, target: Path, progress: Progress | None, timeout: float, pause: float
) -> None:
    part, tag = _hidden(target, "part"), _hidden(target, "tag")
    whole_again = True
    if part.exists() and (weights.sha256 or weights.recorded_sha256()):
        # The file may be complete: a process can end just before the last step.
        with contextlib.suppress(AnotherFileError):
            weights.check(part)
            part.replace(target)
            return
    while True:
        went_on = _complete(str(weights.url), part, tag, progress, timeout, pause)
        try:
            weights.check(part)
        except AnotherFileError as error:
            part.unlink(missing_ok=True)
            tag.unlink(missing_ok=True)
            if went_on and whole_again:  # the resumed beginning may be another file's
                whole_again = False
                continue
            said = str(error).split(": ", 1)[1].split(";")[0]
            raise _Refused(f"the download is damaged or another file: {said}") from None
        part.replace(target)
        tag.unlink(missing_ok=True)
        return


def _complete(
    url: str, part: Path, tag: Path, progress: Progress | None, timeout: float, pause: float
) -> bool:
    """Download until the file is complete, and return whether an earlier download was resumed."""
    went_on = False
    for attempt in range(1, _ATTEMPTS + 1):
        before = part.stat().st_size if part.exists() else 0
        try:
            went_on |= _request(url, part, tag, progress, timeout)
            return went_on
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416:  # the part here is longer than the server's file
                part.unlink(missing_ok=True)
            elif error.code < 500 and error.code not in (408, 429):
                raise _Refused(f"the server answered {error.code} {error.reason}") from None
            complaint: Exception = error
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            complaint = error
        except http.client.HTTPException as error:
            complaint = error
        if attempt == _ATTEMPTS:
            break
        arrived = part.stat().st_size if part.exists() else 0
        time.sleep(0 if arrived > before else pause * 2 ** (attempt - 1))
    here = part.stat().st_size if part.exists() else 0
    kept = f"; {here} bytes are kept, and the same command resumes from there" if here else ""
    reason = getattr(complaint, "reason", None) or complaint
    raise _Refused(f"{reason}, after {_ATTEMPTS} attempts{kept}")


def _request(url: str, part: Path, tag: Path, progress: Progress | None, timeout: float) -> bool:
    """Make one request, and return whether it resumed an earlier download."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise _Refused("expected a URL that begins with http:// or https://")
    headers = {"User-Agent": "iqa-metrics", "Accept-Encoding": "identity"}
    here = part.stat().st_size if part.exists() else 0
    if here:
        headers["Range"] = f"bytes={here}-"
        if tag.exists():  # otherwise the server could send the end of a newer file
            headers["If-Range"] = tag.read_text(encoding="latin-1")
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - the scheme was checked
    # A new opener: the shared one keeps the proxies of the time when it was made.
    with urllib.request.build_opener(_NeverLessSecure).open(request, timeout=timeout) as answer:
        goes_on = here > 0 and answer.status == 206
        if goes_on and not answer.headers.get("Content-Range", "").startswith(f"bytes {here}-"):
            part.unlink()
            raise ConnectionError("the server resumed at another position than requested")
        here = here if goes_on else 0
        length = answer.headers.get("Content-Length")
        total = None if length is None else here + int(length)
        free = shutil.disk_usage(part.parent).free
        if total is not None and total - here > free:
            raise _Refused(f"it needs {total - here} bytes, but {part.parent} has only {free} free")
        validator = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
        if validator and not validator.startswith("W/"):
            tag.write_text(validator, encoding="latin-1")
        elif not goes_on:
            tag.unlink(missing_ok=True)
        with _writable(part, append=goes_on) as write:
            while block := answer.read(_BLOCK):
                write(block)
                here += len(block)
                if progress is not None:
                    progress(here, total)
    if total is not None and here < total:
        raise ConnectionError(f"the connection ended after {here} of {total} bytes")
    return goes_on


@contextlib.contextmanager
def _writable(path: Path, *, append: bool):  # type: ignore[no-untyped-def]
    """Yield a write function whose errors can be told from those of the connection."""

    def refuse(error: OSError) -> _Refused:
        return _Refused(f"{path.parent} can't be written to: {error.strerror}")

    try:
        file = path.open("ab" if append else "wb", buffering=0)
    except OSError as error:
        raise refuse(error) from error

    def write(block: bytes) -> None:
        view = memoryview(block)
        while view:
            try:
                view = view[file.write(view) :]
            except OSError as error:
                raise refuse(error) from error

    with file:
        yield write
