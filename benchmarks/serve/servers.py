"""The measured servers: ours, and the same TorchServe with a handler that does nothing."""

import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from iqa_torchserve import archive
from iqa_torchserve.config import PORTS, ServerConfig
from iqa_torchserve.server import RunningServer, free_port, start

NO_OP = Path(__file__).parent / "noop"


@contextmanager
def serving(built: Path) -> Iterator[RunningServer]:
    """Run a server of an archive on 127.0.0.1 inside the block."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        config = ServerConfig(built, state=Path(folder) / "state", port=free_port(PORTS))
        server = start(config)
        try:
            yield server
        finally:
            with _undisturbed():
                server.stop()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Delay signals until the end of the block, since an interrupted stop would leave traces."""
    came: list[int] = []
    signals = signal.SIGINT, signal.SIGTERM
    before = [signal.signal(number, lambda number, _: came.append(number)) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
        for number in came[:1]:
            signal.raise_signal(number)


def no_op_archive(folder: Path, reply_bytes: int) -> Path:
    """Build an archive whose handler computes nothing and replies with a number of bytes."""
    handlers = folder / "handlers"
    shutil.copytree(NO_OP, handlers, ignore=shutil.ignore_patterns("__pycache__"))
    with (handlers / archive.MODEL_CONFIG).open("a") as file:
        file.write(f"reply_bytes: {reply_bytes}\n")
    # Built and started like ours, it differs only in the handler and its configuration.
    with mock.patch.object(archive, "handlers_folder", return_value=handlers):
        return archive.build_archive(folder / "no-op", metrics=["psnr"])
