"""A model archive and a real server, one of each for all tests."""

import pytest

from iqa_torchserve.archive import build_archive
from iqa_torchserve.config import PORTS, ServerConfig
from iqa_torchserve.server import free_port, start


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    return build_archive(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="session")
def server(archive, tmp_path_factory):
    config = ServerConfig(
        archive,
        state=tmp_path_factory.mktemp("server"),
        port=free_port(PORTS),
        max_request_bytes=2**20,
    )
    running = start(config)
    yield running
    running.stop()
