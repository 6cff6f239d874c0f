"""Start, watch and stop a real TorchServe.

A server has a state folder of its own, marked as such, with all that it writes: ``server.json``
(what runs), ``key_file.json`` (tokens, readable by the owner alone), ``config.properties`` and
``logs/``.
"""

import fcntl
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from iqa_torchserve.archive import check_archive
from iqa_torchserve.config import (
    LOOPBACK,
    TEMPORARY_PREFIX,
    ServerConfig,
    short_temporary_folder,
)
from iqa_torchserve.java import find_java_home

_DESCRIPTION, _KEYS, _MARK = "server.json", "key_file.json", ".iqa-serve"
_JAVA_CLASS = "org.pytorch.serve.ModelServer"
_STOP_SECONDS = 30
_POLL_SECONDS = 0.1


class ServerError(RuntimeError):
    """A server that can't be started, found or stopped; the message says why and what to do."""

    code = "server"


@dataclass(frozen=True)
class RunningServer:
    """A server as its state folder describes it.

    Attributes
    ----------
    pid
        Of the Java process.
    started
        When that process began, in seconds since 1970: tells it from a later one of the same pid.
    model
        The model's name in the server's addresses.
    inference_url, management_url
        Where it listens.
    temporary
        Its folder for sockets and unpacked models.
    state
        Its state folder.
    """

    pid: int
    started: float
    model: str
    inference_url: str
    management_url: str
    temporary: Path
    state: Path

    @classmethod
    def find(cls, state: Path) -> "RunningServer | None":
        """Return the server that a state folder describes, or None if there is none alive."""
        server = cls.described(state)
        return server if server is not None and server.process() is not None else None

    @classmethod
    def described(cls, state: Path) -> "RunningServer | None":
        """Return the server that a state folder describes, alive or not, or None."""
        try:
            said = json.loads((state / _DESCRIPTION).read_text())
            return cls(**{**said, "temporary": Path(said["temporary"]), "state": state})
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ServerError(f"{state / _DESCRIPTION} can't be read ({error})") from error

    def process(self) -> Any | None:
        """Return the Java process as psutil knows it, or None if it is gone."""
        import psutil

        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < 1
            alive = process.status() != psutil.STATUS_ZOMBIE
            return process if same and alive and _JAVA_CLASS in process.cmdline() else None
        except psutil.Error:
            return None

    def token(self, kind: str = "inference") -> str:
        """Return a token from the key file: ``inference``, ``management`` or ``API``."""
        path = self.state / _KEYS
        try:
            return str(json.loads(path.read_text())[kind]["key"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ServerError(f"no {kind} token in {path} ({error})") from error

    def worker_states(self) -> list[str]:
        """Return the states of the model's workers, such as ``READY``; empty if none answer."""
        try:
            with requests.Session() as session:
                session.trust_env = False  # no proxy has any business with this token
                answer = session.get(
                    f"{self.management_url}/models/{self.model}",
                    headers={"Authorization": f"Bearer {self.token('management')}"},
                    timeout=5,
                )
            return [worker["status"] for worker in answer.json()[0]["workers"]]
        except (requests.RequestException, ServerError, ValueError, KeyError, TypeError):
            return []

    def stop(self) -> None:
        """Stop the server and remove its tokens, sockets and temporary files; logs stay."""
        import psutil

        process = self.process()
        if process is not None:
            family = [process, *_children(process)]
            process.terminate()
            _, alive = psutil.wait_procs(family, timeout=_STOP_SECONDS)
            for member in alive:
                member.kill()
            psutil.wait_procs(alive, timeout=5)
        if self.temporary.name.startswith(TEMPORARY_PREFIX):
            shutil.rmtree(self.temporary, ignore_errors=True)
        for name in (_KEYS, _DESCRIPTION):
            (self.state / name).unlink(missing_ok=True)


def start(config: ServerConfig) -> RunningServer:
    """Start a server and return once a worker is ready.

    Raises
    ------
    ServerError
        If TorchServe is not installed, a server of this state folder runs already, a port is
        taken, or no worker gets ready; then nothing is left running.
    JavaError
        If there is no Java to run it with.
    ArchiveError
        If the archive is missing or damaged.
    """
    if importlib.util.find_spec("ts") is None:
        raise ServerError("TorchServe is missing; pip install 'iqa-torchserve[server]'")
    check_archive(config.archive)
    java_home = find_java_home()
    try:
        with _locked(_prepared(config.state)):
            left = RunningServer.described(config.state)
            if left is not None and left.process() is not None:
                raise ServerError(
                    f"a server runs already at {left.inference_url} (pid {left.pid}); "
                    "'iqa-serve stop' ends it, --state names another folder for a second one"
                )
            if left is not None:
                left.stop()  # it died, and could not remove its things itself
            _check_ports(config)
            server = _launch(config, java_home)
            try:
                _wait_until_ready(server, config)
            except BaseException:
                server.stop()
                raise
            return server
    except OSError as error:
        raise ServerError(f"can't start in {config.state}: {error}") from error


def stop(state: Path) -> bool:
    """Stop the server of a state folder, or remove what a dead one left; return if one was alive.

    Raises
    ------
    ServerError
        If another start or stop is under way.
    """
    if not (state / _MARK).is_file():
        return False
    with _locked(state):
        server = RunningServer.described(state)
        if server is None:
            return False
        alive = server.process() is not None
        server.stop()
        return alive


def free_port(count: int) -> int:
    """Return the first of ``count`` neighbouring ports on 127.0.0.1 that are free right now."""
    for first in range(20000 + os.getpid() % 997 * 10, 60000, 10):
        if not any(_taken(LOOPBACK, port) for port in range(first, first + count)):
            return first
    raise ServerError(f"no {count} neighbouring free ports on {LOOPBACK}")


def _prepared(state: Path) -> Path:
    """Make the state folder, or check that it is one: what is in another stays as it is."""
    if state.is_dir():
        if any(state.iterdir()) and not (state / _MARK).is_file():
            raise ServerError(
                f"{state} is in use for something else; --state takes a new or an empty folder"
            )
    else:
        # Another start may have made it since.
        state.mkdir(parents=True, mode=0o700, exist_ok=True)
    state.chmod(0o700)
    (state / _MARK).touch()
    return state


@contextmanager
def _locked(state: Path) -> Iterator[None]:
    """Let one process at a time start or stop the server of a state folder."""
    with (state / _MARK).open("w") as mark:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ServerError(
                f"another start or stop of the server in {state} is under way"
            ) from None
        yield


def _launch(config: ServerConfig, java_home: Path) -> RunningServer:
    logs = config.state / "logs"
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir()
    (config.state / _KEYS).unlink(missing_ok=True)
    properties = config.state / "config.properties"
    properties.write_text(config.properties())
    temporary = short_temporary_folder()
    environment = {
        **os.environ,
        "JAVA_HOME": str(java_home),
        "TMPDIR": str(temporary),
        "TEMP": str(temporary),
        "LOG_LOCATION": str(logs),
        "METRICS_LOCATION": str(logs),
        # Idle OpenMP threads that spin starve the other processes of a small machine.
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    environment.pop("TS_CONFIG_FILE", None)  # it would win over our configuration
    command = [sys.executable, "-m", "ts.model_server", "--start", "--ncs"]
    command += ["--ts-config", str(properties), "--model-store", str(config.archive.parent)]
    command += ["--models", f"{config.model}={config.archive.name}"]
    launcher = None
    try:
        with (logs / "console.log").open("wb") as console:
            # Without --foreground this ends at once and leaves Java running, its pid in a file. The
            # session of its own keeps a terminal's Ctrl-C from it; the umask closes the key file.
            launcher = subprocess.Popen(
                command,
                cwd=config.state,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                umask=0o077,
            )
            launcher.wait()
        return _write_description(config, temporary)
    except BaseException:
        if launcher is not None:
            # Java is in the launcher's process group, whether its pid was written or not.
            with suppress(ProcessLookupError):
                os.killpg(launcher.pid, signal.SIGKILL)
            launcher.wait()
        shutil.rmtree(temporary, ignore_errors=True)
        (config.state / _KEYS).unlink(missing_ok=True)
        raise


def _write_description(config: ServerConfig, temporary: Path) -> RunningServer:
    """Write down what the launcher has started, for other commands to find."""
    import psutil

    try:
        pid = int((temporary / ".model_server.pid").read_text())
        started = psutil.Process(pid).create_time()
    except (OSError, ValueError, psutil.Error):
        console = config.state / "logs" / "console.log"
        raise ServerError(f"TorchServe did not start:\n{_tail(console)}") from None
    server = RunningServer(
        pid,
        started,
        config.model,
        config.inference_url,
        config.management_url,
        temporary,
        config.state,
    )
    said = {name: value for name, value in vars(server).items() if name != "state"}
    (config.state / _DESCRIPTION).write_text(json.dumps(said, default=str, indent=2))
    return server


def _wait_until_ready(server: RunningServer, config: ServerConfig) -> None:
    logs = server.state / "logs"
    end = time.monotonic() + config.start_seconds
    while time.monotonic() < end:
        if server.process() is None:
            raise ServerError(f"TorchServe ended:\n{_tail(logs / 'console.log')}")
        if server.worker_states().count("READY") >= config.workers:
            return
        if trace := _worker_trace(logs / "model_log.log"):
            raise ServerError(f"the worker could not load the archive:\n{trace}")
        time.sleep(_POLL_SECONDS)
    end_of_log = _tail(logs / "ts_log.log")
    raise ServerError(
        f"the workers were not ready after {config.start_seconds:g} s; the log ends:\n{end_of_log}"
    )


def _worker_trace(log: Path) -> str:
    """Return the errors that the log of a worker names before and as it died, or nothing."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    said = [line.split(" MODEL_LOG - ", 1)[-1] for line in lines]
    if not any("Backend worker process died" in line for line in said):
        return ""
    errors = dict.fromkeys(line for line in said if re.match(r"[\w.]+(Error|Exception)\b", line))
    return "\n".join([*errors, f"the whole log is {log}"])


def _check_ports(config: ServerConfig) -> None:
    taken = [
        str(port)
        for port in config.ports
        if _taken(LOOPBACK, port) or (config.host != LOOPBACK and _taken(config.host, port))
    ]
    if taken:
        raise ServerError(
            f"port {', '.join(taken)} of {config.host} is taken or not ours; the server needs "
            f"{config.ports[0]} to {config.ports[-1]}: --port names another first one, --port 0 "
            "finds free ones"
        )


def _taken(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


def _children(process: Any) -> Iterable[Any]:
    import psutil

    try:
        return list(process.children(recursive=True))
    except psutil.Error:
        return []


def _tail(path: Path, lines: int = 15) -> str:
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError as error:
        return f"({path} can't be read: {error})"
