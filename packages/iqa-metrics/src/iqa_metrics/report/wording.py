"""How numbers, names and counts are written on the page and in the figures."""

import math
from collections.abc import Sequence

NONE = "–"


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with a true minus sign, or a dash for a missing one."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{_rounded(value, digits):.{digits}f}".replace("-", "−")


def signed(value: float, digits: int = 3) -> str:
    """Return a number that is always written with its sign."""
    if not math.isfinite(value):
        return NONE
    return f"{_rounded(value, digits):+.{digits}f}".replace("-", "−")


def interval(low: float, high: float, *, sign: bool = False) -> str:
    """Return an interval as "0.81 to 0.90", or a dash if it is unknown."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return NONE
    write = signed if sign else number
    return f"{write(low)} to {write(high)}"


def bracketed(low: float, high: float, *, sign: bool = False) -> str:
    """Return an interval in brackets to follow its value, or nothing if it is unknown."""
    words = interval(low, high, sign=sign)
    return "" if words == NONE else f" (interval {words})"


def p_value(value: float) -> str:
    """Return a p-value, which is never written as 0."""
    if not math.isfinite(value):
        return NONE
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def counted(count: int, singular: str, plural: str = "") -> str:
    """Return "1 pair", "1,200 pairs"."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def listed(parts: Sequence[str], last: str = "and") -> str:
    """Return "a, b and c"."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} {last} {parts[-1]}"


def capital(text: str) -> str:
    """Return a text with a capital first letter and the other letters unchanged."""
    return text[:1].upper() + text[1:]


def _rounded(value: float, digits: int) -> float:
    return round(value, digits) + 0.0  # no "-0"
