"""Run cases in fresh processes, several times each."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import REPOSITORY
from benchmarks.cases import Case

LIMIT = 1200
"""Seconds after which a process counts as hung."""


@dataclass(frozen=True)
class Options:
    """The options of a run.

    Attributes
    ----------
    quick
        Small images, one process, one round: to check that everything works.
    repeats
        Most processes per case.
    rounds
        Most timed rounds per process.
    threads, device
        Number of threads, and the device.
    """

    quick: bool = False
    repeats: int = 3
    rounds: int = 1000
    threads: int = 2
    device: str = "cpu"


def run_case(case: Case, options: Options, cache: Path) -> list[dict[str, Any]]:
    """Run a case in its processes and return their results.

    Each result has ``side`` and, if the process failed, ``error`` with the end of its output.
    ``cache`` is the folder of compiled code: the first process compiles, later ones reuse it.
    """
    repeats = min(options.repeats, case.processes)
    results = []
    for number in range(repeats):
        for side in case.sides:
            job = {
                **{"kind": case.kind, "options": dict(case.options), "side": side},
                **{"ways": ways(case, options), "seconds": case.seconds, "first": number == 0},
                **{"quick": options.quick, "rounds": options.rounds},
                **{"threads": options.threads, "device": options.device},
            }
            results.append({"side": side, **_in_child(job, cache)})
    return results


def ways(case: Case, options: Options) -> list[str]:
    """Return our ways to measure; a smoke run compiles only for one network and batch 1."""
    names = list(dict.fromkeys(row.ours for row in case.rows))
    compiles = not options.quick or (
        case.options.get("count") == 1 and case.options.get("net", "alex") == "alex"
    )
    return [name for name in names if compiles or not name.endswith(" compiled")]


def _in_child(job: Mapping[str, Any], cache: Path) -> dict[str, Any]:
    threads = str(job["threads"])
    paths = [str(REPOSITORY), str(REPOSITORY / "tests"), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        # Without cached bytecode each start would compile all of torch.
        "PYTHONDONTWRITEBYTECODE": "",
        "TORCHINDUCTOR_CACHE_DIR": str(cache),
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
    }
    with tempfile.TemporaryDirectory() as folder:
        request, reply = Path(folder) / "job.json", Path(folder) / "result.json"
        request.write_text(json.dumps(job))
        command = [sys.executable, "-m", "benchmarks.child", str(request), str(reply)]
        try:
            done = subprocess.run(
                command, cwd=REPOSITORY, env=environment, capture_output=True, timeout=LIMIT
            )
        except subprocess.TimeoutExpired:
            return {"error": f"no result after {LIMIT} s"}
        if done.returncode or not reply.is_file():
            said = done.stderr.decode(errors="replace").strip().splitlines()
            last = said[-1] if said else ""
            return {"error": f"exit status {done.returncode}: {last}", "said": said[-30:]}
        return json.loads(reply.read_text())
