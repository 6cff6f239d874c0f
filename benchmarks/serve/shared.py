"""One request with one reference and eight distorted images, against eight requests of a pair."""

import statistics
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.rows import Finding
from benchmarks.serve.pictures import SIZE, pairs, shared_reference
from benchmarks.serve.sides import Side
from benchmarks.timing import interleaved
from iqa_metrics import score
from iqa_torchserve.client import Client
from iqa_torchserve.server import RunningServer

IMAGES = 8
AT_MOST = 0.65
DEVIATION = 1e-6
ROUNDS = 1000
_SHARED = "one request, shared reference"
_ONE_CLIENT, _EIGHT_CLIENTS = "one client", f"{IMAGES} clients"
_SAME = f"{IMAGES} clients, the same reference"


def measure(server: RunningServer, *, seconds: float, quick: bool) -> dict[str, Any]:
    """Let the ways take turns, and return all times and the largest deviation of a value."""
    with Side() as client:
        at = server.inference_url, server.token()
        return client.call(times, *at, seconds, 2 if quick else ROUNDS)


def findings(found: dict[str, Any]) -> list[Finding]:
    """Return rows against each way of eight requests; the one against the faster has the bound."""
    of = found["times"]
    ways = sorted((_ONE_CLIENT, _EIGHT_CLIENTS), key=lambda way: statistics.median(of[way]))
    rows = []
    for way in (*ways, _SAME):
        ratios = [a / b for a, b in zip(of[_SHARED], of[way], strict=True)]
        row = Finding(f"shared reference x {IMAGES}, default, {SIZE[0]}x{SIZE[1]}")
        row.ours = f"{1e3 * statistics.median(of[_SHARED]):,.1f} ms"
        row.peer = f"{1e3 * statistics.median(of[way]):,.1f} ms ({IMAGES} pairs, {way})"
        row.ratio = statistics.median(ratios)
        if len(ratios) >= 10:
            low, *_, high = statistics.quantiles(ratios, n=20)
            row.spread = low, high
        row.case += ": information" if rows else ""
        rows.append(row)
    rows[0].at_most = AT_MOST
    rows[0].deviation, rows[0].deviation_at_most = found["deviation"], DEVIATION
    rows[0].notes.append(f"{len(of[_SHARED])} rounds")
    if rows[0].spread:
        rows[0].notes.append("the spread is that of nine rounds in ten")
    rows[0].notes.append("each pair has its own reference")
    rows[-1].notes.append("waiting requests share a reference with the same content")
    return rows


def times(url: str, token: str, seconds: float, rounds: int) -> dict[str, Any]:
    """Return the times of the ways, which take turns."""
    reference, distorted = shared_reference(IMAGES)
    own = [(pair.reference, pair.distorted) for pair in pairs(IMAGES)]
    same = [(reference, image) for image in distorted]
    with Client(url, token) as client, ThreadPoolExecutor(IMAGES) as threads:

        def one(pair: tuple[bytes, bytes]) -> float:
            return client.score(*pair).value

        contenders = {
            _SHARED: lambda: [row[0] for row in client.compare(reference, distorted)],
            _ONE_CLIENT: lambda: [one(pair) for pair in own],
            _EIGHT_CLIENTS: lambda: list(threads.map(one, own)),
            _SAME: lambda: list(threads.map(one, same)),
        }
        answers, taken = interleaved(contenders, seconds=seconds, rounds=rounds)
    answers[_SHARED] = [outcome.value for outcome in answers[_SHARED]]
    of_own, of_same = [score(*pair) for pair in own], [score(*pair) for pair in same]
    expected = {_SHARED: of_same, _SAME: of_same, _ONE_CLIENT: of_own, _EIGHT_CLIENTS: of_own}
    deviations = [
        abs(value - right) / right
        for way, values in answers.items()
        for value, right in zip(values, expected[way], strict=True)
    ]
    return {"times": taken, "deviation": max(deviations)}
