"""Timing of contenders that take turns."""

import statistics
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

LONG = 5.0
"""First calls that take at least this many seconds count, since warming up saves little there."""

Run = Callable[[], Any]


def interleaved(
    contenders: Mapping[str, Run],
    *,
    seconds: float,
    rounds: int = 1000,
    compiled: Collection[str] = (),
    wait: Run = lambda: None,
) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Run contenders in turns, after a first call of each that does not count.

    Parameters
    ----------
    contenders
        The functions that are timed, by name.
    seconds
        The total time of counted calls after which to stop; each contender is counted at least
        once.
    rounds
        Most turns.
    compiled
        Names of contenders whose first call never counts, however long it takes.
    wait
        A function that waits for the device.

    Returns
    -------
    tuple
        The first result of each contender, and the seconds of its counted calls.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    values = {}
    for name, run in contenders.items():
        values[name], took = timed(run, wait)
        if took > LONG and name not in compiled:
            times[name].append(took)
    for _ in range(rounds):
        spent = sum(map(sum, times.values()))
        left = list(times) if spent < seconds else [name for name in times if not times[name]]
        for name in left:
            times[name].append(timed(contenders[name], wait)[1])
        if spent >= seconds:
            break
    return values, times


def timed(run: Run, wait: Run = lambda: None) -> tuple[Any, float]:
    """Return a function's result, and how many seconds it took."""
    wait()
    start = time.perf_counter()
    value = run()
    wait()
    return value, time.perf_counter() - start


def summary(times: list[float], factor: float = 1.0) -> dict[str, Any]:
    """Return the median and all single times, in milliseconds."""
    scaled = [1e3 * factor * t for t in times]
    return {"ms": statistics.median(scaled), "all_ms": [round(t, 4) for t in scaled]}
