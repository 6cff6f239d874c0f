"""The latency that the server adds to one pair, compared with TorchServe's own no-op path."""

import json
import statistics
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.rows import Finding
from benchmarks.serve.in_process import scorer
from benchmarks.serve.pictures import SIZE, pairs
from benchmarks.serve.servers import no_op_archive, serving
from benchmarks.serve.sides import Side
from benchmarks.timing import interleaved
from iqa_metrics import read_image
from iqa_torchserve.client import Client
from iqa_torchserve.container import pack
from iqa_torchserve.server import RunningServer

NO_OPS = 1.5
"""The added latency may be this many times that of the no-op path, plus decoding."""
WARM_UPS, ROUNDS = 30, 1000
BLOCKS = 5
_ENDPOINT, _PROCESS, _NO_OP, _DECODE = "endpoint", "in process", "no-op", "decode"


def measure(server: RunningServer, built: Path, *, seconds: float, quick: bool) -> dict[str, Any]:
    """Send a pair to both servers and score it in a process, in turns; return all times."""
    with tempfile.TemporaryDirectory() as folder, Side() as client:
        size = client.call(reply_bytes, server.inference_url, server.token())
        with serving(no_op_archive(Path(folder), size)) as no_op:
            addresses = [(s.inference_url, s.token()) for s in (server, no_op)]
            rounds = (2, 20) if quick else (WARM_UPS, ROUNDS)
            return client.call(times, addresses, built, rounds, seconds)


def findings(found: dict[str, Any]) -> list[Finding]:
    """Return one row: the added latency, divided by the allowed one."""
    of = found["times"]
    added, allowed, over_no_op = _compared(of)
    row = Finding(f"added latency, default, {SIZE[0]}x{SIZE[1]}, 1 client, raw body", at_most=1.0)
    row.ours = f"{1e3 * added:,.2f} ms"
    row.peer = f"{1e3 * allowed:,.2f} ms ({NO_OPS} x no-op + decode)"
    row.ratio = added / allowed
    count = len(of[_ENDPOINT])
    if count >= 10 * BLOCKS:
        ends = [round(at * count / BLOCKS) for at in range(BLOCKS + 1)]
        ratios = []
        for begin, end in pairwise(ends):
            block = _compared({name: taken[begin:end] for name, taken in of.items()})
            ratios.append(block[0] / block[1])
        row.spread = min(ratios), max(ratios)
        row.notes.append(f"the spread is over {BLOCKS} parts of the run")
    for name, taken in of.items():
        p50, p99 = 1e3 * statistics.median(taken), 1e3 * _percentile(taken, 0.99)
        row.notes.append(f"{name} {p50:,.2f} ms, p99 {p99:,.2f}")
    row.notes.append(f"added is {over_no_op:.2f} x no-op")
    row.notes.append(f"body {found['body_bytes'] // 1024} KiB, {count} rounds")
    return [row]


def reply_bytes(url: str, token: str) -> int:
    """Return the length of the reply to the pair."""
    with Client(url, token) as client:
        return len(json.dumps(client.ask(_body())))


def times(
    addresses: list[tuple[str, str]], built: Path, rounds: tuple[int, int], seconds: float
) -> dict[str, Any]:
    """Return the times of single requests and calls, which take turns."""
    (pair,) = pairs(1)
    body = _body()
    decoded = pair.reference, pair.distorted
    ours = scorer(built)
    warm_ups, counted = rounds
    with Client(*addresses[0]) as endpoint, Client(*addresses[1]) as no_op:
        contenders = {
            _ENDPOINT: lambda: endpoint.ask(body),
            _PROCESS: lambda: ours.answer([{"body": body}]),
            _NO_OP: lambda: no_op.ask(body),
            _DECODE: lambda: [read_image(image) for image in decoded],
        }
        interleaved(contenders, seconds=seconds, rounds=warm_ups)
        values, taken = interleaved(contenders, seconds=seconds, rounds=counted)
    if values[_ENDPOINT]["status"] != 200 or values[_PROCESS][0].status != 200:
        raise RuntimeError(f"not scored: {values[_ENDPOINT]}")
    lengths = {name: len(json.dumps(values[name])) for name in (_ENDPOINT, _NO_OP)}
    return {"times": taken, "body_bytes": len(body), "reply_bytes": lengths}


def _body() -> bytes:
    (pair,) = pairs(1)
    return pack([pair.reference, pair.distorted])


def _compared(times: dict[str, list[float]]) -> tuple[float, float, float]:
    p50 = {name: statistics.median(taken) for name, taken in times.items()}
    added = p50[_ENDPOINT] - p50[_PROCESS]
    return added, NO_OPS * p50[_NO_OP] + p50[_DECODE], added / p50[_NO_OP]


def _percentile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]
