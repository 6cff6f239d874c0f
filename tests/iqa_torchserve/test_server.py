"""The life of a server: closed by default, and nothing left behind."""

import contextlib
import json
import signal
import socket
import stat
import subprocess
import sys
import time
import zipfile

import psutil
import pytest
import requests
from material import encoded
from typer.testing import CliRunner

from iqa_metrics import score
from iqa_torchserve import server as servers
from iqa_torchserve.archive import ArchiveError
from iqa_torchserve.cli import app
from iqa_torchserve.config import PORTS, ServerConfig
from iqa_torchserve.java import JavaError
from iqa_torchserve.server import RunningServer, ServerError, free_port, start

pytest.importorskip("ts")
pytestmark = pytest.mark.server


def test_it_is_closed_where_it_can_be(server):
    key_file = server.state / "key_file.json"
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(server.state.stat().st_mode) == 0o700
    keys = [entry["key"] for entry in json.loads(key_file.read_text()).values()]
    logs = "".join(path.read_text() for path in (server.state / "logs").iterdir())
    assert logs
    assert not any(key in logs for key in keys)
    family = [server.process(), *server.process().children(recursive=True)]
    listening = [
        c.laddr.ip
        for process in family
        for c in process.net_connections("tcp")
        if c.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= PORTS
    assert all(ip.endswith("127.0.0.1") for ip in listening)
    register = requests.post(
        f"{server.management_url}/models?url=iqa.mar",
        headers={"Authorization": f"Bearer {server.token('management')}"},
        timeout=30,
    )
    assert register.status_code == 405


def test_describe_says_what_it_offers(server):
    answer = requests.get(
        f"{server.management_url}/models/iqa?customized=true",
        headers={"Authorization": f"Bearer {server.token('management')}"},
        timeout=60,
    )
    said = answer.json()[0]["customizedMetadata"]
    assert [m["metric"] for m in said["metrics"]] == ["default", "psnr", "ssim"]
    assert said["max_pixels"] == 2**23
    assert said["device"] in ("cpu", "cuda:0")


def test_a_folder_of_something_else_is_left_alone(archive, tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "mine.log").write_text("precious")
    tmp_path.chmod(0o755)
    with pytest.raises(ServerError, match="in use for something else"):
        start(ServerConfig(archive, state=tmp_path, port=free_port(PORTS)))
    assert servers.stop(tmp_path) is False
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]
    assert (tmp_path / "logs" / "mine.log").read_text() == "precious"
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def java_of(state):
    """The Java processes whose configuration lies in a state folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if "org.pytorch.serve.ModelServer" in process.cmdline():
                found += [process] if str(state / "config.properties") in process.cmdline() else []
    return found


def run_serve(*arguments, state):
    # Where these tests run in the background, children would be born deaf to SIGINT.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from iqa_torchserve.cli import app; app()"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments), "--state", str(state)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize(
    ("sent", "moment"),
    [
        (signal.SIGINT, "logs/console.log"),
        (signal.SIGINT, "server.json"),
        (signal.SIGTERM, "server.json"),
    ],
)
def test_an_interrupted_start_leaves_nothing(archive, tmp_path, sent, moment):
    state = tmp_path / "state"
    starting = run_serve("start", archive, "--port", free_port(PORTS), state=state)
    while not (state / moment).exists():
        assert starting.poll() is None
        time.sleep(0.02)
    starting.send_signal(sent)
    starting.communicate(timeout=120)
    left = java_of(state)
    for process in left:
        process.kill()
    assert left == []
    assert starting.returncode != 0
    assert not (state / "key_file.json").exists()
    assert RunningServer.described(state) is None


def test_of_two_starts_at_once_one_is_refused(archive, tmp_path):
    state, port = tmp_path / "state", free_port(2 * PORTS)
    both = [run_serve("start", archive, "--port", port + PORTS * i, state=state) for i in range(2)]
    said = [process.communicate(timeout=180)[0] for process in both]
    try:
        assert sorted(process.returncode for process in both) == [0, 2]
        refused = said[0] if both[0].returncode else said[1]
        assert "under way" in refused or "runs already" in refused
        assert len(java_of(state)) == 1
        assert RunningServer.find(state).worker_states() == ["READY"]
    finally:
        assert servers.stop(state)
    assert java_of(state) == []


def test_what_a_killed_server_left_is_removed(archive, tmp_path, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # would swallow what asks it
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    config = ServerConfig(archive, state=tmp_path / "state", port=free_port(PORTS), workers=2)
    killed = start(config)
    assert killed.worker_states() == ["READY", "READY"]
    killed.process().kill()
    psutil.wait_procs([psutil.Process(killed.pid)] if psutil.pid_exists(killed.pid) else [], 10)
    assert killed.temporary.exists()
    assert RunningServer.find(config.state) is None
    assert servers.stop(config.state) is False
    assert not killed.temporary.exists()
    assert not (config.state / "key_file.json").exists()
    assert RunningServer.described(config.state) is None


@pytest.mark.parametrize("host", ["::1", "http://127.0.0.1"])
def test_a_host_that_is_none_is_refused(archive, host):
    with pytest.raises(ValueError, match="a name or an IPv4 address"):
        ServerConfig(archive, host=host)


def test_a_second_start_in_the_same_folder_is_refused(server, archive):
    with pytest.raises(ServerError, match="runs already"):
        start(ServerConfig(archive, state=server.state, port=free_port(PORTS)))
    assert server.worker_states() == ["READY"]


def test_a_taken_port_is_named(server, archive, tmp_path):
    with socket.socket() as other:
        port = free_port(PORTS)
        other.bind(("127.0.0.1", port + 2))
        other.listen()
        with pytest.raises(ServerError, match=f"port {port + 2} of 127.0.0.1 is taken"):
            start(ServerConfig(archive, state=tmp_path, port=port))
    assert RunningServer.find(tmp_path) is None


def test_what_is_missing_is_named(archive, tmp_path, monkeypatch):
    with pytest.raises(ArchiveError, match="'iqa-serve build' makes it"):
        start(ServerConfig(tmp_path / "gone.mar", state=tmp_path))

    def none():
        raise JavaError("TorchServe needs Java 11 or newer")

    monkeypatch.setattr(servers, "find_java_home", none)
    with pytest.raises(JavaError, match="needs Java"):
        start(ServerConfig(archive, state=tmp_path, port=free_port(PORTS)))
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_can_not_load_shows_its_error_and_leaves_nothing(archive, tmp_path):
    broken = tmp_path / "store" / "broken.mar"
    broken.parent.mkdir()
    with zipfile.ZipFile(archive) as good, zipfile.ZipFile(broken, "w") as bad:
        for name in good.namelist():
            content = good.read(name)
            if name == "iqa-archive.json":
                said = json.loads(content)
                # Fits the hashes, but names a metric whose weights are not there.
                said["metrics"] = ["mobilenet_v2:head:rmse"]
                content = json.dumps(said).encode()
            bad.writestr(name, content)
    state = tmp_path / "state"
    before = {p.pid for p in psutil.process_iter()}
    with pytest.raises(ServerError, match=r"mobilenet_v2\.safetensors"):
        start(ServerConfig(broken, state=state, port=free_port(PORTS)))
    assert RunningServer.find(state) is None
    assert not (state / "key_file.json").exists()
    family = [p for p in psutil.process_iter() if p.pid not in before]
    assert not [p for p in family if "java" in p.name() and str(state) in " ".join(p.cmdline())]


def test_the_command_line_from_build_to_stop(tmp_path, monkeypatch, photographs):
    def serve(*arguments):
        return CliRunner().invoke(app, [str(a) for a in arguments])

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IQA_SERVE_STATE", "state")
    reference, distorted = tmp_path / "a.png", tmp_path / "b.jpg"
    reference.write_bytes(encoded(photographs["coffee"]))
    distorted.write_bytes(encoded(photographs["coffee"], "JPEG", quality=10))
    result = serve("score", reference, distorted)
    assert (result.exit_code, "no server runs here" in result.stderr) == (2, True)
    assert serve("start").exit_code == 2
    assert serve("build", "-m", "psnr", "-m", "default").stdout.strip() == "model_store/iqa.mar"
    assert (serve("status").exit_code, serve("status").stdout) == (1, "not running\n")
    try:
        started = serve("start", "--port", 0)
        assert started.exit_code == 0, started.output
        assert started.stdout.startswith("ready\thttp://127.0.0.1:")
        assert serve("status").exit_code == 0
        running = RunningServer.find(tmp_path / "state")
        family = [running.process(), *running.process().children(recursive=True)]
        result = serve("score", reference, distorted, "-m", "default", "-m", "psnr")
        values = [line.split("\t") for line in result.stdout.splitlines()]
        assert [v[0] for v in values] == ["default", "psnr"]
        assert float(values[0][1]) == pytest.approx(score(reference, distorted), rel=1e-5)
        replies = json.loads(serve("score", reference, distorted, "--json").stdout)
        assert replies[0]["metric"] == "psnr"
        result = serve("score", reference, distorted, "-m", "ssim")
        assert (result.exit_code, "unknown_metric" in result.stderr) == (1, True)
        assert serve("score", reference, tmp_path / "gone.png").exit_code == 2
    finally:
        assert serve("stop").stdout in ("stopped\n", "not running\n")
    assert not any(process.is_running() for process in family)
    assert not running.temporary.exists()
    assert {p.name for p in (tmp_path / "state").iterdir()} == {
        ".iqa-serve",
        "config.properties",
        "logs",
    }
    assert serve("stop").stdout == "not running\n"
