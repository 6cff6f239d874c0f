"""Files that are written atomically: they are complete or absent."""

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_HIDDEN = re.compile(r"\..+\.[0-9a-f]{8}")


def is_unfinished(path: Path) -> bool:
    """Return whether a file has a temporary name of :func:`written_at_once`.

    Unless a process is writing it, such a file was left behind by one that was killed.
    """
    return _HIDDEN.fullmatch(path.name) is not None


@contextmanager
def written_at_once(target: Path) -> Iterator[BinaryIO]:
    """Open a hidden file that replaces the target at the end, or is removed if writing fails."""
    hidden = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    try:
        with hidden.open("xb") as file:
            yield file
        hidden.replace(target)
    finally:
        hidden.unlink(missing_ok=True)
