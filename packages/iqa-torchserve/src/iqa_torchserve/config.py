"""A server's settings: one typed record, which is written as TorchServe's config.properties."""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from iqa_torchserve.limits import Limits

PORTS = 5
TEMPORARY_PREFIX = "iqa-"
DEFAULT_PORT = 8080
LOOPBACK = "127.0.0.1"
BATCH = 8
"""Requests in a batch: the batchSize in the handler's model-config.yaml."""
HEAP_BYTES = 2**29
REPLY_SLACK = 2**24

_PKCS8 = "-----BEGIN PRIVATE KEY-----"
_PATHS = ("archive", "state", "tls_certificate", "tls_key")


def default_state_folder() -> Path:
    """Return the default state folder: ``$IQA_SERVE_STATE``, or else a folder of the user's."""
    if named := os.environ.get("IQA_SERVE_STATE"):
        return Path(named)
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "iqa-serve"


@dataclass(frozen=True)
class ServerConfig:
    """A server's settings, except for the limits of requests, which the archive contains.

    Attributes
    ----------
    archive
        The model archive to serve.
    state
        The server's own folder for keys, logs and a description of what runs. Only its owner can
        read it.
    host
        Address to listen on for requests. Any other address than loopback lets other machines in.
        Management and metrics always stay on loopback.
    port
        First of five ports: inference, management, metrics, gRPC inference, gRPC management.
    workers
        Number of worker processes, which share the cores.
    queue
        Number of requests that may wait; further ones are answered with 503.
    tokens
        Whether requests need a token. Without tokens a server can only listen on loopback.
    token_minutes
        How long the tokens in the key file are valid; by default one week.
    tls_certificate, tls_key
        PEM files with a certificate (chain) and its RSA key in PKCS #8, for the two inference ports
        and gRPC management. Without them requests are not encrypted.
    drain_seconds
        How long a stop waits for requests in progress, in seconds.
    start_seconds
        How long a start may take, in seconds.
    """

    archive: Path
    state: Path = field(default_factory=default_state_folder)
    host: str = LOOPBACK
    port: int = DEFAULT_PORT
    workers: int = 1
    queue: int = 32
    tokens: bool = True
    token_minutes: int = 7 * 24 * 60
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    drain_seconds: float = 20.0
    start_seconds: float = 120.0

    def __post_init__(self) -> None:
        # TorchServe runs in the state folder, where relative paths would lead elsewhere.
        for name in _PATHS:
            path = getattr(self, name)
            object.__setattr__(self, name, None if path is None else Path(path).absolute())
        if ":" in self.host or "/" in self.host:
            raise ValueError(f"host: expected a name or an IPv4 address, got {self.host!r}")
        if not 1 <= self.port <= 65536 - PORTS:
            raise ValueError(f"port: expected 1 to {65536 - PORTS}, got {self.port}")
        for name in ("workers", "queue", "token_minutes", "start_seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: expected more than 0, got {getattr(self, name)}")
        if self.drain_seconds < 0:
            raise ValueError(f"drain_seconds: expected 0 or more, got {self.drain_seconds}")
        if not self.tokens and self.host != LOOPBACK:
            raise ValueError(
                f"a server without tokens can only listen on {LOOPBACK}, not on {self.host}: put "
                "a proxy with authentication before it"
            )
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("TLS needs both a certificate and its key")

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> "ServerConfig":
        """Read what :meth:`as_json` wrote."""
        return cls(**said)

    def as_json(self) -> dict[str, Any]:
        """Return the settings by name."""
        said = {name.name: getattr(self, name.name) for name in fields(self)}
        return {name: str(v) if isinstance(v, Path) else v for name, v in said.items()}

    def check_tls(self) -> None:
        """Raise ValueError unless the certificate and its key, if any, can be used."""
        for path in (self.tls_certificate, self.tls_key):
            if path is not None and not path.is_file():
                raise ValueError(
                    f"{path} does not exist; TLS needs a certificate and its key in PEM"
                )
        if self.tls_key is not None and _PKCS8 not in self.tls_key.read_text(errors="replace"):
            raise ValueError(
                f"{self.tls_key}: expected an RSA key in PKCS #8, beginning with {_PKCS8!r}; "
                "convert it with 'openssl pkcs8 -topk8 -nocrypt -in OLD -out NEW'"
            )

    @property
    def ports(self) -> range:
        """The ports that the server listens on."""
        return range(self.port, self.port + PORTS)

    @property
    def inference_url(self) -> str:
        """Address of the inference API."""
        return f"{'https' if self.tls_key else 'http'}://{self.host}:{self.port}"

    @property
    def management_url(self) -> str:
        """Address of the management API."""
        return f"http://{LOOPBACK}:{self.port + 1}"

    @property
    def metrics_url(self) -> str:
        """Address of the metrics for Prometheus."""
        return f"http://{LOOPBACK}:{self.port + 2}/metrics"

    def properties(self, limits: Limits, metrics_file: Path) -> str:
        """Return TorchServe's config.properties, which allow as little as possible."""
        inference, management, metrics, grpc_inference, grpc_management = self.ports
        # Waiting requests are in Java's heap, incoming ones outside of it. A batch is copied
        # several times on its way to a worker; without room for that, TorchServe hangs.
        batch = BATCH * limits.request_bytes
        heap = HEAP_BYTES + self.queue * limits.request_bytes + 4 * batch
        direct = self.queue * limits.request_bytes + 2 * batch
        settings = {
            "inference_address": f"{self.inference_url.partition(':')[0]}://{self.host}:{inference}",
            "management_address": f"http://{LOOPBACK}:{management}",
            "metrics_address": f"http://{LOOPBACK}:{metrics}",
            "grpc_inference_address": self.host,
            "grpc_inference_port": grpc_inference,
            "grpc_management_address": LOOPBACK,
            "grpc_management_port": grpc_management,
            "default_workers_per_model": self.workers,
            "job_queue_size": self.queue,
            "max_request_size": limits.request_bytes,
            # A worker sends the replies of a whole batch together.
            "max_response_size": BATCH * limits.reply_bytes + REPLY_SLACK,
            "token_expiration_min": self.token_minutes,
            "disable_token_authorization": "false" if self.tokens else "true",
            "enable_model_api": "false",
            # A pattern that no URL matches: models can only come from the model store.
            "allowed_urls": "file:///nothing-is-allowed",
            "enable_envvars_config": "false",
            "install_py_dep_per_model": "false",
            "disable_system_metrics": "true",
            "metrics_mode": "prometheus",
            "metrics_config": metrics_file,
            "vmargs": f"-Xmx{heap // 2**20}m -XX:MaxDirectMemorySize={direct // 2**20}m",
        }
        if self.tls_key is not None:
            settings |= {
                "certificate_file": self.tls_certificate,
                "private_key_file": self.tls_key,
                "enable_grpc_ssl": "true",
            }
        return "".join(f"{key}={value}\n" for key, value in settings.items())


def short_temporary_folder() -> Path:
    """Make a temporary folder whose path is short enough for Unix sockets in it."""
    folder, short = Path(tempfile.gettempdir()), Path("/tmp")  # noqa: S108 - mkdtemp follows
    if len(str(folder)) > 60 and short.is_dir():
        folder = short
    return Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=folder))
