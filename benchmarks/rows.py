"""Rows of the table, made from what the processes measured."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.cases import Case, Row

Results = Sequence[Mapping[str, Any]]


@dataclass
class Finding:
    """A row: our figure, the peer's, and whether the bounds are met.

    Attributes
    ----------
    case
        The row's label.
    ours, peer
        The two figures as text.
    ratio
        The ratio that is compared with the bounds; None if there was nothing to compare with.
    spread
        Smallest and largest ratio among the processes, or None.
    at_most, at_least, deviation_at_most, stretch
        The bounds, or None.
    over_floor
        Our time divided by that of the bare network, or None.
    deviation
        Largest relative deviation of a value from the peer's, or None.
    notes
        Other notes.
    """

    case: str
    ours: str = ""
    peer: str = ""
    ratio: float | None = None
    spread: tuple[float, float] | None = None
    at_most: float | None = None
    at_least: float | None = None
    over_floor: float | None = None
    deviation: float | None = None
    deviation_at_most: float | None = None
    stretch: float | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def met(self) -> bool | None:
        """Whether the ratio meets its bound; None if there is none, or nothing was measured."""
        if self.ratio is None or (self.at_most is None and self.at_least is None):
            return None
        above = self.at_least is None or self.ratio >= self.at_least
        return above and (self.at_most is None or self.ratio <= self.at_most)

    @property
    def values_met(self) -> bool | None:
        """Whether the values are as close to the peer's as required."""
        if self.deviation is None or self.deviation_at_most is None:
            return None
        return self.deviation <= self.deviation_at_most


def findings(case: Case, results: Results) -> list[Finding]:
    """Return a case's rows, including failures."""
    failed = [r for r in results if "error" in r]
    if failed:
        notes = [f"{r['side']}: {r['error']}" for r in failed]
        return [Finding(case.name, notes=["FAILED", *dict.fromkeys(notes)])]
    return _BY_KIND.get(case.kind, contest_rows)(case, results)


def contest_rows(case: Case, results: Results) -> list[Finding]:
    """Return the rows of the contenders, then those of peers for information."""
    found = [
        _contest_row(case, row, results) for row in case.rows if row.ours in results[0]["ours"]
    ]
    fastest = _fastest(results, list(results[0]["peers"]))
    for name in results[0]["information"]:
        ratios = _ratios(results, ("information", name), ("peers", fastest)) if fastest else []
        found.append(
            _compared(
                Finding(f"{case.name}: information, {name}"),
                _median(results, "information", name),
                _median(results, "peers", fastest) if fastest else None,
                fastest,
                ratios,
            )
        )
    absent = {name: why for result in results for name, why in result["absent"].items()}
    found += [
        Finding(f"{case.name}: {n}", notes=[f"not available: {why}"]) for n, why in absent.items()
    ]
    return found


def _contest_row(case: Case, row: Row, results: Results) -> Finding:
    over = f", over {' and '.join(row.against)}" if row.against else ""
    finding = Finding(
        f"{case.name}: {row.ours}{over}",
        at_most=row.at_most,
        deviation_at_most=row.deviation_at_most,
        stretch=row.stretch,
    )
    names = row.against or tuple(results[0]["peers"])
    fastest = _fastest(results, names)
    ours = _median(results, "ours", row.ours)
    if fastest is None:
        finding.ours, finding.peer = f"{ours:,.2f} ms", "no peer available"
    else:
        ratios = _ratios(results, ("ours", row.ours), ("peers", fastest))
        _compared(finding, ours, _median(results, "peers", fastest), fastest, ratios)
        finding.deviation = max(r["deviations"][row.ours][fastest] for r in results)
    if results[0]["floor"]:
        floors = [r["ours"][row.ours]["ms"] / r["floor"]["ms"] for r in results]
        finding.over_floor = statistics.median(floors)
    if row.stretch is not None:
        finding.notes.append(f"stretch {row.stretch:.2f}")
    seconds = [r["warm_ups"].get(row.ours, 0.0) for r in results]
    if any(seconds):
        finding.notes.append(f"compiled in {max(seconds):.0f} s")
    exact = results[0].get("from_float64") or {}
    if row.ours in exact and fastest in exact:
        ours_off, theirs_off = exact[row.ours], exact[fastest]
        finding.notes.append(
            f"distance from float64: ours {ours_off:.1e}, {fastest} {theirs_off:.1e}"
        )
    finding.notes += dict.fromkeys(note for r in results for note in r["notes"])
    if case.processes == 1:
        finding.notes.append("one process")
    return finding


def _compared(
    finding: Finding, ours: float, theirs: float | None, name: str | None, ratios: list[float]
) -> Finding:
    finding.ours = f"{ours:,.2f} ms"
    if theirs is not None:
        finding.peer = f"{theirs:,.2f} ms ({name})"
        finding.ratio = statistics.median(ratios)
        finding.spread = min(ratios), max(ratios)
    return finding


def _ratios(results: Results, ours: tuple[str, str], theirs: tuple[str, str]) -> list[float]:
    """Return the ratio of medians in each process that has both."""
    (a, name), (b, other) = ours, theirs
    return [r[a][name]["ms"] / r[b][other]["ms"] for r in results if name in r[a] and other in r[b]]


def _median(results: Results, role: str, name: str) -> float:
    return statistics.median(r[role][name]["ms"] for r in results if name in r[role])


def _fastest(results: Results, names: Sequence[str]) -> str | None:
    here = [name for name in names if all(name in r["peers"] for r in results)]
    return min(here, key=lambda name: _median(results, "peers", name), default=None)


def memory_rows(case: Case, results: Results) -> list[Finding]:
    """Return one row: our memory, divided by the peer's if there is one."""
    (row,) = case.rows
    mib = {
        side: statistics.median(r["above_mib"] for r in results if r["side"] == side)
        for side in case.sides
        if any("above_mib" in r for r in results if r["side"] == side)
    }
    others = [side for side in mib if not side.startswith("ours")]
    finding = Finding(case.name, f"{mib['ours']:,.0f} MiB", at_most=row.at_most)
    finding.peer = ", ".join(f"{mib[side]:,.0f} MiB ({side})" for side in others)
    if row.against:
        finding.ratio = mib["ours"] / mib[others[0]] if others else None
    else:
        finding.ratio = mib["ours"]
    total = results[0].get("sum_of_layers_mib")
    if total:
        finding.notes.append(f"sum of all layers: {total:,.0f} MiB")
    finding.notes += [f"{s}: {mib[s]:,.0f} MiB" for s in mib if s.startswith("ours,")]
    for result in results:
        finding.notes += [
            f"{n} not available: {why}" for n, why in result.get("absent", {}).items()
        ]
        if result.get("peak_was_reset") is False:
            finding.notes.append("the peak may be an earlier one")
    finding.notes = list(dict.fromkeys(finding.notes))
    return [finding]


def training_rows(case: Case, results: Results) -> list[Finding]:
    """Return one row per quantity, and one per quantity of compiled steps."""
    found = []
    absent = {name: why for r in results for name, why in r.get("absent", {}).items()}
    for row in case.rows:
        quantity, *compiled = row.ours.split(", ")
        finding = Finding(f"{case.name}: {row.ours}", at_most=row.at_most)
        key = {"kept memory": "kept_mib", "peak memory": "peak_mib"}.get(quantity)
        unit = "ms" if key is None else "MiB"
        figures: dict[str, list[float]] = {"ours": [], "lpips": []}
        for result in results:
            for name, of_side in figures.items():
                side = " ".join([name if key else "time", *compiled])
                if result["side"] == side and (key or "ms") in result:
                    of_side.append(result[key] if key else result["ms"][name])
        for name, of_side in figures.items():
            text = f"{statistics.median(of_side):,.0f} {unit}" if of_side else ""
            if name == "ours":
                finding.ours = text
            else:
                finding.peer = text and f"{text} (lpips)"
        if all(figures.values()):
            ratios = [a / b for a, b in zip(*figures.values(), strict=True)]
            finding.ratio = statistics.median(ratios)
            finding.spread = min(ratios), max(ratios)
        finding.notes += [f"{name} not available: {why}" for name, why in absent.items()]
        found.append(finding)
    return found


def table_rows(case: Case, results: Results) -> list[Finding]:
    """Return the busy share and the growth of memory."""
    busy, growth = case.rows
    share = statistics.median(r["busy"] for r in results)
    grown = statistics.median(r["growth"] for r in results)
    first = results[0]
    return [
        Finding(
            f"{case.name}: {busy.ours}",
            f"{100 * share:.1f} % of the time",
            ratio=share,
            at_least=busy.at_least,
            notes=[
                f"{first['pairs_a_second']:.1f} pairs/s, {first['seconds']:.0f} s",
                f"{first['seconds_before']:.1f} s until the first pass",
            ],
        ),
        Finding(
            f"{case.name}: {growth.ours}",
            f"total peak {first['peak_mib']:,.0f} MiB",
            ratio=grown,
            at_most=growth.at_most,
            notes=["last quarter divided by the second"],
        ),
    ]


def import_rows(case: Case, results: Results) -> list[Finding]:
    """Return one row per statement, compared with importing torch and torchvision."""
    (first, *_) = results
    *_, base = first["ms"]
    found = []
    for row in case.rows:
        ratios = first["ratios"][row.ours]
        finding = _compared(
            Finding(row.ours, at_most=row.at_most),
            first["ms"][row.ours],
            first["ms"][base],
            base,
            ratios,
        )
        finding.notes.append("the spread is over rounds")
        found.append(finding)
    return found


def opinion_rows(case: Case, results: Results) -> list[Finding]:
    """Return one row per metric: how much SROCC changes."""
    (row,) = case.rows
    (first, *_) = results
    if "absent" in first:
        return [Finding(case.name, notes=list(first["absent"].values()))]
    found = []
    for name, of in first["metrics"].items():
        if "absent" in of:
            found.append(Finding(f"{case.name}: {name}", notes=[of["absent"]]))
            continue
        found.append(
            Finding(
                f"{case.name}: {name}",
                f"SROCC {of['srocc_bfloat16']:.4f} (bfloat16)",
                f"{of['srocc_float32']:.4f} (float32)",
                ratio=of["difference"],
                at_most=row.at_most,
                deviation=of["deviation"],
                notes=["difference of SROCC; eager"],
            )
        )
    return found


def study_rows(case: Case, results: Results) -> list[Finding]:
    """Return time and memory of a study's statistics, and parts of them compared with scipy."""
    whole, memory, concatenated, *parts = case.rows
    (first, *_) = results
    seconds, mib = first["seconds"], first["peak_mib"]
    found = [
        Finding(whole.ours, f"{seconds:,.0f} s", ratio=seconds, at_most=whole.at_most),
        Finding(f"{whole.ours}: {memory.ours}", f"{mib:,.0f} MiB", ratio=mib),
    ]
    found[1].at_most = memory.at_most
    with_all = first["concatenations"]
    mib = with_all["peak_mib"]
    name = f"{whole.ours}: {concatenated.ours}"
    found.append(Finding(name, f"{mib:,.0f} MiB", ratio=mib, at_most=concatenated.at_most))
    found[2].notes.append(f"{with_all['series']:,} series; an upper bound, without fits")
    if first["networks"] != case.options["networks"]:
        found[0].notes.append(f"only {first['networks']} networks")
    for row, key in zip(parts, ("intervals", "weights"), strict=True):
        ours, scipy = first[key]["ours"], first[key]["scipy"]
        found.append(Finding(row.ours, f"{1000 * ours:,.1f} ms", f"{1000 * scipy:,.1f} ms (scipy)"))
        found[-1].ratio = ours / scipy
    return found


_BY_KIND: Mapping[str, Callable[[Case, Results], list[Finding]]] = {
    "memory": memory_rows,
    "table": table_rows,
    "imports": import_rows,
    "opinions": opinion_rows,
    "study": study_rows,
    "training": training_rows,
}
