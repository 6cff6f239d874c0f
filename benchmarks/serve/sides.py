"""Separate processes for what is compared, so that the sides share nothing."""

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any
from unittest import mock

_CONTEXT = multiprocessing.get_context("spawn")
_LONGEST = 1800
"""Seconds after which an answer counts as lost."""
_ENDING_SECONDS = 10

_progress: Any = None


def environment() -> dict[str, str]:
    """Return variables with which a process uses as many threads as the server's one worker."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(cores or 1)),
        # Spinning threads of one side would take the cores away from the other.
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def advance(count: int) -> None:
    """Report the progress of a call, from a side's process."""
    if _progress is not None:
        _progress.value = count


class Side:
    """A fresh process that runs functions one after another; use it in ``with``."""

    def __init__(self) -> None:
        self._pipe, there = _CONTEXT.Pipe()
        self._progress = _CONTEXT.Value("L", 0)
        self._process = _CONTEXT.Process(target=_obey, args=(there, self._progress), daemon=True)
        with mock.patch.dict(os.environ, environment()):
            self._process.start()
        there.close()

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a function there and return what it returns. Raises RuntimeError."""
        self.begin(function, *arguments)
        return self.result()

    def begin(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Start a function there without waiting for it."""
        self._progress.value = 0
        self._pipe.send((function, arguments))

    def is_done(self, seconds: float) -> bool:
        """Wait for the function to end, at most some seconds; return whether it has."""
        return bool(self._pipe.poll(seconds))

    def result(self) -> Any:
        """Return the result of the started function. Raises RuntimeError."""
        if not self._pipe.poll(_LONGEST):
            raise RuntimeError(f"no answer within {_LONGEST} s")
        try:
            failed, said = self._pipe.recv()
        except EOFError:
            self._process.join(_ENDING_SECONDS)
            raise RuntimeError(f"ended with exit code {self._process.exitcode}") from None
        if failed:
            raise RuntimeError(said)
        return said

    @property
    def progress(self) -> int:
        """The progress of the call, as reported by :func:`advance`."""
        return int(self._progress.value)

    def __enter__(self) -> "Side":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pipe.close()  # ends the process, unless a function is running
        if kind is not None:
            self._process.terminate()
        self._process.join(_ENDING_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _obey(pipe: Any, progress: Any) -> None:
    global _progress
    _progress = progress
    # A terminal's Ctrl-C reaches all processes; only the parent acts on it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            function, arguments = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            answer = False, function(*arguments)
        except Exception:
            answer = True, traceback.format_exc()
        pipe.send(answer)
