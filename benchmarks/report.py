"""The table as Markdown, and all results as JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.rows import Finding

COLUMNS = ("case", "ours", "peer", "ratio", "at most", "met?", "over floor", "deviation", "notes")


def table(findings: Sequence[Finding]) -> str:
    """Return all rows as one Markdown table with aligned columns."""
    lines = [COLUMNS, *(cells(finding) for finding in findings)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    rule = tuple("-" * width for width in widths)
    return "\n".join(
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |"
        for line in (lines[0], rule, *lines[1:])
    )


def cells(finding: Finding) -> tuple[str, ...]:
    """Return a row's cells as text."""
    f = finding
    spread = ""
    if f.spread is not None and f.spread[0] != f.spread[1]:
        spread = f" ({number(f.spread[0])}-{number(f.spread[1])})"
    bound = "" if f.at_most is None else number(f.at_most)
    if f.at_least is not None:
        bound = f"at least {number(f.at_least)}"
    deviation = "" if f.deviation is None else f"{f.deviation:.1e}"
    if f.values_met is False:
        deviation += f", over {f.deviation_at_most:.0e}"
    return (
        f.case,
        f.ours,
        f.peer,
        "" if f.ratio is None else number(f.ratio) + spread,
        bound,
        {True: "yes", False: "no", None: ""}[f.met],
        "" if f.over_floor is None else f"{f.over_floor:.2f}",
        deviation,
        "; ".join(f.notes).replace("|", "/"),
    )


def number(value: float) -> str:
    """Return a ratio with a sensible number of digits."""
    if value >= 10:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value >= 0.095 else f"{value:.4f}"


def tally(findings: Sequence[Finding]) -> str:
    """Return how many bounds are met."""
    bounds = [f.met for f in findings if f.met is not None]
    values = [f.values_met for f in findings if f.values_met is not None]
    return (
        f"{sum(bounds)} of {len(bounds)} bounds met; "
        f"{sum(values)} of {len(values)} rows within the allowed deviation"
    )


def as_json(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Return the rows as plain data."""
    return [asdict(f) | {"met": f.met, "values_met": f.values_met} for f in findings]
