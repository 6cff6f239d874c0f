"""A soak test of 20,000 requests, 2 % of them bad: replies must be right, and memory constant."""

import itertools
import json
import math
import statistics
import sys
import threading
import time
from functools import lru_cache
from typing import Any

import numpy as np
import requests

from benchmarks.rows import Finding
from benchmarks.serve.sides import Side, advance
from benchmarks.serve.soak_requests import (
    TOLERANCE,
    Prepared,
    bad_requests,
    deviations,
    good_requests,
    wrong,
)
from iqa_torchserve.client import Client
from iqa_torchserve.container import CONTENT_TYPE
from iqa_torchserve.server import RunningServer

CLIENTS = 8
BAD = 0.02
POOL, QUICK_POOL = 200, 60
MOST_SECONDS = 1500
"""The soak ends after this time, and reports how many requests were answered."""
GROWTH = 1.10
_MIB = 2**20
_TRIES = 3
_TOLD = 20
"""Most wrong replies that are listed."""


def measure(server: RunningServer, *, count: int, quick: bool) -> dict[str, Any]:
    """Send the requests from another process while watching the server's memory."""
    import psutil

    (worker,) = server.workers()
    pid = int(worker["pid"])
    processes = psutil.Process(pid), psutil.Process(server.pid)
    samples: list[tuple[int, int, int]] = []
    with Side() as clients:
        clients.call(prepared, quick)
        clients.begin(send, server.inference_url, server.token(), count, quick)
        start = said = time.monotonic()
        while not clients.is_done(0.02 if quick else 0.2):
            try:
                memory = [process.memory_info().rss for process in processes]
            except psutil.Error:
                continue  # the worker was restarted, which is detected below
            samples.append((clients.progress, *memory))
            if (now := time.monotonic()) - said > 10:
                said = now
                tell(clients.progress, count, now - start, memory)
        found = clients.result()
    same = [int(worker["pid"]) for worker in server.workers()] == [pid]
    return {**found, "samples": samples, "same_worker": same}


def tell(done: int, count: int, seconds: float, memory: list[int]) -> None:
    """Print the progress of the soak to stderr."""
    text = f"      soak: {done:,} of {count:,}, {done / seconds:,.0f}/s, worker "
    print(f"{text}{memory[0] / _MIB:,.0f} MiB, Java {memory[1] / _MIB:,.0f}", file=sys.stderr)


def findings(found: dict[str, Any]) -> list[Finding]:
    """Return the rows of good requests, of bad requests, and of memory."""
    rows = []
    for kind in ("good", "bad"):
        right, asked = found[kind]["right"], found[kind]["asked"]
        what = "right" if kind == "good" else "refused with the expected code"
        row = Finding(f"soak: {kind} requests", f"{right:,} of {asked:,} {what}", at_least=1.0)
        row.ratio = right / asked
        rows.append(row)
    good, bad = rows
    seconds = found["seconds"]
    good.notes.append(f"{found['answered'] / seconds:,.1f} requests/s, {seconds:,.0f} s")
    p50, p99 = (1e3 * found["latency"][key] for key in ("p50", "p99"))
    good.notes.append(f"p50 {p50:,.1f} ms, p99 {p99:,.1f}, {CLIENTS} clients")
    good.deviation, good.deviation_at_most = found["deviation"], TOLERANCE
    if found["for_zero"]:
        good.notes.append(f"identical images: up to {found['for_zero']:.1e} instead of 0")
    if found["retried"]:
        good.notes.append(f"{found['retried']} repeated after a lost connection")
    bad.notes.append(f"{found['kinds']} kinds")
    good.notes += [text for text in found["wrong"] if text.startswith("good")][:3]
    bad.notes += [text for text in found["wrong"] if not text.startswith("good")][:3]
    if found["answered"] < found["count"]:
        good.notes.append(f"ended after {MOST_SECONDS} s")
    return [good, bad, *memory_rows(found)]


def memory_rows(found: dict[str, Any]) -> list[Finding]:
    """Return the memory growth of the worker, which has a bound, and of Java."""
    rows = []
    for name, place in (("worker", 1), ("Java", 2)):
        early = _memory(found, place, 0.1, 0.2)
        late = _memory(found, place, 0.9, 1.0)
        row = Finding(f"soak: memory growth, {name}", f"{late:,.0f} MiB", f"{early:,.0f} MiB")
        row.ratio = late / early
        peak = max(sample[place] for sample in found["samples"]) / _MIB
        row.notes.append(f"peak {peak:,.0f} MiB; last tenth divided by the second")
        rows.append(row)
    rows[0].at_most = GROWTH
    rows[1].case += ": information"
    if not found["same_worker"]:
        rows[0].ratio = math.inf
        rows[0].notes.append("the worker was restarted")
    return rows


def _memory(found: dict[str, Any], place: int, begin: float, end: float) -> float:
    """Return the median memory in MiB while a part of the requests was answered."""
    samples, count = found["samples"], found["answered"]
    of_part = [s[place] for s in samples if begin * count <= s[0] < end * count]
    if not of_part:
        raise RuntimeError("too few samples of memory; use more requests")
    return statistics.median(of_part) / _MIB


def prepared(quick: bool) -> None:
    """Make the requests and the expected replies, in the process that sends the requests."""
    _pool(quick)


@lru_cache(maxsize=1)
def _pool(quick: bool) -> tuple[list[Prepared], list[Prepared]]:
    return good_requests(QUICK_POOL if quick else POOL), bad_requests()


def send(url: str, token: str, count: int, quick: bool) -> dict[str, Any]:
    """Send ``count`` requests from eight threads, and compare each reply with the expected one."""
    order = _order(count, *_pool(quick))
    numbers, lock = itertools.count(), threading.Lock()
    end = time.monotonic() + MOST_SECONDS
    found: dict[str, Any] = {"good": {"asked": 0, "right": 0}, "bad": {"asked": 0, "right": 0}}
    found |= {
        "count": count,
        "answered": 0,
        "retried": 0,
        "wrong": [],
        "deviation": 0.0,
        "for_zero": 0.0,
    }
    latencies: list[float] = []
    with Client(url, token) as client:

        def run() -> None:
            with requests.Session() as session:
                session.trust_env = False
                session.headers["Authorization"] = f"Bearer {token}"
                address = f"{url}/predictions/iqa"
                while time.monotonic() < end:
                    with lock:
                        number = next(numbers)
                    if number >= count:
                        return
                    request = order[number]
                    start = time.perf_counter()
                    retried = 0
                    try:
                        if request.content_type == CONTENT_TYPE:
                            reply = client.ask(request.body)
                            status = reply.get("status", 0)
                        else:
                            status, reply, retried = _post(session, address, request)
                        took = time.perf_counter() - start
                        problem = wrong(request, status, reply)
                        off = (0.0, 0.0) if problem else deviations(request, reply)
                    except Exception as error:
                        took = time.perf_counter() - start
                        problem, off = f"{type(error).__name__}: {error}", (0.0, 0.0)
                    side = found["good" if request.kind.startswith("good") else "bad"]
                    with lock:
                        latencies.append(took)
                        side["asked"] += 1
                        side["right"] += not problem
                        found["retried"] += retried
                        found["answered"] += 1
                        found["deviation"] = max(found["deviation"], off[0])
                        found["for_zero"] = max(found["for_zero"], off[1])
                        advance(found["answered"])
                        if problem and len(found["wrong"]) < _TOLD:
                            found["wrong"].append(f"{request.kind}: {problem}")

        threads = [threading.Thread(target=run) for _ in range(CLIENTS)]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found["seconds"] = time.perf_counter() - start
    low, *_, high = statistics.quantiles(latencies, n=100)
    found["latency"] = {"p50": statistics.median(latencies), "p01": low, "p99": high}
    found["kinds"] = len({request.kind for request in order if _is_bad(request)})
    return found


def _is_bad(request: Prepared) -> bool:
    return not request.kind.startswith("good")


def _order(count: int, good: list[Prepared], bad: list[Prepared]) -> list[Prepared]:
    """Return the requests in order: bad ones evenly spread, each kind at least once."""
    chosen = np.random.default_rng(3).integers(len(good), size=count)
    order = [good[number] for number in chosen]
    total = max(round(BAD * count), len(bad))
    for number in range(total):
        order[int((number + 0.5) * count / total)] = bad[number % len(bad)]
    return order


def _post(
    session: requests.Session, address: str, request: Prepared
) -> tuple[int, dict[str, Any], int]:
    """Send a request that our client would not send; return status, body and number of retries."""
    headers = {"Content-Type": request.content_type}
    retried = 0
    while True:
        try:
            answer = session.post(address, data=request.body, headers=headers, timeout=120)
            return answer.status_code, json.loads(answer.content), retried
        except requests.ConnectionError:
            # With a refusal the server closes the connection, perhaps just when a request is sent.
            retried += 1
            if retried == _TRIES:
                raise
