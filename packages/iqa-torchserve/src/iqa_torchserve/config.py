"""How a server is set up: one typed record, written out as TorchServe's config.properties."""

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

PORTS = 5
TEMPORARY_PREFIX = "iqa-"
DEFAULT_PORT = 8080
LOOPBACK = "127.0.0.1"


def default_state_folder() -> Path:
    """Return where a server keeps its state: ``$IQA_SERVE_STATE``, else a folder for the user."""
    if named := os.environ.get("IQA_SERVE_STATE"):
        return Path(named)
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "iqa-serve"


@dataclass(frozen=True)
class ServerConfig:
    """A server's settings.

    Attributes
    ----------
    archive
        The model archive to serve.
    state
        The server's own folder: keys, logs, what is running. Readable by its owner alone.
    host
        Address to take requests on. Anything but loopback opens the server to others. Management
        and metrics stay on loopback.
    port
        First of five ports: inference, management, metrics, gRPC inference, gRPC management.
    workers
        Worker processes; each uses all cores, so more than one pays on a larger machine only.
    queue
        Requests that may wait; more are answered 503.
    max_request_bytes
        Largest request body; larger ones are answered 413.
    token_minutes
        How long the tokens in the key file stay valid: a week, unless told otherwise.
    start_seconds
        How long a start may take.
    """

    archive: Path
    state: Path = field(default_factory=default_state_folder)
    host: str = LOOPBACK
    port: int = DEFAULT_PORT
    workers: int = 1
    queue: int = 100
    max_request_bytes: int = 32 * 2**20
    token_minutes: int = 7 * 24 * 60
    start_seconds: float = 120.0

    def __post_init__(self) -> None:
        # TorchServe runs in the state folder, where relative paths would mean something else.
        object.__setattr__(self, "archive", self.archive.absolute())
        object.__setattr__(self, "state", self.state.absolute())
        if ":" in self.host or "/" in self.host:
            raise ValueError(f"host: expected a name or an IPv4 address, got {self.host!r}")
        if not 1 <= self.port <= 65536 - PORTS:
            raise ValueError(f"port: expected 1 to {65536 - PORTS}, got {self.port}")
        for name in ("workers", "queue", "max_request_bytes", "token_minutes", "start_seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: expected more than 0, got {getattr(self, name)}")

    @property
    def model(self) -> str:
        """The model's name in the server's addresses."""
        return self.archive.stem

    @property
    def ports(self) -> range:
        """The ports that the server listens on."""
        return range(self.port, self.port + PORTS)

    @property
    def inference_url(self) -> str:
        """Address of the inference API."""
        return f"http://{self.host}:{self.port}"

    @property
    def management_url(self) -> str:
        """Address of the management API."""
        return f"http://{LOOPBACK}:{self.port + 1}"

    def properties(self) -> str:
        """Return TorchServe's config.properties: closed wherever it can be."""
        inference, management, metrics, grpc_inference, grpc_management = self.ports
        settings = {
            "inference_address": f"http://{self.host}:{inference}",
            "management_address": f"http://{LOOPBACK}:{management}",
            "metrics_address": f"http://{LOOPBACK}:{metrics}",
            "grpc_inference_address": self.host,
            "grpc_inference_port": grpc_inference,
            "grpc_management_address": LOOPBACK,
            "grpc_management_port": grpc_management,
            "default_workers_per_model": self.workers,
            "job_queue_size": self.queue,
            "max_request_size": self.max_request_bytes,
            "token_expiration_min": self.token_minutes,
            "disable_token_authorization": "false",
            "enable_model_api": "false",
            # A pattern that no address matches: models come from the model store alone.
            "allowed_urls": "file:///nothing-is-allowed",
            "enable_envvars_config": "false",
            "install_py_dep_per_model": "false",
            "disable_system_metrics": "true",
            "metrics_mode": "prometheus",
            # Request bodies lie outside the heap.
            "vmargs": "-Xmx512m -XX:MaxDirectMemorySize=1g",
        }
        return "".join(f"{key}={value}\n" for key, value in settings.items())


def short_temporary_folder() -> Path:
    """Make a temporary folder with a path short enough for the Unix sockets that go into it."""
    folder, short = Path(tempfile.gettempdir()), Path("/tmp")  # noqa: S108 - mkdtemp goes on
    if len(str(folder)) > 60 and short.is_dir():
        folder = short
    return Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=folder))
