"""Start, restart, upgrade, roll back and stop a real TorchServe, each in its own state folder."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from iqa_torchserve.archive import ArchiveError, check_archive, check_plugins
from iqa_torchserve.config import ServerConfig
from iqa_torchserve.java import JavaError, find_java_home
from iqa_torchserve.launching import (
    check_installed,
    check_ports,
    free_port,
    launch,
    wait_until_ready,
)
from iqa_torchserve.running import RunningServer
from iqa_torchserve.state import (
    MARK,
    ServerError,
    forget_archives,
    keep_archive,
    kept_archives,
    locked,
    prepared,
)

__all__ = [
    "RunningServer",
    "ServerError",
    "free_port",
    "renew_tokens",
    "restart",
    "roll_back",
    "start",
    "stop",
]

_TRIAL_SECONDS = 300
_FAILURES = (ServerError, ArchiveError, JavaError, OSError)


def start(config: ServerConfig) -> RunningServer:
    """Start a server and return once its workers are ready.

    Raises
    ------
    ServerError
        If TorchServe is not installed, a server of this state folder is already running, a port is
        taken, or no worker gets ready; nothing is left running then.
    JavaError
        If there is no Java runtime for it.
    ArchiveError
        If the archive is missing or damaged, or a package that it needs is not installed.
    ValueError
        If a certificate or its key can't be used.
    """
    check_installed()
    config.check_tls()
    check_plugins(check_archive(config.archive))
    find_java_home()
    try:
        with locked(prepared(config.state)):
            left = RunningServer.described(config.state)
            if left is not None and left.process() is not None:
                raise ServerError(
                    f"a server is already running at {left.inference_url} (pid {left.pid}); stop "
                    "it with 'iqa-serve stop', or use --state for a second one in another folder"
                )
            if left is not None:
                left.stop()  # it died and could not clean up
            return _start(config)
    except OSError as error:
        raise ServerError(f"can't start in {config.state}: {error}") from error


def stop(state: Path, drain_seconds: float | None = None) -> bool:
    """Stop the server of a state folder or clean up after a dead one; return whether one was alive.

    Requests in progress are finished first, for at most the server's own ``drain_seconds``, or
    those given here.

    Raises
    ------
    ServerError
        If another start or stop is in progress.
    """
    if not (state / MARK).is_file():
        return False
    with locked(state):
        server = RunningServer.described(state)
        if server is None:
            return False
        alive = server.process() is not None
        server.stop(server.config.drain_seconds if drain_seconds is None else drain_seconds)
        return alive


def restart(state: Path, archive: Path | None = None) -> RunningServer:
    """Stop a server and start it again as it was, or with another archive.

    The archive is checked and tried out while the old one is still served. If the server does not
    get ready with it, the old one is served again.

    Raises
    ------
    ServerError
        If no server is running here, or the new one does not get ready.
    ArchiveError
        If the archive is missing, damaged or can't be loaded; the server keeps running as it was.
    """
    check_installed()
    if not (state / MARK).is_file():
        raise ServerError(f"no server was ever started in {state}; use 'iqa-serve start'")
    with locked(state):
        before = RunningServer.described(state)
        if before is None:
            raise ServerError(f"no server is running in {state}; start one with 'iqa-serve start'")
        chosen = before.served if archive is None else archive.absolute()
        check_archive(chosen)
        if archive is not None:
            _try_out(chosen)
        find_java_home()
        before.config.check_tls()
        try:
            before.stop(before.config.drain_seconds)
            return _start(replace(before.config, archive=chosen), before.served)
        except BaseException as error:
            # Even if interrupted: the old archive is served again.
            _start(replace(before.config, archive=before.served))
            if archive is None or not isinstance(error, _FAILURES):
                raise
            raise ServerError(
                f"{before.model} {before.version} is served again, since its successor did not "
                f"get ready: {error}"
            ) from error


def roll_back(state: Path) -> RunningServer:
    """Restart a server with the archive that it served before the current one.

    Raises
    ------
    ServerError
        If no server is running here, or there was no other archive before.
    """
    running = RunningServer.described(state)
    if running is None:
        raise ServerError(f"no server is running in {state}; start one with 'iqa-serve start'")
    kept = kept_archives(running.state)
    at = kept.index(running.served) if running.served in kept else len(kept)
    if at == 0:
        raise ServerError(
            f"{running.model} {running.version} is the oldest archive that was kept; there is none "
            "to go back to"
        )
    return restart(state, kept[at - 1])


def renew_tokens(server: RunningServer) -> None:
    """Make new tokens for requests and management; the old ones become invalid immediately.

    Raises
    ------
    ServerError
        If the server needs no tokens, or does not answer.
    """
    if not server.config.tokens:
        raise ServerError("this server needs no tokens")
    for kind in ("inference", "management"):
        server.manage(f"/token?type={kind}", key="API")


def _start(config: ServerConfig, before: Path | None = None) -> RunningServer:
    """Start a server in a locked state folder; ``before`` is the archive that was served so far."""
    contents = check_archive(config.archive)
    check_ports(config)
    known = kept_archives(config.state)
    served = keep_archive(config.state, config.archive, contents)
    try:
        check_archive(served)
        server = launch(config, served, contents, find_java_home())
        try:
            wait_until_ready(server)
        except BaseException:
            server.stop()
            raise
    except BaseException:
        if served not in known:  # a rollback must not lead to an archive that was never served
            served.unlink(missing_ok=True)
        raise
    forget_archives(config.state, served, before)
    return server


def _try_out(archive: Path) -> None:
    """Load an archive in a separate process. Raises ArchiveError."""
    command = [sys.executable, "-m", "iqa_torchserve.cli", "check", str(archive)]
    try:
        tried = subprocess.run(command, capture_output=True, text=True, timeout=_TRIAL_SECONDS)
    except subprocess.TimeoutExpired:
        raise ArchiveError(f"{archive} took more than {_TRIAL_SECONDS} s to load") from None
    if tried.returncode:
        last = "\n".join(tried.stderr.strip().splitlines()[-3:])
        raise ArchiveError(
            f"{archive} can't be loaded, and the server keeps running as it was: {last}"
        )
