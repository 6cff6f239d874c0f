"""Fetching weights from a server on this machine, with everything that can go wrong."""

import hashlib
import os
import subprocess
import sys
import threading
import time
import urllib.request
import warnings
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from iqa_metrics import FirstSightWarning, WeightsError, WeightsFile
from iqa_metrics.weights import fetching as module
from iqa_metrics.weights.fetching import add, fetch
from iqa_metrics.weights.files import hub_folder

CONTENT = bytes(range(256)) * 4096


class Server(ThreadingHTTPServer):
    """Serves CONTENT in the way that the path names, and records the requests."""

    daemon_threads = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = []
        self.content = CONTENT
        self.tag = '"one"'
        self.cuts = 0
        self.closing = threading.Event()

    def url(self, path):
        return f"http://127.0.0.1:{self.server_address[1]}/{path}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, (kind, *_) = self.server, self.path[1:].split(".")
        server.asked.append((self.path, dict(self.headers)))
        if kind == "gone":
            return self.send_error(404)
        if kind == "busy":
            return self.send_error(503)
        if kind == "redirect":
            self.send_response(302)
            self.send_header("Location", "/good.pth")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        content, begin = server.content, 0
        asked_for = self.headers.get("Range")
        unchanged = self.headers.get("If-Range") in (None, server.tag)
        if asked_for and unchanged and kind not in ("whole", "lying"):
            begin = int(asked_for.removeprefix("bytes=").rstrip("-"))
            if begin >= len(content):
                return self.send_error(416)
        if kind == "lying" and asked_for:
            begin = 5
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        if kind != "untagged":
            self.send_header("ETag", server.tag)
        if kind != "chunked":
            self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        rest = content[begin:]
        if kind == "stalls":
            self.wfile.write(rest[:1000])
            self.wfile.flush()
            server.closing.wait(3)
            return None
        if kind == "slow":
            for first in range(0, len(rest), 2**18):
                self.wfile.write(rest[first : first + 2**18])
                time.sleep(0.05)
            return None
        if server.cuts > 0:
            server.cuts -= 1
            rest = rest[: len(rest) // 3]
        self.wfile.write(rest)
        return None

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with Server() as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield http
        http.closing.set()
        http.shutdown()
        thread.join()


def weights(url, content=CONTENT, *, published=True):
    digest = hashlib.sha256(content).hexdigest()[:8] if published else ""
    return WeightsFile(url.rsplit("/", 1)[1], digest, "none", "test", url=url)


def get(file, **options):
    return fetch(file, **{"timeout": 1.0, "pause": 0.01, **options})


def left_behind():
    """Return the names of files beside the fetched ones, except for locks."""
    folder = hub_folder()
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    return sorted(name for name in names if not name.endswith(".lock"))


def test_a_fetched_file_is_found_and_kept(server):
    file = weights(server.url("good.pth"))
    assert file.find() is None
    told = []
    path = get(file, progress=lambda *state: told.append(state))
    assert path == hub_folder() / "good.pth"
    assert path.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [here for here, _ in told] == sorted(here for here, _ in told)
    before = path.stat().st_mtime_ns
    assert get(file) == file.verified() == path
    assert path.stat().st_mtime_ns == before
    assert len(server.asked) == 1
    assert left_behind() == ["good.pth"]


@pytest.mark.parametrize("kind", ["slow", "redirect", "chunked", "untagged"])
def test_other_servers_work_as_well(server, kind):
    assert get(weights(server.url(f"{kind}.pth"))).read_bytes() == CONTENT


def test_an_interrupted_download_is_resumed(server):
    server.cuts = 2
    assert get(weights(server.url("good.pth"))).read_bytes() == CONTENT
    ranges = [headers.get("Range") for _, headers in server.asked]
    third = len(CONTENT) // 3
    assert ranges == [None, f"bytes={third}-", f"bytes={third + (len(CONTENT) - third) // 3}-"]
    assert [headers.get("If-Range") for _, headers in server.asked[1:]] == [server.tag] * 2


def test_a_later_call_resumes_an_earlier_download(server):
    file = weights(server.url("good.pth"))
    server.cuts = 9
    with pytest.raises(WeightsError, match=r"bytes are kept, and the same command resumes"):
        get(file)
    assert left_behind() == [".good.pth.part", ".good.pth.tag"]
    server.cuts, server.asked = 0, []
    assert get(file).read_bytes() == CONTENT
    assert server.asked[0][1]["Range"].startswith("bytes=")
    assert left_behind() == ["good.pth"]


def test_a_server_that_ignores_ranges_sends_the_whole_file(server):
    server.cuts = 1
    assert get(weights(server.url("whole.pth"))).read_bytes() == CONTENT


def test_a_server_that_resumes_elsewhere_is_refused(server):
    server.cuts = 1
    assert get(weights(server.url("lying.pth"))).read_bytes() == CONTENT
    assert [headers.get("Range") is None for _, headers in server.asked] == [True, False, True]


def test_a_file_that_has_changed_is_downloaded_from_the_beginning(server):
    file = weights(server.url("good.pth"), CONTENT[::-1])
    server.cuts = 9
    with pytest.raises(WeightsError):
        get(file)
    server.cuts, server.content, server.tag = 0, CONTENT[::-1], '"two"'
    assert get(file).read_bytes() == CONTENT[::-1]


def test_a_damaged_part_is_discarded(server):
    file = weights(server.url("untagged.pth"))
    hub_folder().mkdir(parents=True)
    (hub_folder() / ".untagged.pth.part").write_bytes(b"x" * 1000)
    assert get(file).read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_a_download_that_ended_just_before_the_last_step_is_used(server):
    hub_folder().mkdir(parents=True)
    (hub_folder() / ".good.pth.part").write_bytes(CONTENT)
    assert get(weights(server.url("good.pth"))).read_bytes() == CONTENT
    assert server.asked == []


def test_a_redirection_never_drops_encryption(server):
    request = urllib.request.Request("https://weights.invalid/x.pth")
    handler = module._NeverLessSecure()
    with pytest.raises(module._Refused, match="not encrypted"):
        handler.redirect_request(request, None, 302, "", {}, "http://weights.invalid/x.pth")
    sent_on = handler.redirect_request(request, None, 302, "", {}, "https://b.invalid/x.pth")
    assert sent_on.full_url == "https://b.invalid/x.pth"


def test_other_users_can_read_added_files_and_records(server, tmp_path):
    file = weights(server.url("good.pth"), published=False)
    mine = tmp_path / "mine.pth"
    mine.write_bytes(CONTENT)
    before = os.umask(0o022)
    try:
        with pytest.warns(FirstSightWarning):
            path = add(file, mine)
    finally:
        os.umask(before)
    for written in (path, path.with_name("good.pth.sha256")):
        assert written.stat().st_mode & 0o777 == 0o644
    path.with_name("good.pth.sha256").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"sha256 can't be read"):
        file.verified()


def test_a_download_that_can_not_be_recorded_is_kept(server, tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    digest = weights(server.url("good.pth"), published=False)
    file = replace(digest, folder=tmp_path / "mine")
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "a file"))
    with pytest.raises(WeightsError, match="set TORCH_HOME to a writable folder"):
        get(file)
    assert (tmp_path / "mine" / ".good.pth.part").read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_discarded(server):
    hub_folder().mkdir(parents=True)
    (hub_folder() / ".good.pth.part").write_bytes(b"x" * (len(CONTENT) + 1))
    assert get(weights(server.url("good.pth"))).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("gone", "the server answered 404"),
        ("busy", "after 4 attempts"),
        ("stalls", "after 4 attempts"),
    ],
)
def test_a_failure_says_what_failed(server, kind, said):
    with pytest.raises(WeightsError, match=rf"{kind}.pth could not be fetched from http.*{said}"):
        get(weights(server.url(f"{kind}.pth")), timeout=0.2)
    assert f"{kind}.pth" not in left_behind()
    assert len(server.asked) == (1 if kind == "gone" else 4)


def test_a_file_other_than_the_published_one_is_refused_and_removed(server):
    file = weights(server.url("good.pth"), b"other")
    with pytest.raises(
        WeightsError, match=r"damaged or another file: expected SHA-256 [0-9a-f]{8}"
    ):
        get(file)
    assert left_behind() == []


def test_a_refused_connection_is_a_weights_error(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for url in ("http://127.0.0.1:9/x.pth", "file:///etc/x.pth", "http://[/x.pth"):
        with pytest.raises(WeightsError, match=r"could not be fetched"):
            get(weights(url))


def test_the_offline_switch_forbids_downloads(server, monkeypatch):
    monkeypatch.setenv("IQA_OFFLINE", "1")
    file = weights(server.url("good.pth"))
    with pytest.raises(WeightsError, match=r"IQA_OFFLINE forbids.*iqa weights add good.pth"):
        get(file)
    assert server.asked == []
    monkeypatch.setenv("IQA_OFFLINE", "0")
    path = get(file)
    monkeypatch.setenv("IQA_OFFLINE", "1")
    assert get(file) == path


def test_proxies_of_the_environment_are_used(server, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url(""))
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    get(weights("http://weights.invalid/good.pth"), timeout=1)
    assert server.asked[0][0] == "http://weights.invalid/good.pth"


def test_the_hash_of_a_file_without_a_published_one_is_recorded_and_compared(server):
    file = weights(server.url("good.pth"), published=False)
    with pytest.warns(FirstSightWarning, match="has no published SHA-256"):
        path = get(file)
    assert file.recorded_sha256() == hashlib.sha256(CONTENT).hexdigest()
    assert (hub_folder() / "good.pth.sha256").read_text().endswith("  good.pth\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert file.verified() == path
    path.write_bytes(b"other")
    with pytest.raises(
        WeightsError, match=r"when the file was first used.*delete .*good\.pth\.sha256"
    ):
        file.verified()
    path.unlink()
    server.content = b"newer"
    with pytest.raises(WeightsError, match="damaged or another file"):
        get(file)


def test_a_file_that_is_added_is_checked_like_a_fetched_one(server, tmp_path):
    file = weights(server.url("good.pth"))
    mine = tmp_path / "download (1).pth"
    mine.write_bytes(b"other")
    with pytest.raises(WeightsError, match="damaged or another file"):
        add(file, mine)
    with pytest.raises(WeightsError, match="there is no such file"):
        add(file, tmp_path / "gone.pth")
    assert left_behind() == []
    mine.write_bytes(CONTENT)
    assert add(file, mine) == file.verified()
    assert left_behind() == ["good.pth"]


def test_a_file_too_large_for_the_disk_is_refused_beforehand(server, monkeypatch):
    usage = module.shutil.disk_usage("/")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(
        WeightsError, match=rf"needs {len(CONTENT)} bytes, but .* has only 1000 free"
    ):
        get(weights(server.url("good.pth")))
    assert left_behind() == []


CHILD = """
import resource, signal, sys
from iqa_metrics import WeightsFile
from iqa_metrics.weights.fetching import fetch
url, digest, limit = sys.argv[1:]
if int(limit):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit),) * 2)
print(fetch(WeightsFile("slow.pth", digest, "none", "test", url=url), pause=0.01))
"""


def child(server, limit=0):
    digest = hashlib.sha256(CONTENT).hexdigest()
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, server.url("slow.pth"), digest, str(limit)],
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_full_disk_is_reported_and_the_download_resumes_later(server):
    process = child(server, limit=2**19)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "can't be written to" in said.splitlines()[-1]
    assert "slow.pth" not in left_behind()
    assert get(weights(server.url("slow.pth"))).read_bytes() == CONTENT
    assert server.asked[-1][1]["Range"] == f"bytes={2**19}-"


def test_simultaneous_processes_fetch_a_file_once(server):
    processes = [child(server) for _ in range(3)]
    paths = {process.communicate(timeout=60)[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert paths == {f"{hub_folder() / 'slow.pth'}\n"}
    assert len(server.asked) == 1
    assert (hub_folder() / "slow.pth").read_bytes() == CONTENT
