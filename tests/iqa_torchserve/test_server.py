"""The life of a server: closed by default, and nothing left behind."""

import contextlib
import json
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import psutil
import pytest
import requests
import trustme
from cryptography.hazmat.primitives import serialization
from material import encoded
from typer.testing import CliRunner

from iqa_metrics import score
from iqa_torchserve import launching
from iqa_torchserve import server as servers
from iqa_torchserve.archive import ArchiveError, build_archive
from iqa_torchserve.cli import app
from iqa_torchserve.client import Client, ServeError
from iqa_torchserve.config import PORTS, ServerConfig
from iqa_torchserve.java import JavaError
from iqa_torchserve.server import (
    RunningServer,
    ServerError,
    free_port,
    restart,
    roll_back,
    start,
)

pytest.importorskip("ts")
pytestmark = pytest.mark.server


def test_a_server_is_closed_by_default(server):
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


def test_describe_lists_metrics_and_limits(server):
    answer = requests.get(
        f"{server.management_url}/models/iqa?customized=true",
        headers={"Authorization": f"Bearer {server.token('management')}"},
        timeout=60,
    )
    said = answer.json()[0]["customizedMetadata"]
    assert [m["metric"] for m in said["metrics"]] == ["default", "psnr", "ssim"]
    assert said["limits"]["pixels"] == 2**23
    assert said["limits"]["images"] == 8
    assert said["model"] == {"name": "iqa", "version": "1.0"}
    assert said == server.describe()
    assert said["device"] in ("cpu", "cuda:0")


def test_a_folder_of_something_else_is_left_alone(archive, tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "mine.log").write_text("precious")
    tmp_path.chmod(0o755)
    with pytest.raises(ServerError, match="is used for something else"):
        start(ServerConfig(archive, state=tmp_path, port=free_port(PORTS)))
    assert servers.stop(tmp_path) is False
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]
    assert (tmp_path / "logs" / "mine.log").read_text() == "precious"
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def java_of(state):
    """Return the Java processes whose configuration is in a state folder."""
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "moment"),
    [
        (signal.SIGINT, "logs/console.log"),
        (signal.SIGINT, "server.json"),
        (signal.SIGTERM, "server.json"),
    ],
)
def test_an_interrupted_start_leaves_nothing_behind(archive, tmp_path, sent, moment):
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


def test_one_of_two_simultaneous_starts_is_refused(archive, tmp_path):
    state, port = tmp_path / "state", free_port(2 * PORTS)
    both = [run_serve("start", archive, "--port", port + PORTS * i, state=state) for i in range(2)]
    said = [process.communicate(timeout=180)[0] for process in both]
    try:
        assert sorted(process.returncode for process in both) == [0, 2]
        refused = said[0] if both[0].returncode else said[1]
        assert "in progress" in refused or "already running" in refused
        assert len(java_of(state)) == 1
        assert RunningServer.find(state).worker_states() == ["READY"]
    finally:
        assert servers.stop(state)
    assert java_of(state) == []


def test_the_remains_of_a_killed_server_are_removed(archive, tmp_path, monkeypatch):
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


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"host": "192.0.2.1", "tokens": False}, "without tokens can only listen on 127.0.0.1"),
        ({"tls_key": "key.pem"}, "both a certificate and its key"),
        ({"tls_key": "gone.pem", "tls_certificate": "gone.pem"}, "gone.pem does not exist"),
        ({"queue": 0}, "queue: expected more than 0"),
        ({"drain_seconds": -1}, "drain_seconds: expected 0 or more"),
    ],
)
def test_invalid_settings_are_refused(archive, options, words):
    with pytest.raises(ValueError, match=words):
        ServerConfig(archive, **options).check_tls()


def test_settings_survive_json(archive, tmp_path):
    config = ServerConfig(archive, state=tmp_path, workers=3, tokens=False, drain_seconds=1.5)
    assert ServerConfig.from_json(json.loads(json.dumps(config.as_json()))) == config


@pytest.mark.parametrize("host", ["::1", "http://127.0.0.1"])
def test_an_invalid_host_is_refused(archive, host):
    with pytest.raises(ValueError, match="a name or an IPv4 address"):
        ServerConfig(archive, host=host)


def test_a_second_start_in_the_same_folder_is_refused(server, archive):
    with pytest.raises(ServerError, match="is already running"):
        start(ServerConfig(archive, state=server.state, port=free_port(PORTS)))
    assert server.worker_states() == ["READY"]


def test_a_taken_port_is_named(server, archive, tmp_path):
    with socket.socket() as other:
        port = free_port(PORTS)
        other.bind(("127.0.0.1", port + 2))
        other.listen()
        with pytest.raises(ServerError, match=f"can't listen on port {port + 2} of 127.0.0.1"):
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
    monkeypatch.setattr(launching.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ServerError, match="TorchServe is not installed"):
        start(ServerConfig(archive, state=tmp_path, port=free_port(PORTS)))


def with_another_metric(archive, path, spec):
    """An archive with the right hashes, but with a metric whose weights are missing."""
    with zipfile.ZipFile(archive) as good, zipfile.ZipFile(path, "w") as bad:
        for name in good.namelist():
            content = good.read(name)
            if name == "iqa-archive.json":
                content = json.dumps({**json.loads(content), "metrics": [spec]}).encode()
            bad.writestr(name, content)
    return path


def test_a_worker_that_can_not_load_shows_its_error_and_leaves_nothing_behind(archive, tmp_path):
    broken = with_another_metric(archive, tmp_path / "broken.mar", "mobilenet_v2:head:rmse")
    state = tmp_path / "state"
    before = {p.pid for p in psutil.process_iter()}
    with pytest.raises(ServerError, match=r"mobilenet_v2\.safetensors"):
        start(ServerConfig(broken, state=state, port=free_port(PORTS)))
    assert RunningServer.find(state) is None
    assert not (state / "key_file.json").exists()
    assert list((state / "archives").iterdir()) == []
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
    assert (result.exit_code, "no server is running here" in result.stderr) == (2, True)
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
        names = ["default", "psnr", "# efficientnet_lite0:block14:rmse", "# psnr"]
        assert [v[0].split("|")[0] for v in values] == names
        assert float(values[0][1]) == pytest.approx(score(reference, distorted), rel=1e-5)
        replies = json.loads(serve("score", reference, distorted, "--json").stdout)
        assert replies[0]["metric"] == "psnr"
        described = json.loads(serve("status", "--describe").stdout.split("\n", 3)[3])
        assert described == json.loads(serve("check").stdout)
        said = [json.loads(line) for line in serve("logs").stdout.splitlines()]
        assert [line["status"] for line in said] == [200, 200]
        assert "Torch worker started" in serve("logs", "worker", "-n", 1000).stdout
        assert serve("logs", "nonsense").exit_code == 2
        result = serve("score", reference, distorted, "-m", "ssim")
        assert (result.exit_code, "unknown_metric" in result.stderr) == (1, True)
        assert serve("score", reference, tmp_path / "gone.png").exit_code == 2
    finally:
        assert serve("stop").stdout in ("stopped\n", "not running\n")
    assert not any(process.is_running() for process in family)
    assert not running.temporary.exists()
    assert {p.name for p in (tmp_path / "state").iterdir()} == {
        ".iqa-serve",
        "archives",
        "config.properties",
        "logs",
        "metrics.json",
    }
    assert serve("stop").stdout == "not running\n"


@pytest.mark.slow
def test_tls_with_a_self_signed_certificate(archive, tmp_path, photographs):
    authority = trustme.CA(key_type=trustme.KeyType.RSA)
    made = authority.issue_cert("127.0.0.1", key_type=trustme.KeyType.RSA)
    key, certificate, trusted = (tmp_path / f"{n}.pem" for n in ("key", "certificate", "trusted"))
    made.private_key_pem.write_to_path(key)
    with pytest.raises(ValueError, match="openssl pkcs8 -topk8"):
        ServerConfig(archive, tls_certificate=key, tls_key=key).check_tls()
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    for pem in made.cert_chain_pems:
        pem.write_to_path(certificate, append=True)
    authority.cert_pem.write_to_path(trusted)
    port = free_port(PORTS)
    config = ServerConfig(
        archive, state=tmp_path / "state", port=port, tls_certificate=certificate, tls_key=key
    )
    server = start(config)
    image = encoded(photographs["cat"])
    try:
        assert server.inference_url == f"https://127.0.0.1:{port}"
        with Client(server.inference_url, server.token, verify=trusted) as client:
            assert client.score(image, image).value == 0
        # A certificate that nobody vouches for ends it, and is not tried again.
        with Client(server.inference_url, server.token) as client:
            with pytest.raises(ServeError, match="certificate verify failed") as caught:
                client.score(image, image)
            assert caught.value.code == "unreachable"
        plain = Client(f"http://127.0.0.1:{port}", server.token, retries=0)
        with plain, pytest.raises(ServeError):
            plain.score(image, image)
        grpc = pytest.importorskip("grpc")
        credentials = grpc.ssl_channel_credentials(trusted.read_bytes())
        with grpc.secure_channel(f"127.0.0.1:{port + 3}", credentials) as channel:
            grpc.channel_ready_future(channel).result(timeout=30)
        arguments = ["score", "--state", server.state, "--verify", trusted]
        for name in ("a.png", "b.png"):
            (tmp_path / name).write_bytes(image)
            arguments.append(tmp_path / name)
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        assert result.exit_code == 0
        assert result.stdout.startswith("default\t0\tlower is better\n# ")
    finally:
        server.stop()


def test_renewed_tokens_replace_the_old_ones(server, photographs):
    image = encoded(photographs["cat"])
    old = server.token()
    with (
        Client(server.inference_url, old) as stale,
        Client(server.inference_url, server.token) as asking,
    ):
        assert stale.score(image, image).value == 0
        result = CliRunner().invoke(app, ["renew", "--state", str(server.state)])
        assert result.stdout.strip() == str(server.state / "key_file.json")
        assert server.token() != old
        assert stat.S_IMODE((server.state / "key_file.json").stat().st_mode) == 0o600
        with pytest.raises(ServeError) as caught:
            stale.score(image, image)
        assert caught.value.code == "unauthorised"
        assert asking.score(image, image).value == 0
        assert server.worker_states() == ["READY"]


@pytest.mark.slow
def test_upgrade_failed_upgrade_and_rollback(archive, tmp_path, photographs, monkeypatch):
    image = encoded(photographs["cat"])
    store = tmp_path / "store"
    shutil.copytree(archive.parent, store)
    current = store / "iqa.mar"
    first = start(ServerConfig(current, state=tmp_path / "state", port=free_port(PORTS)))
    state = first.state
    try:
        with Client(first.inference_url, first.token) as client:
            # A build replaces the archive that is served; the server does not mind.
            build_archive(store, metrics=["psnr"], version="1.1")
            assert client.score(image, image, "ssim").value == 1
            second = restart(state, current)
            assert (second.version, second.config.port) == ("1.1", first.config.port)
            assert client.score(image, image, "psnr").value == float("inf")
            with pytest.raises(ServeError, match="not in this archive"):
                client.score(image, image, "ssim")

            # One that can't be loaded is refused while the old one serves on.
            broken = with_another_metric(current, tmp_path / "broken.mar", "mobilenet_v2:head:rmse")
            with pytest.raises(ArchiveError, match="keeps running as it was"):
                restart(state, broken)
            assert RunningServer.find(state).pid == second.pid

            # One that loads but does not get ready: the old one is served again.
            monkeypatch.setattr(servers, "_try_out", lambda path: None)
            with pytest.raises(ServerError, match=r"(?s)iqa 1.1 is served again.*mobilenet_v2"):
                restart(state, broken)
            assert client.score(image, image, "psnr").value == float("inf")

            # A relative folder is the same folder.
            monkeypatch.chdir(tmp_path)
            assert roll_back(Path("state")).version == "1.0"
            assert client.score(image, image, "ssim").value == 1
            with pytest.raises(ServerError, match="oldest archive that was kept"):
                roll_back(state)
            assert restart(state).version == "1.0"
            assert client.score(image, image, "ssim").value == 1
    finally:
        assert servers.stop(state)
    assert java_of(state) == []
    with pytest.raises(ServerError, match="start one with 'iqa-serve start'"):
        restart(state)
    with pytest.raises(ServerError, match="use 'iqa-serve start'"):
        restart(tmp_path / "nowhere")


def test_in_the_foreground_it_waits_for_a_signal(archive, tmp_path, photographs):
    state, port = tmp_path / "state", free_port(PORTS)
    staying = run_serve(
        "start", archive, "--port", port, "--foreground", "--no-tokens", state=state
    )
    try:
        assert staying.stdout.readline().startswith(f"ready\thttp://127.0.0.1:{port}/")
        image = encoded(photographs["cat"])
        with Client(f"http://127.0.0.1:{port}", "") as client:
            assert client.score(image, image).value == 0
        assert not (state / "key_file.json").exists()
        command = ["status", "--describe", "--state", str(state)]
        assert CliRunner().invoke(app, command).exit_code == 0
        time.sleep(1)
        assert staying.poll() is None
        staying.send_signal(signal.SIGTERM)
        staying.communicate(timeout=60)
        assert staying.returncode == 0
        assert java_of(state) == []
    finally:
        if staying.poll() is None:
            staying.kill()
        staying.stdout.close()
        servers.stop(state)


@pytest.mark.slow
def test_in_the_foreground_it_ends_with_its_server(archive, tmp_path):
    state, port = tmp_path / "state", free_port(PORTS)
    staying = run_serve("start", archive, "--port", port, "--foreground", state=state)
    try:
        assert staying.stdout.readline().startswith("ready")
        RunningServer.find(state).process().kill()
        said, _ = staying.communicate(timeout=60)
        assert (staying.returncode, "TorchServe ended" in said) == (1, True)
        assert not (state / "key_file.json").exists()
    finally:
        if staying.poll() is None:
            staying.kill()
        staying.stdout.close()
        servers.stop(state)
