"""Files that are whole or not there."""

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_HIDDEN = re.compile(r"\..+\.[0-9a-f]{8}")


def is_unfinished(path: Path) -> bool:
    """Return whether a file's name is one that :func:`written_at_once` writes under.

    Where nobody is writing, such a file was left by a process that was killed.
    """
    return _HIDDEN.fullmatch(path.name) is not None


@contextmanager
def written_at_once(target: Path) -> Iterator[BinaryIO]:
    """Open a hidden file that takes the target's place at the end, or vanishes if that fails."""
    hidden = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    try:
        with hidden.open("xb") as file:
            yield file
        hidden.replace(target)
    finally:
        hidden.unlink(missing_ok=True)
