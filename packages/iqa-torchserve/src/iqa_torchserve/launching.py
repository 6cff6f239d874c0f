"""Start TorchServe's process and wait until its workers are ready."""

import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from iqa_torchserve.archive import Contents
from iqa_torchserve.config import LOOPBACK, ServerConfig, short_temporary_folder
from iqa_torchserve.running import RunningServer, start_of
from iqa_torchserve.state import (
    DRAIN,
    KEYS,
    LOGS,
    STATE_VARIABLE,
    ServerError,
    fresh_logs,
    log_lines,
    tail,
)
from iqa_torchserve.telemetry import metrics_file

_POLL_SECONDS = 0.1


def check_installed() -> None:
    """Raise ServerError unless TorchServe is installed."""
    if importlib.util.find_spec("ts") is None:
        raise ServerError("TorchServe is not installed; run pip install 'iqa-torchserve[server]'")


def launch(
    config: ServerConfig, served: Path, contents: Contents, java_home: Path
) -> RunningServer:
    """Start TorchServe's process and record it in the state folder. Raises ServerError."""
    logs = fresh_logs(config.state)
    for name in (KEYS, DRAIN):
        (config.state / name).unlink(missing_ok=True)
    metrics = config.state / "metrics.json"
    metrics.write_text(metrics_file())
    properties = config.state / "config.properties"
    properties.write_text(config.properties(contents.limits, metrics))
    temporary = short_temporary_folder()
    command = [sys.executable, "-m", "ts.model_server", "--start", "--ncs"]
    command += ["--ts-config", str(properties), "--model-store", str(served.parent)]
    command += ["--models", f"{contents.name}={served.name}"]
    launcher = None
    try:
        with (logs / "console.log").open("wb") as console:
            # Without --foreground this ends immediately and leaves Java running, with its pid in a
            # file. The new session protects it from a terminal's Ctrl-C; the umask protects the key
            # file.
            launcher = subprocess.Popen(
                command,
                cwd=config.state,
                env=_environment(config, java_home, temporary, logs),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                umask=0o077,
            )
            launcher.wait()
        return _described(config, served, contents, temporary)
    except BaseException:
        if launcher is not None:
            # Java is in the launcher's process group, even if its pid was not written.
            with suppress(ProcessLookupError):
                os.killpg(launcher.pid, signal.SIGKILL)
            launcher.wait()
        shutil.rmtree(temporary, ignore_errors=True)
        (config.state / KEYS).unlink(missing_ok=True)
        raise


def wait_until_ready(server: RunningServer) -> None:
    """Wait until every worker is ready. Raises ServerError if they do not get ready."""
    config, logs = server.config, server.state / LOGS
    end = time.monotonic() + config.start_seconds
    while time.monotonic() < end:
        if server.process() is None:
            raise ServerError(f"TorchServe ended:\n{tail(logs / 'console.log')}")
        if server.worker_states().count("READY") >= config.workers:
            return
        if trace := _worker_trace(logs / "model_log.log"):
            raise ServerError(f"the worker could not load the archive:\n{trace}")
        time.sleep(_POLL_SECONDS)
    raise ServerError(
        f"the workers were not ready after {config.start_seconds:g} s; the end of the log:\n"
        f"{tail(logs / 'ts_log.log')}"
    )


def check_ports(config: ServerConfig) -> None:
    """Raise ServerError unless the server's ports are free."""
    taken = [
        str(port)
        for port in config.ports
        if _taken(LOOPBACK, port) or (config.host != LOOPBACK and _taken(config.host, port))
    ]
    if taken:
        raise ServerError(
            f"can't listen on port {', '.join(taken)} of {config.host}; the server needs the ports "
            f"{config.ports[0]} to {config.ports[-1]}: use --port for another first one, or "
            "--port 0 to find free ones"
        )


def free_port(count: int) -> int:
    """Return the first of ``count`` consecutive ports on 127.0.0.1 that are free right now."""
    for first in range(20000 + os.getpid() % 997 * 10, 60000, 10):
        if not any(_taken(LOOPBACK, port) for port in range(first, first + count)):
            return first
    raise ServerError(f"there are no {count} consecutive free ports on {LOOPBACK}")


def _environment(
    config: ServerConfig, java_home: Path, temporary: Path, logs: Path
) -> dict[str, str]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    environment = {
        # Workers that compete for the same cores are slower than their number suggests.
        "OMP_NUM_THREADS": str(max(1, (cores or 1) // config.workers)),
        # With a heap per thread, each would keep the memory of its largest image.
        "MALLOC_ARENA_MAX": "2",
        **os.environ,
        "JAVA_HOME": str(java_home),
        "TMPDIR": str(temporary),
        "TEMP": str(temporary),
        "LOG_LOCATION": str(logs),
        "METRICS_LOCATION": str(logs),
        # Spinning idle OpenMP threads would starve the other processes of a small machine.
        "OMP_WAIT_POLICY": "PASSIVE",
        STATE_VARIABLE: str(config.state),
    }
    environment.pop("TS_CONFIG_FILE", None)  # it would override our configuration
    return environment


def _described(
    config: ServerConfig, served: Path, contents: Contents, temporary: Path
) -> RunningServer:
    import psutil

    try:
        pid = int((temporary / ".model_server.pid").read_text())
        started = start_of(psutil.Process(pid))
    except (OSError, ValueError, psutil.Error):
        console = config.state / LOGS / "console.log"
        raise ServerError(f"TorchServe did not start:\n{tail(console)}") from None
    server = RunningServer(pid, started, contents.name, contents.version, served, temporary, config)
    server.describe_in(config.state)
    return server


def _worker_trace(log: Path) -> str:
    """Return the errors in a worker's log if the worker died, or else an empty string."""
    said = [line.split(" MODEL_LOG - ", 1)[-1] for line in log_lines(log)]
    if not any("Backend worker process died" in line for line in said):
        return ""
    errors = dict.fromkeys(line for line in said if re.match(r"[\w.]+(Error|Exception)\b", line))
    if not errors:
        errors = {"it ended without an error message, as happens when memory runs out": None}
    return "\n".join([*errors, f"the full log is {log}"])


def _taken(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False
