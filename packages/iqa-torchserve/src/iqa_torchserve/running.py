"""A running server: found by its state folder, queried, drained and stopped."""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from iqa_torchserve.config import TEMPORARY_PREFIX, ServerConfig
from iqa_torchserve.state import ARCHIVES, BUSY, DESCRIPTION, DRAIN, KEYS, ServerError

_JAVA_CLASS = "org.pytorch.serve.ModelServer"
_STOP_SECONDS = 30
_POLL_SECONDS = 0.05
_LAST_ANSWERS_SECONDS = 0.3


@dataclass(frozen=True)
class RunningServer:
    """A server as its state folder describes it.

    Attributes
    ----------
    pid
        The pid of the Java process.
    started
        The start time of that process from :func:`start_of`, which tells it from a later process
        with the same pid.
    model, version
        The model's name in the server's URLs, and its version.
    served
        The archive in the state folder.
    temporary
        The folder of sockets and unpacked models.
    config
        The settings that the server was started with.
    """

    pid: int
    started: float
    model: str
    version: str
    served: Path
    temporary: Path
    config: ServerConfig

    @classmethod
    def find(cls, state: Path) -> "RunningServer | None":
        """Return the running server that a state folder describes, or None if none is running."""
        server = cls.described(state)
        return server if server is not None and server.process() is not None else None

    @classmethod
    def described(cls, state: Path) -> "RunningServer | None":
        """Return the server that a state folder describes, whether it is running or not."""
        try:
            said = json.loads((state / DESCRIPTION).read_text())
            # The folder may have been moved since then.
            config = {**said["config"], "state": state.absolute()}
            served = state.absolute() / ARCHIVES / Path(said["served"]).name
            paths = {"served": served, "temporary": Path(said["temporary"])}
            return cls(**{**said, **paths, "config": ServerConfig.from_json(config)})
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ServerError(f"{state / DESCRIPTION} can't be read ({error})") from error

    def describe_in(self, state: Path) -> None:
        """Write the server's description to a state folder, for other commands."""
        said = {**vars(self), "config": self.config.as_json()}
        (state / DESCRIPTION).write_text(json.dumps(said, default=str, indent=2))

    @property
    def state(self) -> Path:
        """The server's state folder."""
        return self.config.state

    @property
    def inference_url(self) -> str:
        """Address of the inference API."""
        return self.config.inference_url

    @property
    def management_url(self) -> str:
        """Address of the management API."""
        return self.config.management_url

    def process(self) -> Any | None:
        """Return the Java process, or None if it has ended."""
        import psutil

        try:
            process = psutil.Process(self.pid)
            same = abs(start_of(process) - self.started) < 1
            alive = process.status() != psutil.STATUS_ZOMBIE
            return process if same and alive and _JAVA_CLASS in process.cmdline() else None
        except psutil.Error:
            return None

    def token(self, kind: str = "inference") -> str:
        """Return a token from the key file: ``inference``, ``management`` or ``API``.

        It is empty if the server needs no tokens.
        """
        if not self.config.tokens:
            return ""
        path = self.state / KEYS
        try:
            return str(json.loads(path.read_text())[kind]["key"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ServerError(f"no {kind} token in {path} ({error})") from error

    def manage(self, path: str, *, key: str = "management", seconds: float = 5) -> Any:
        """Return the management API's answer to a GET, or raise ServerError."""
        try:
            with requests.Session() as session:
                session.trust_env = False  # a proxy must not get this token
                answer = session.get(
                    f"{self.management_url}{path}",
                    headers={"Authorization": f"Bearer {self.token(key)}"},
                    timeout=seconds,
                )
        except requests.RequestException as error:
            raise ServerError(f"no reply from {self.management_url}: {error}") from error
        if answer.status_code != 200:
            raise ServerError(f"{self.management_url}{path}: {answer.status_code} {answer.reason}")
        try:
            return answer.json() if answer.content.strip() else None
        except ValueError as error:
            raise ServerError(f"{self.management_url}{path}: the answer is not JSON") from error

    def model_facts(self) -> dict[str, Any]:
        """Return TorchServe's facts about the model, such as its workers, or an empty dict."""
        try:
            facts = self.manage(f"/models/{self.model}")[0]
            return facts if isinstance(facts, dict) else {}
        except (ServerError, KeyError, TypeError, IndexError):
            return {}

    def workers(self) -> list[dict[str, Any]]:
        """Return the model's workers: their ``status``, ``pid`` and more."""
        return list(self.model_facts().get("workers", []))

    def worker_states(self) -> list[str]:
        """Return the states of the model's workers, such as ``READY``; empty if none answer."""
        return [str(worker.get("status")) for worker in self.workers()]

    def describe(self, seconds: float = 30) -> dict[str, Any]:
        """Return a worker's description of its metrics, limits, device and versions.

        Raises
        ------
        ServerError
            If no worker answers within the given time.
        """
        said = self.manage(f"/models/{self.model}?customized=true", seconds=seconds)
        try:
            described = said[0]["customizedMetadata"]
            return dict(described)
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise ServerError(f"no worker of {self.model} describes itself") from error

    def stop(self, drain_seconds: float = 0) -> None:
        """Stop the server and remove its tokens, sockets and temporary files; logs are kept.

        Parameters
        ----------
        drain_seconds
            How long the server may finish requests in progress. In the meantime new requests are
            refused with 503 and the code ``draining``.
        """
        import psutil

        process = self.process()
        family: list[Any] = []
        try:
            if process is not None:
                if drain_seconds > 0:
                    self._drain(drain_seconds)
                family = [process, *_children(process)]
                process.terminate()
                psutil.wait_procs(family, timeout=_STOP_SECONDS)
        finally:
            # If the stop itself is interrupted, nothing is left behind either.
            if process is not None:
                _, alive = psutil.wait_procs(family or [process, *_children(process)], timeout=0)
                for member in alive:
                    with suppress(psutil.NoSuchProcess):
                        member.kill()
                psutil.wait_procs(alive, timeout=5)
            self._clear()

    def _clear(self) -> None:
        """Remove what a server leaves behind: sockets, unpacked models and tokens."""
        if self.temporary.name.startswith(TEMPORARY_PREFIX):
            shutil.rmtree(self.temporary, ignore_errors=True)
        for name in (KEYS, DESCRIPTION, DRAIN, BUSY):
            (self.state / name).unlink(missing_ok=True)

    def _drain(self, seconds: float) -> None:
        (self.state / DRAIN).touch()
        end = time.monotonic() + seconds
        idle_since: float | None = None
        while time.monotonic() < end:
            waiting = self.model_facts().get("jobQueueStatus", {}).get("pendingRequests", 0)
            if waiting or self.is_busy():
                idle_since = None
            else:
                now = time.monotonic()
                idle_since = idle_since or now
                # The frontend still passes on the last answers after the worker is idle.
                if now - idle_since > _LAST_ANSWERS_SECONDS:
                    return
            time.sleep(_POLL_SECONDS)

    def is_busy(self) -> bool:
        """Return whether a worker is working on a batch."""
        try:
            with (self.state / BUSY).open("a") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False


def start_of(process: Any) -> float:
    """Return the start time of a process, if possible in seconds since the machine's start.

    The time of day, which psutil reports, changes when the clock is set.
    """
    try:
        # The name, in parentheses, may contain anything; the start is the 20th field after it.
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return float(process.create_time())


def _children(process: Any) -> Iterable[Any]:
    import psutil

    try:
        return list(process.children(recursive=True))
    except psutil.Error:
        return []
