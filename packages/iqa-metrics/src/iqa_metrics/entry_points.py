"""Other packages' plug-ins: found by their entry points and loaded when a look-up needs them.

A plug-in is an entry point of the group ``iqa_metrics.plugins`` that names a function without
arguments; the function registers what the package has. One that fails is taken back whole, with a
:class:`PluginWarning`, and the others stay.
"""

import hashlib
import importlib.util
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

GROUP = "iqa_metrics.plugins"


class PluginWarning(UserWarning):
    """A plug-in that can't be loaded; the message names it, its distribution and the cause."""


class PluginError(ValueError):
    """Something that can't be registered; the message says what was expected and what came."""

    code = "bad_plugin"


@dataclass(frozen=True)
class Provider:
    """Who registered something.

    Attributes
    ----------
    module
        The module whose code registered it.
    plugin
        Name of the entry point, or empty where it was registered without one.
    distribution, version
        The installed package that has the entry point, or empty.
    """

    module: str
    plugin: str = ""
    distribution: str = ""
    version: str = ""

    def __str__(self) -> str:
        if not self.plugin:
            return f"module {self.module}"
        if not self.distribution:
            return f"plug-in {self.plugin!r}"
        return f"plug-in {self.plugin!r} of {self.distribution} {self.version}"

    def code_digest(self) -> str:
        """Return a SHA-256 of the Python files that it consists of, or an empty text.

        They are those of the module's whole top-level package. What was typed into an interpreter
        has no file.
        """
        top = _top(self.module)
        loaded = sys.modules.get(top)
        spec = loaded.__spec__ if loaded else importlib.util.find_spec(top)
        folders = [Path(folder) for folder in (spec and spec.submodule_search_locations) or ()]
        files = [(folder, file) for folder in folders for file in sorted(folder.rglob("*.py"))]
        alone = getattr(loaded, "__file__", None) or (spec and spec.origin)
        if not folders and alone and Path(alone).is_file():
            files = [(Path(alone).parent, Path(alone))]
        digest = hashlib.sha256()
        for folder, file in files:
            digest.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes())
        return digest.hexdigest() if files else ""


@dataclass(frozen=True)
class Failure:
    """A plug-in that could not be loaded.

    Attributes
    ----------
    provider
        The plug-in.
    error
        What it raised.
    """

    provider: Provider
    error: Exception

    def __str__(self) -> str:
        return f"{self.provider} can't be loaded: {type(self.error).__name__}: {self.error}"


@dataclass
class Loading:
    """A plug-in that is being loaded, and what takes back what it has registered so far."""

    provider: Provider
    undo: list[Callable[[], None]] = field(default_factory=list)


_CURRENT: ContextVar[Loading | None] = ContextVar("_CURRENT", default=None)
_BUSY: ContextVar[bool] = ContextVar("_BUSY", default=False)


def current() -> Loading | None:
    """Return the plug-in whose code runs because it is being loaded, or None."""
    return _CURRENT.get()


class Plugins:
    """The plug-ins of this environment, each loaded once."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._pending: list[EntryPoint] | None = None
        self._finished = False
        self._failures: list[Failure] = []

    @property
    def failures(self) -> tuple[Failure, ...]:
        """The plug-ins that could not be loaded so far."""
        return tuple(self._failures)

    def load(self) -> None:
        """Load what is not loaded yet. What plug-ins look up on the way sees what is there."""
        if self._finished or _BUSY.get():
            return
        token = _BUSY.set(True)
        try:
            failed = self._load()
        finally:
            _BUSY.reset(token)
        for failure in failed:
            warnings.warn(str(failure), PluginWarning, stacklevel=2)

    def _load(self) -> list[Failure]:
        with self._lock:
            if self._pending is None:
                self._pending = found()
            # A look-up in a plug-in's own module, while a user imports that: it comes next time.
            pending = [entry for entry in self._pending if not _imported_here(entry)]
        # Imports wait for one another by Python's own locks, which must not meet ours.
        loaded = [(entry, Loading(provider(entry)), *_function(entry)) for entry in pending]
        failed: list[Failure] = []
        with self._lock:
            for entry, loading, function, error in loaded:
                if entry not in self._pending:  # another thread was quicker
                    continue
                self._pending.remove(entry)
                if function is not None:
                    error = _run(function, loading)
                if error is not None:
                    failed.append(Failure(loading.provider, error))
            self._finished = not self._pending
            self._failures += failed
        return failed


def found() -> list[EntryPoint]:
    """Return the entry points of the group, in the order in which they are loaded."""
    return sorted(
        entry_points(group=GROUP),
        key=lambda entry: (entry.dist.name if entry.dist else "", entry.name),
    )


def provider(entry: EntryPoint) -> Provider:
    """Return who an entry point stands for."""
    distribution = entry.dist
    return Provider(
        module=entry.module,
        plugin=entry.name,
        distribution=distribution.name if distribution else "",
        version=distribution.version if distribution else "",
    )


def attributed(one: Provider) -> Provider:
    """Return the plug-in whose package holds a module that registered something by itself."""
    if one.plugin:
        return one
    for entry in found():
        if _top(entry.module) == _top(one.module):
            return provider(entry)
    return one


@contextmanager
def _as_current(loading: Loading) -> Iterator[None]:
    token = _CURRENT.set(loading)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def _function(entry: EntryPoint) -> tuple[Callable[[], object] | None, Exception | None]:
    """Import a plug-in; return its function, or why there is none."""
    loading = Loading(provider(entry))
    try:
        with _as_current(loading):
            function = entry.load()
        if not callable(function):
            raise PluginError(
                f"expected the entry point to name a function without arguments, got {function!r}"
            )
    except Exception as error:
        _take_back(loading)
        return None, error
    return function, None


def _run(function: Callable[[], object], loading: Loading) -> Exception | None:
    try:
        with _as_current(loading):
            function()
    except Exception as error:
        _take_back(loading)
        return error
    return None


def _take_back(loading: Loading) -> None:
    for undo in reversed(loading.undo):
        undo()


def _imported_here(entry: EntryPoint) -> bool:
    """Say whether this thread is in the middle of importing an entry point's package."""
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_name == "<module>" and _top(
            str(frame.f_globals.get("__name__"))
        ) == _top(entry.module):
            return True
    return False


def _top(module: str) -> str:
    return module.partition(".")[0]


PLUGINS = Plugins()
