"""The serving benchmark runs, and the server answers all of its requests."""

import json
import signal
import subprocess
import sys

import pytest
from material import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.server]

ROWS = {
    "throughput, default, 512x384, 8 clients": "deviation",
    "added latency, default, 512x384, 1 client, raw body": None,
    "shared reference x 8, default, 512x384": "deviation",
    "soak: good requests": "met",
    "soak: bad requests": "met",
    "soak: memory growth, worker": "met",
}


def test_a_smoke_run_has_all_rows_and_right_replies(tmp_path):
    out = tmp_path / "serve.json"
    command = [sys.executable, "-m", "benchmarks.serve", "--quick", "--out", str(out)]
    process = subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        table, said = process.communicate(timeout=300)
    except BaseException:
        process.send_signal(signal.SIGTERM)  # killed, it would leave its servers running
        process.communicate(timeout=60)
        raise
    assert process.returncode == 0, table + said
    rows = {row["case"]: row for row in json.loads(out.read_text())["rows"]}
    for name, checked in ROWS.items():
        assert f"| {name} " in table
        assert rows[name]["ratio"] is not None
        # Times may be anything here; values and answers may not.
        if checked:
            assert rows[name]["met" if checked == "met" else "values_met"], rows[name]
