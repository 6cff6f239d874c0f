"""A server's logs: their names, their last lines, and the requests in them."""

import json
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

from iqa_torchserve.state import LOGS

FILES = {
    "requests": "model_log.log",
    "worker": "model_log.log",
    "server": "ts_log.log",
    "access": "access_log.log",
    "console": "console.log",
}
_POLL_SECONDS = 0.3
_OF_WORKER = " MODEL_LOG - "


def log_file(state: Path, which: str) -> Path:
    """Return the path of a log. Raises ValueError if there is none of that name."""
    if which not in FILES:
        raise ValueError(f"log {which!r}: expected one of {', '.join(FILES)}")
    path = state / LOGS / FILES[which]
    if not path.is_file():
        raise ValueError(f"{path} does not exist: no server was started in {state}")
    return path


def last_lines(path: Path, which: str, count: int) -> list[str]:
    """Return the last lines of a log, or of the requests in it."""
    with path.open(errors="replace") as file:
        return list(deque(_chosen(file, which), maxlen=count))


def followed(path: Path, which: str) -> Iterator[str]:
    """Yield the lines that are written from now on, without end and across log rotations."""
    file = path.open(errors="replace")
    try:
        file.seek(0, 2)
        unfinished = ""
        while True:
            line = unfinished + file.readline()
            unfinished = ""
            if line.endswith("\n"):
                yield from _chosen([line], which)
                continue
            unfinished = line
            time.sleep(_POLL_SECONDS)
            try:
                replaced = path.stat().st_ino != os.fstat(file.fileno()).st_ino
            except FileNotFoundError:
                continue  # it is missing for a moment while it is replaced
            if replaced:
                file.close()
                file, unfinished = path.open(errors="replace"), ""
    finally:
        file.close()


def _chosen(lines: Iterable[str], which: str) -> Iterator[str]:
    for line in lines:
        text = line.rstrip("\n")
        if which != "requests":
            yield text
            continue
        said = text.partition(_OF_WORKER)[2]
        if said.startswith("{"):
            try:
                json.loads(said)
            except ValueError:
                continue
            yield said
