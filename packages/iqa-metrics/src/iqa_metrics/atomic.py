"""Files that are whole or not there."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


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
