"""Measure, print a table and write JSON: nox -s bench, or python -m benchmarks."""

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import REPOSITORY, machine, report
from benchmarks.cases import CASES, GROUPS, ON_CUDA, Case
from benchmarks.processes import Options, run_case, ways
from benchmarks.rows import Finding, findings

RESULT = REPOSITORY / "benchmarks" / "results" / "latest.json"


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run with meaningless figures")
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=GROUPS, help="groups of cases")
    parser.add_argument("--case", default="", help="only cases whose names contain this")
    parser.add_argument("--repeats", type=int, default=3, help="most processes per case (3)")
    parser.add_argument("--rounds", type=int, default=1000, help="most timed rounds per process")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path, default=RESULT, help="the JSON file to write")
    parser.add_argument("--missing", nargs=2, action="append", default=[], help=argparse.SUPPRESS)
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    """Run the selected cases; return 1 if one of them failed to run."""
    asked = arguments(given)
    options = Options(
        asked.quick,
        1 if asked.quick else asked.repeats,
        1 if asked.quick else asked.rounds,
        asked.threads,
        asked.device,
    )
    facts = machine.facts(options.threads)
    missing = [
        Finding(f"peer {name}", notes=[f"not installed: {why}"]) for name, why in asked.missing
    ]
    chosen, left_out = chosen_cases(asked, options)
    rows: list[Finding] = []
    raw: dict[str, Any] = {}
    start = time.perf_counter()
    # Compiled code is kept only for this run, so that each run reports the time of compiling.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache:
        for case in chosen:
            say(f"{time.perf_counter() - start:5.0f} s  {case.name}")
            results = run_case(case, options, Path(cache))
            raw[case.name] = results
            rows += bounded(findings(case, results), options, facts)
    rows += missing
    facts["seconds"] = round(time.perf_counter() - start)
    failed = [name for name, results in raw.items() if any("error" in r for r in results)]
    print(heading(facts, options))
    print(report.table(rows))
    print(report.tally(rows))
    if left_out:
        print(f"left out: {'; '.join(left_out)}")
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    whole = {
        "machine": facts,
        "options": dataclasses.asdict(options),
        "rows": report.as_json(rows),
        "missing_peers": dict(asked.missing),
        "left_out": left_out,
        "results": raw,
    }
    asked.out.write_text(json.dumps(whole, indent=1))
    say(f"written to {asked.out}")
    return 1 if failed else 0


def chosen_cases(asked: argparse.Namespace, options: Options) -> tuple[list[Case], list[str]]:
    """Return the cases to run, and the selected ones that are left out, with the reason."""
    wanted = [c for c in CASES if c.group in asked.only and asked.case in c.name]
    chosen, left_out = [], []
    for case in wanted:
        if options.device == "cuda" and case.group not in ON_CUDA:
            left_out.append(f"{case.name} (not on a GPU)")
        elif options.quick and not case.quick:
            left_out.append(f"{case.name} (smoke run)")
        else:
            chosen.append(case)
            names = ways(case, options)
            skipped = {row.ours for row in case.rows} - set(names)
            left_out += [f"{case.name}: {name} (smoke run)" for name in sorted(skipped)]
    return chosen, left_out


def bounded(rows: list[Finding], options: Options, facts: dict[str, Any]) -> list[Finding]:
    """Remove bounds that do not apply to this machine: other devices, no bfloat16."""
    for row in rows:
        if options.device != "cpu":
            row.at_most = row.at_least = None
        elif ": bfloat16" in row.case and not machine.has_low_precision(facts):
            row.at_most = None
            row.notes.append("this CPU does not multiply in bfloat16")
    return rows


def heading(facts: dict[str, Any], options: Options) -> str:
    """Return a description of what the table was measured on."""
    parts = [
        f"{facts['processor']}, {options.threads} threads of {facts['cores']} cores",
        f"features {' '.join(facts['features']) or 'unknown'}",
        f"torch {facts['packages']['torch']}, Python {facts['python']}",
        f"{facts['date']}, {facts['seconds']} s",
    ]
    smoke = "SMOKE RUN, small images, one round: meaningless ratios. " if options.quick else ""
    return smoke + "; ".join(parts)


def say(text: str) -> None:
    """Print the progress to standard error, apart from the table."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
