"""Open catalogues: built-in records, and those that other packages and users register."""

import re
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from iqa_metrics.entry_points import PLUGINS, PluginError, Provider, attributed, current
from iqa_metrics.names import UnknownNameError, unknown

T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", re.ASCII)
_lock = threading.Lock()
_replaced = 0


@dataclass(frozen=True)
class _Registered(Generic[T]):
    record: T
    provider: Provider


class Registry(Generic[T]):
    """A catalogue of built-in records to which others can be added.

    Built-in names are found without loading plug-ins. Plug-ins are loaded before any other name is
    looked up, and before records are listed.

    Parameters
    ----------
    kind
        What messages call a record, such as ``"metric"``.
    record
        The class of the records.
    built_in
        The built-in records.
    name
        Returns a record's name.
    check
        Raises PluginError if a record can't be used.
    reserved
        Names that can't be registered.
    aliases
        Returns a record's other names. They find the record too, and no record can take them.
    """

    def __init__(
        self,
        kind: str,
        record: type[T],
        built_in: Iterable[T],
        *,
        name: Callable[[T], str],
        check: Callable[[T], None],
        reserved: Iterable[str] = (),
        aliases: Callable[[T], Iterable[str]] = lambda _: (),
    ) -> None:
        self.kind = kind
        self._record = record
        self._built_in = {name(one): one for one in built_in}
        self._name = name
        self._check = check
        self._reserved = frozenset(reserved)
        self._aliases = aliases
        self._registered: dict[str, _Registered[T]] = {}

    def register(self, record: T, *, replace: bool = False) -> T:
        """Add a record, and return it. Adding the same object again is fine.

        Parameters
        ----------
        record
            The record.
        replace
            Replace a record that was registered under the same name.

        Raises
        ------
        PluginError
            If it is not such a record, if it can't be used, or if its name is invalid or taken.
        """
        if not isinstance(record, self._record):
            raise PluginError(
                f"{self.kind}: expected a {self._record.__name__}, got {_shown(record)}"
            )
        name = self._name(record)
        self._check_name(name)
        self._check(record)
        others = tuple(self._aliases(record))
        for alias in others:
            self._check_name(alias)
        loading = current()
        provider = Provider(_caller()) if loading is None else loading.provider
        with _lock:
            if self._built_in.get(name) is record:
                return record
            for wanted in (name, *others):
                self._check_free(wanted, name)
            before = self._registered.get(name)
            if before is not None and before.record is record:
                if before.provider.plugin or not provider.plugin:
                    return record
            elif before is not None and not replace:
                raise PluginError(
                    f"{self.kind} name {name!r} is taken: it was registered by "
                    f"{attributed(before.provider)}; choose another name, or pass replace=True"
                )
            self._put(name, _Registered(record, provider))
        if loading is not None:
            loading.undo.append(lambda: self._restore(name, before))
        return record

    def _check_name(self, name: object) -> None:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise PluginError(
                f"{self.kind} name: expected letters, digits, '_', '-' and '.', beginning with "
                f"one of the first three, since names are used in specs and file names; got "
                f"{name!r}"
            )

    def _check_free(self, wanted: str, name: str) -> None:
        """Raise PluginError if a name or alias of the record ``name`` is another record's."""
        if wanted in self._built_in or wanted in self._reserved:
            raise PluginError(f"{self.kind} name {wanted!r} is taken: it is built in")
        owner = self._by_alias().get(wanted)
        if owner is None and wanted != name and wanted in self._registered:
            raise PluginError(f"{self.kind} name {wanted!r} is taken: it is registered")
        if owner is not None and owner != name:
            raise PluginError(f"{self.kind} name {wanted!r} is taken: it is an alias of {owner!r}")

    def _by_alias(self) -> dict[str, str]:
        """Return the aliases, each with the name of its record."""
        registered = {name: one.record for name, one in list(self._registered.items())}
        return {
            alias: name
            for name, record in (*self._built_in.items(), *registered.items())
            for alias in self._aliases(record)
        }

    def all(self) -> tuple[T, ...]:
        """Return all records: the built-in ones, then the registered ones."""
        PLUGINS.load()
        return (*self._built_in.values(), *(one.record for one in list(self._registered.values())))

    def find(self, name: str) -> T | None:
        """Return the record of that name or alias, or None."""
        found = self._under(name)
        if found is None:
            PLUGINS.load()
            found = self._under(name)
        return found

    def _under(self, name: str) -> T | None:
        if name in self._built_in:
            return self._built_in[name]
        of_alias = self._by_alias().get(name)
        if of_alias in self._built_in:  # no plug-in can take the alias of a built-in record
            return self._built_in[of_alias]
        found = self._registered.get(name if of_alias is None else of_alias)
        return None if found is None else found.record

    def canonical(self, name: str) -> str | None:
        """Return the name of the record that has this name or alias, or None."""
        found = self.find(name)
        return None if found is None else self._name(found)

    def get(self, name: str) -> T:
        """Return the record of that name.

        Raises
        ------
        UnknownNameError
            If there is none. The message gives the nearest names, and the plug-ins that failed.
        """
        found = self.find(name)
        if found is None:
            raise self.unknown(name)
        return found

    def unknown(self, name: str, hint: str = "", others: Iterable[str] = ()) -> UnknownNameError:
        """Return the error for an unknown name.

        Parameters
        ----------
        name
            The name.
        hint
            A sentence to add to the message.
        others
            Further known names, to suggest.
        """
        records = self.all()
        known = [self._name(record) for record in records]
        known += [*(alias for record in records for alias in self._aliases(record)), *others]
        error = unknown(self.kind, name, known)
        failures = [str(failure) for failure in PLUGINS.failures]
        said = str(error)
        if hint:
            said += f"{'' if said.endswith('?') else '.'} {hint}"
        return UnknownNameError("; ".join([said, *failures]), error.code, error.suggestions)

    def provider(self, name: str) -> Provider | None:
        """Return who registered a name, or None if it is built in or unknown."""
        known = self.canonical(name)
        if known is None or known in self._built_in:
            return None
        return attributed(self._registered[known].provider)

    def _restore(self, name: str, before: _Registered[T] | None) -> None:
        with _lock:
            self._put(name, before)

    def _put(self, name: str, registered: _Registered[T] | None) -> None:
        global _replaced
        before = self._registered.pop(name, None)
        if registered is not None:
            self._registered[name] = registered
        if before is not None:
            _replaced += 1


def replaced() -> int:
    """Return how often records were replaced or removed, for caches of what was made by name."""
    return _replaced


def expect(fine: bool, what: str, expected: str, got: object) -> None:
    """Raise PluginError unless a check of a record holds.

    Parameters
    ----------
    fine
        Whether it holds.
    what
        The record and its attribute, such as ``"metric 'mine': range"``.
    expected
        What was expected.
    got
        What came instead.
    """
    if not fine:
        raise PluginError(f"{what}: expected {expected}, got {_shown(got)}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _caller() -> str:
    """Return the name of the module outside this package that called a function of it."""
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        name = str(frame.f_globals.get("__name__", ""))
        if name.partition(".")[0] != "iqa_metrics":
            return name
    return "unknown"
