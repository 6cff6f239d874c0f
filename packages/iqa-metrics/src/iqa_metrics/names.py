"""Look a name up in a catalogue, and say which names come near when it is not there."""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")

_SHOWN = 12


class UnknownNameError(ValueError):
    """A name that is not in the catalogue, or a metric spec that can't be parsed.

    Parameters
    ----------
    message
        What was expected, what came, and the nearest names.
    code
        The kind of the error.
    suggestions
        Known names like the unknown one, nearest first.

    Attributes
    ----------
    code
        ``unknown_metric``, ``unknown_backbone``, ``unknown_layer``, ``unknown_readout``,
        ``unknown_concatenation``, ``unknown_database``, ``unknown_factor`` and the like;
        ``bad_spec`` for a spec that can't be parsed; ``unknown_name`` for anything else.
    """

    def __init__(
        self, message: str, code: str = "unknown_name", suggestions: Iterable[str] = ()
    ) -> None:
        super().__init__(message)
        self.code = code
        self.suggestions = tuple(suggestions)

    def __reduce__(self) -> tuple[type["UnknownNameError"], tuple[object, ...]]:
        return type(self), (str(self), self.code, self.suggestions)


def lookup(kind: str, name: str, catalogue: Mapping[str, T], *, code: str | None = None) -> T:
    """Return ``catalogue[name]``.

    Parameters
    ----------
    kind
        What the message should call an entry, such as ``"backbone"``.
    name
        The name that was asked for.
    catalogue
        Names to entries.
    code
        Code of the error; by default ``unknown_`` and the kind, if that is one word.

    Raises
    ------
    UnknownNameError
        If the name is not there. The message gives the nearest names.
    """
    try:
        return catalogue[name]
    except KeyError:
        raise unknown(kind, name, catalogue, code=code) from None


def unknown(
    kind: str, name: str, names: Iterable[str], *, code: str | None = None
) -> UnknownNameError:
    """Return the error that :func:`lookup` raises for a name that is not among ``names``."""
    if code is None:
        code = f"unknown_{kind}" if re.fullmatch(r"[a-z]+", kind) else "unknown_name"
    known = list(dict.fromkeys(names))
    message = f"unknown {kind} {name!r}; {nearest(name, known)}"
    return UnknownNameError(message, code, suggestions(name, known))


def nearest(name: str, names: Iterable[str]) -> str:
    """Return a clause with up to three names like ``name``, or else with the first known names.

    Upper and lower case count as the same.
    """
    known = list(dict.fromkeys(names))
    found = suggestions(name, known)
    if found:
        return "did you mean " + " or ".join(repr(one) for one in found) + "?"
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    return f"known names: {', '.join(known[:_SHOWN])}{more}"


def suggestions(name: str, names: Iterable[str]) -> list[str]:
    """Return up to three names like ``name``, nearest first.

    A name that differs only in upper and lower case comes before one that differs in separators
    too, and that one before names that are spelt alike.
    """
    wanted = str(name)
    by_case: dict[str, list[str]] = {}
    for one in dict.fromkeys(names):
        by_case.setdefault(one.casefold(), []).append(one)
    close = list(by_case.get(wanted.casefold(), ()))
    close += [one for group in by_case.values() for one in group if same_letters(wanted, one)]
    alike = difflib.get_close_matches(wanted.casefold(), by_case, n=3, cutoff=0.5)
    close += [one for folded in alike for one in by_case[folded]]
    return list(dict.fromkeys(close))[:3]


def spelt(name: str, names: Iterable[str]) -> str | None:
    """Return the known name that ``name`` is in other letter case or with other separators."""
    alike = [one for one in names if same_letters(name, one)]
    in_case = [one for one in alike if one.casefold() == name.casefold()]
    return next(iter(in_case + alike), None)


def same_letters(one: str, other: str) -> bool:
    """Return whether two names differ in nothing but upper and lower case and separators."""
    return _bare(one) == _bare(other)


def _bare(name: str) -> str:
    """Return a name in lower case and without separators, or as it is if it has nothing else."""
    return re.sub(r"[-_. ]", "", name.casefold()) or name
