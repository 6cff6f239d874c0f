"""Run several jobs at a time and return their results in order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def in_order(
    run: Callable[[Job], Result], jobs: Iterable[Job], most: int
) -> Generator[Result, None, None]:
    """Run jobs in threads and yield their results in the order of the jobs.

    Parameters
    ----------
    run
        The function to run. An exception of it is raised in place of the job's result.
    jobs
        The jobs, of which at most ``most`` are taken ahead of the results.
    most
        Number of jobs that run at a time.

    Raises
    ------
    ValueError
        If ``most`` is less than 1.
    """
    if most < 1:
        raise ValueError(f"in_flight: expected at least 1, got {most}")
    return _in_order(run, iter(jobs), most)


def _in_order(
    run: Callable[[Job], Result], jobs: Iterator[Job], most: int
) -> Generator[Result, None, None]:
    pool = ThreadPoolExecutor(most, thread_name_prefix="iqa-client")
    waiting: deque[Future[Result]] = deque()
    try:
        for job in jobs:
            waiting.append(pool.submit(run, job))
            if len(waiting) >= most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
