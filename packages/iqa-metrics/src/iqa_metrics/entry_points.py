"""Plug-ins of other packages, found by their entry points and loaded when a look-up needs them.

A plug-in is an entry point of the group ``iqa_metrics.plugins``. It names a function without
arguments that registers what the package provides. If a plug-in fails, everything that it had
registered is removed again, and a :class:`PluginWarning` says why; other plug-ins are not affected.
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
    """A plug-in that can't be loaded. The message names it, its package and the cause."""


class PluginError(ValueError):
    """A record that can't be registered. The message says what was expected and what came."""

    code = "bad_plugin"


@dataclass(frozen=True)
class Provider:
    """Who registered a record.

    Attributes
    ----------
    module
        The module whose code registered it.
    plugin
        Name of the entry point; empty if the record was registered without one.
    distribution, version
        The installed package with the entry point, and its version; empty if there is none.
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
        """Return a SHA-256 of the Python files of the module's whole top-level package.

        It is empty for code without a file, such as what was typed into an interpreter.
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
    """A plug-in that is being loaded, and functions that undo what it has registered so far."""

    provider: Provider
    undo: list[Callable[[], None]] = field(default_factory=list)


_CURRENT: ContextVar[Loading | None] = ContextVar("_CURRENT", default=None)
_BUSY: ContextVar[bool] = ContextVar("_BUSY", default=False)


def current() -> Loading | None:
    """Return the plug-in that is being loaded in this context, or None."""
    return _CURRENT.get()


class Plugins:
    """The plug-ins of this environment. Each is loaded once."""

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
        """Load the plug-ins that are not loaded yet.

        Names that plug-ins look up while they are loaded are those registered until then.
        """
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
            # If a user imports a plug-in's module and that looks a name up, the module is not
            # complete yet: the plug-in is loaded by a later look-up.
            pending = [entry for entry in self._pending if not _imported_here(entry)]
        # Not while holding our lock: imports wait for Python's own locks, which could deadlock.
        loaded = [(entry, Loading(provider(entry)), *_function(entry)) for entry in pending]
        failed: list[Failure] = []
        with self._lock:
            for entry, loading, function, error in loaded:
                if entry not in self._pending:  # another thread was faster
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
    """Return the provider of what an entry point registers."""
    distribution = entry.dist
    return Provider(
        module=entry.module,
        plugin=entry.name,
        distribution=distribution.name if distribution else "",
        version=distribution.version if distribution else "",
    )


def attributed(one: Provider) -> Provider:
    """Return the plug-in whose package contains a module that registered a record when imported."""
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
    """Return whether this thread is importing the package of an entry point right now."""
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
