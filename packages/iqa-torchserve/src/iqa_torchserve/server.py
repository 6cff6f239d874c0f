"""Start, watch and stop a real TorchServe.

A server has a state folder of its own with everything it writes: ``server.json`` (what runs),
``key_file.json`` (tokens, readable by the owner alone), ``config.properties`` and ``logs/``.
"""

import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from iqa_torchserve.archive import check_archive
from iqa_torchserve.config import ServerConfig, short_temporary_folder
from iqa_torchserve.java import find_java_home

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
        try:
            said = json.loads((state / "server.json").read_text())
            server = cls(**{**said, "temporary": Path(said["temporary"]), "state": state})
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ServerError(f"{state / 'server.json'} can't be read ({error})") from error
        return server if server.process() is not None else None

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
        path = self.state / "key_file.json"
        try:
            return str(json.loads(path.read_text())[kind]["key"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ServerError(f"no {kind} token in {path} ({error})") from error

    def worker_states(self) -> list[str]:
        """Return the states of the model's workers, such as ``READY``; empty if none answer."""
        try:
            answer = requests.get(
                f"{self.management_url}/models/{self.model}",
                headers={"Authorization": f"Bearer {self.token('management')}"},
                timeout=5,
            )
            return [worker["status"] for worker in answer.json()[0]["workers"]]
        except (requests.RequestException, ServerError, ValueError, KeyError, TypeError):
            return []

    def ready(self) -> bool:
        """Whether a worker is ready. TorchServe's own ping says yes long before."""
        return "READY" in self.worker_states()

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
        shutil.rmtree(self.temporary, ignore_errors=True)
        for name in ("key_file.json", "server.json"):
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
    running = RunningServer.find(config.state)
    if running is not None:
        raise ServerError(
            f"a server runs already at {running.inference_url} (pid {running.pid}); "
            "'iqa-serve stop' ends it, --state names another folder for a second one"
        )
    check_archive(config.archive)
    java_home = find_java_home()
    _check_ports(config)
    try:
        server = _launch(config, java_home)
    except OSError as error:
        raise ServerError(f"can't start in {config.state}: {error}") from error
    try:
        _wait_until_ready(server, config.start_seconds)
    except BaseException:
        server.stop()
        raise
    return server


def free_port(count: int) -> int:
    """Return the first of ``count`` neighbouring ports on 127.0.0.1 that are free right now."""
    for first in range(20000 + os.getpid() % 997 * 10, 60000, 10):
        if not any(_taken("127.0.0.1", port) for port in range(first, first + count)):
            return first
    raise ServerError(f"no {count} neighbouring free ports on 127.0.0.1")


def _launch(config: ServerConfig, java_home: Path) -> RunningServer:
    import psutil

    config.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    config.state.chmod(0o700)
    logs = config.state / "logs"
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir()
    (config.state / "key_file.json").unlink(missing_ok=True)
    properties = config.state / "config.properties"
    properties.write_text(config.properties())
    temporary = short_temporary_folder()
    archive = config.archive.resolve()
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
    command += ["--ts-config", str(properties), "--model-store", str(archive.parent)]
    command += ["--models", f"{config.model}={archive.name}"]
    with (logs / "console.log").open("wb") as console:
        # Without --foreground this returns at once and leaves Java running, its pid in a file. The
        # session of its own keeps a terminal's Ctrl-C from it; the umask closes the key file.
        launcher = subprocess.run(
            command,
            cwd=config.state,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=0o077,
        )
    pid_file = temporary / ".model_server.pid"
    if launcher.returncode or not pid_file.is_file():
        shutil.rmtree(temporary, ignore_errors=True)
        raise ServerError(f"TorchServe did not start:\n{_tail(logs / 'console.log')}")
    pid = int(pid_file.read_text())
    try:
        started = psutil.Process(pid).create_time()
    except psutil.Error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise ServerError(f"TorchServe ended at once:\n{_tail(logs / 'console.log')}") from None
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
    (config.state / "server.json").write_text(json.dumps(said, default=str, indent=2))
    return server


def _wait_until_ready(server: RunningServer, seconds: float) -> None:
    logs = server.state / "logs"
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if server.process() is None:
            raise ServerError(f"TorchServe ended:\n{_tail(logs / 'console.log')}")
        if server.ready():
            return
        if trace := _worker_trace(logs / "model_log.log"):
            raise ServerError(f"the worker could not load the archive:\n{trace}")
        time.sleep(_POLL_SECONDS)
    raise ServerError(
        f"no worker was ready after {seconds:g} s; the log ends:\n{_tail(logs / 'ts_log.log')}"
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
    taken = [str(port) for port in config.ports if _taken(config.host, port)]
    if taken:
        raise ServerError(
            f"port {', '.join(taken)} of {config.host} is taken or not ours; the server needs "
            f"{config.ports[0]} to {config.ports[-1]}: --port names another first one, --port 0 "
            "finds free ones"
        )


def _taken(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
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
