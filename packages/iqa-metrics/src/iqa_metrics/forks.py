"""Refuse to compute in a forked process where that would never end.

GNU's OpenMP, which torch's Linux wheels come with, keeps a thread's helpers from one computation to
the next. A fork copies the record of these helpers, but not the helpers, so the next computation in
the forked thread waits for them forever. That needs no metric; ``torch.mm`` before and after the
fork is enough. It happens neither in a new thread of the forked process, nor with one thread, nor
with the OpenMP of LLVM and Intel.

What can't be noticed here is a fork in the very moment in which another thread that has computed
ends: while its helpers are being stopped, the copy may wait for them as well.
"""

import ctypes
import os
import sys
import threading

import torch

MANY = 32_768
"""Numbers from which on torch does elementwise arithmetic in several threads."""


class ForkedError(RuntimeError):
    """A process that was forked from a thread with helpers would wait for them forever."""


class _Thread(threading.local):
    """What is known of the current thread: whether it has helpers, and whether it lost them."""

    has_helpers = False
    lost_helpers = False


_thread = _Thread()


def before_computing() -> None:
    """Record that this thread is computing.

    Raises
    ------
    ForkedError
        If it would never end: this process was forked from a thread that had computed in several
        threads, and would itself compute in several.
    """
    if torch.compiler.is_compiling() or (_thread.has_helpers and not _thread.lost_helpers):
        return
    check_fork()
    if torch.get_num_threads() > 1:
        _thread.has_helpers = True


def check_fork() -> None:
    """Raise :class:`ForkedError` if this thread can't compute, without recording that it does."""
    if _thread.lost_helpers and torch.get_num_threads() > 1:
        raise ForkedError(
            "this process was forked after its parent had computed in several threads, which a "
            "fork does not copy; torch would wait for them forever. Start processes with 'spawn' "
            "or 'forkserver', such as multiprocessing.get_context('spawn').Pool(), or call "
            "torch.set_num_threads(1) first in each forked process"
        )


def _after_fork() -> None:
    if _thread.has_helpers and _is_gnu():
        _thread.lost_helpers = True


def _is_gnu() -> bool:
    """Return whether torch's OpenMP may be GNU's: Linux, and no other one takes precedence."""
    return sys.platform == "linux" and not hasattr(ctypes.CDLL(None), "__kmpc_fork_call")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
