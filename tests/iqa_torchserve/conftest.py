"""A model archive and a real server, one of each for all tests."""

import pytest

from iqa_torchserve.archive import build_archive
from iqa_torchserve.config import PORTS, ServerConfig
from iqa_torchserve.limits import Limits
from iqa_torchserve.server import free_port, start


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    limits = Limits(request_bytes=2**20, images=8, decode_seconds=2)
    return build_archive(tmp_path_factory.mktemp("store"), limits=limits)


@pytest.fixture(scope="session")
def server(archive, tmp_path_factory):
    state = tmp_path_factory.mktemp("server")
    config = ServerConfig(archive, state=state, port=free_port(PORTS))
    running = start(config)
    yield running
    running.stop()
