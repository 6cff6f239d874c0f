"""Look a name up in a catalogue, and say which names come near when it is not there."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


class UnknownNameError(ValueError):
    """A name that no catalogue holds, or a metric spec that does not parse."""

    code = "unknown_metric"


def lookup(kind: str, name: str, catalogue: Mapping[str, T]) -> T:
    """Return ``catalogue[name]``.

    Parameters
    ----------
    kind
        What the catalogue holds, as the message should call it, such as ``"backbone"``.
    name
        The name that was asked for.
    catalogue
        Names to entries.

    Raises
    ------
    UnknownNameError
        If the name is not there. The message gives the nearest names.
    """
    try:
        return catalogue[name]
    except KeyError:
        raise UnknownNameError(f"unknown {kind} {name!r}; {nearest(name, catalogue)}") from None


def nearest(name: str, names: Iterable[str]) -> str:
    """Return a clause naming up to three names like ``name``, or all names when none is like it."""
    known = list(names)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(repr(n) for n in close) + "?"
    return "known names: " + ", ".join(known)
