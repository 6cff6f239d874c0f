"""Processes of their own that do what they are told, so that what is compared shares nothing."""

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
    """Return what makes a process compute with the threads of the server's one worker."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(cores or 1)),
        # Threads of one side that spin would take the cores away from the other one.
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def advance(count: int) -> None:
    """Say how far a call has come; for use in a side's process."""
    if _progress is not None:
        _progress.value = count


class Side:
    """A fresh process that runs functions of modules, one after another; use it in ``with``."""

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
        """Have a function run there, and don't wait for it."""
        self._progress.value = 0
        self._pipe.send((function, arguments))

    def is_done(self, seconds: float) -> bool:
        """Wait so long for the end of what runs, and say whether it has come."""
        return bool(self._pipe.poll(seconds))

    def result(self) -> Any:
        """Return what the function returns that was begun. Raises RuntimeError."""
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
        """How far the call has come, as :func:`advance` says it."""
        return int(self._progress.value)

    def __enter__(self) -> "Side":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pipe.close()  # which ends it, unless it is at work
        if kind is not None:
            self._process.terminate()
        self._process.join(_ENDING_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _obey(pipe: Any, progress: Any) -> None:
    global _progress
    _progress = progress
    # A terminal's Ctrl-C reaches all; the parent is the one who acts on it.
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
