"""Pairs per second of the endpoint with eight clients, compared with the library in a process."""

import json
import statistics
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.rows import Finding
from benchmarks.serve import in_process
from benchmarks.serve.pictures import SIZE, pairs
from benchmarks.serve.sides import Side
from iqa_torchserve.client import Client
from iqa_torchserve.logs import last_lines, log_file
from iqa_torchserve.server import RunningServer

CLIENTS = 8
AT_LEAST = 0.85
DEVIATION = 1e-6
PAIRS, QUICK_PAIRS = 32, 8
ROUNDS = 6
_LOOP, _BATCHES = "score() in a loop", f"the worker's scorer, batches of {in_process.BATCH}"


def measure(server: RunningServer, built: Path, *, seconds: float, quick: bool) -> dict[str, Any]:
    """Let the endpoint and the process take turns, and return the rates of each round."""
    count, rounds = (QUICK_PAIRS, 1) if quick else (PAIRS, ROUNDS)
    part = seconds / (3 * rounds)
    at = server.inference_url, server.token()
    with Side() as ours, Side() as clients:
        facts = ours.call(in_process.prepared, built, count)
        clients.call(endpoint_rate, *at, count, 0.0)  # connections, and the worker's first passes
        found: dict[str, Any] = {"endpoint": [], _LOOP: [], _BATCHES: [], "requests": 0}
        values: dict[int, float] = {}
        for _ in range(rounds):
            of_round = clients.call(endpoint_rate, *at, count, part)
            found["endpoint"].append(of_round["rate"])
            found["requests"] += of_round["requests"]
            values |= of_round["values"]
            found[_LOOP].append(ours.call(in_process.loop_rate, count, part))
            found[_BATCHES].append(ours.call(in_process.batch_rate, built, count, part))
    expected = facts["values"]
    found["deviation"] = max(abs(v - expected[n]) / expected[n] for n, v in values.items())
    found["values"], found["threads"] = len(values), facts["threads"]
    found["mean_batch"] = _mean_batch(server, found["requests"])
    return found


def findings(found: dict[str, Any]) -> list[Finding]:
    """Return rows against both ways in a process; the one against the faster has the bound."""
    ways = sorted((_LOOP, _BATCHES), key=lambda way: -statistics.median(found[way]))
    rows = []
    for way in ways:
        ratios = [a / b for a, b in zip(found["endpoint"], found[way], strict=True)]
        name = f"throughput, default, {SIZE[0]}x{SIZE[1]}, {CLIENTS} clients"
        row = Finding(name, f"{statistics.median(found['endpoint']):,.1f} pairs/s")
        row.peer = f"{statistics.median(found[way]):,.1f} pairs/s ({way})"
        row.ratio, row.spread = statistics.median(ratios), (min(ratios), max(ratios))
        rows.append(row)
    bound, information = rows
    information.case += ": information"
    bound.at_least = AT_LEAST
    bound.deviation, bound.deviation_at_most = found["deviation"], DEVIATION
    bound.notes.append(f"{found['threads']} threads in the process")
    if len(found["endpoint"]) > 1:
        bound.notes.append(f"the spread is over {len(found['endpoint'])} rounds")
    if found["mean_batch"]:
        bound.notes.append(f"{found['mean_batch']:.1f} requests per batch")
    return rows


def endpoint_rate(url: str, token: str, count: int, seconds: float) -> dict[str, Any]:
    """Return the pairs per second of clients that send one pair after another, and the values.

    Replies come in bursts, since the worker answers in batches. The time counts from the last reply
    of the warm-up to the last reply before the clients stop, so that it neither begins nor ends in
    the middle of a burst, and a first or last batch that is not full does not count.
    """
    sent = pairs(count)
    ends: list[float] = []
    values: dict[int, float] = {}
    errors: list[Exception] = []
    stop = threading.Event()
    with Client(url, token) as client:

        def send(first: int) -> None:
            number = first
            while not stop.is_set():
                pair = sent[number % count]
                try:
                    values[number % count] = client.score(pair.reference, pair.distorted).value
                except Exception as error:
                    errors.append(error)
                    return
                ends.append(time.perf_counter())
                number += CLIENTS

        threads = [threading.Thread(target=send, args=(n,)) for n in range(CLIENTS)]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        warm = start + seconds / 8
        while time.perf_counter() < start + seconds or len(ends) < 4 * CLIENTS:
            if errors:
                break
            time.sleep(0.005)
        end = time.perf_counter()
        stop.set()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]
    counted = sorted(moment for moment in ends if moment < end)
    before = max(sum(moment < warm for moment in counted), CLIENTS)
    took = counted[-1] - counted[before - 1]
    return {"rate": (len(counted) - before) / took, "values": values, "requests": len(ends)}


def _mean_batch(server: RunningServer, requests: int) -> float | None:
    """Return the mean number of requests in the worker's batches, from its log."""
    lines = last_lines(log_file(server.state, "requests"), "requests", requests)
    logged = [line.get("batch") for line in _objects(lines)]
    batches = sum(1 / size for size in logged if size)
    return len(logged) / batches if batches else None


def _objects(lines: list[str]) -> list[dict[str, Any]]:
    found = []
    for line in lines:
        try:
            found.append(json.loads(line[line.index("{") :]))
        except ValueError:
            continue
    return found
