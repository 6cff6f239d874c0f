"""A real TorchServe: right answers, clear refusals, and nothing left behind."""

import base64
import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
import requests
from material import encoded
from PIL import Image
from typer.testing import CliRunner

from iqa_metrics import score
from iqa_torchserve import server as servers
from iqa_torchserve.archive import ArchiveError, build_archive
from iqa_torchserve.cli import app
from iqa_torchserve.client import Client, ServeError
from iqa_torchserve.config import PORTS, ServerConfig
from iqa_torchserve.java import JavaError
from iqa_torchserve.server import RunningServer, ServerError, free_port, start

pytest.importorskip("ts")
pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return build_archive(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
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


@pytest.fixture
def client(server):
    with Client(server.inference_url, server.token()) as client:
        yield client


@pytest.fixture(scope="module")
def pairs(photographs):
    return [
        (encoded(p), encoded(p, "JPEG", quality=q)) for p in photographs.values() for q in (10, 30)
    ]


def post(server, **options):
    return requests.post(
        f"{server.inference_url}/predictions/iqa",
        headers={"Authorization": f"Bearer {server.token()}"},
        timeout=60,
        **options,
    )


@pytest.mark.parametrize("metric", [None, "default", "psnr", "ssim"])
def test_the_endpoint_gives_the_librarys_values(client, pairs, metric):
    for reference, distorted in pairs:
        served = client.score(reference, distorted, metric)
        expected = score(reference, distorted, metric or "default")
        assert served.value == pytest.approx(expected, rel=1e-6)
        assert served.metric == (metric or "default")
        assert served.higher_is_better == (metric in ("psnr", "ssim"))


def test_json_gives_the_same_as_multipart(server, client, pairs):
    reference, distorted = pairs[0]
    images = {"reference": reference, "distorted": distorted}
    body = {name: base64.b64encode(data).decode() for name, data in images.items()}
    answer = post(server, json={**body, "metric": "ssim"})
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.json() == client.score(reference, distorted, "ssim").reply


def test_identical_images(client, pairs):
    reference = pairs[0][0]
    assert client.score(reference, reference).value == 0
    assert client.score(reference, reference, "psnr").value == float("inf")


def test_requests_at_once_do_not_disturb_each_other(server, pairs):
    expected = [score(*pair) for pair in pairs]

    def ask(number):
        with Client(server.inference_url, server.token()) as client:
            if number % 3 == 2:
                with pytest.raises(ServeError) as caught:
                    client.score(pairs[0][0], b"broken")
                return caught.value.status, caught.value.code
            return client.score(*pairs[number % len(pairs)]).value

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(36)))
    for number, value in enumerate(found):
        if number % 3 == 2:
            assert value == (400, "bad_image")
        else:
            assert value == pytest.approx(expected[number % len(pairs)], rel=1e-6)


RGB = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
GOOD = encoded(RGB)
FRAMES = [Image.fromarray(RGB), Image.fromarray(RGB[::-1])]
ANIMATED = encoded(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:])
LARGE = encoded(Image.new("L", (5000, 5000)))

BAD_IMAGES = {
    "empty": (b"", "bad_image"),
    "text": (b"no image", "bad_image"),
    "html": (b"<html></html>", "bad_image"),
    "json": (b"{}", "bad_image"),
    "a path": (b"/etc/hostname", "bad_image"),
    "half a png": (GOOD[: len(GOOD) // 2], "bad_image"),
    "half a jpeg": (encoded(RGB, "JPEG")[:-300], "bad_image"),
    "half a webp": (encoded(RGB, "WEBP")[:100], "bad_image"),
    "signature": (GOOD[:8], "bad_image"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "bad_image"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "bad_image"),
    "zip": (b"PK\x03\x04" + bytes(100), "bad_image"),
    "alpha": (encoded(np.dstack([RGB, RGB[..., 0]])), "has_alpha"),
    "animation": (ANIMATED, "animated"),
    "cmyk": (encoded(Image.fromarray(RGB).convert("CMYK"), "JPEG"), "bad_image"),
    "too many pixels": (LARGE, "too_large"),
    "another size": (encoded(RGB[:, 1:]), "size_mismatch"),
    "too small": (encoded(RGB[:20, :20]), "size_mismatch"),
}


@pytest.mark.parametrize("place", ["reference", "distorted"])
@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_a_bad_image_gets_400_and_its_code(server, client, kind, place):
    data, code = BAD_IMAGES[kind]
    images = {"reference": GOOD, "distorted": GOOD, place: data}
    files = {name: ("image", content, "image/png") for name, content in images.items()}
    answer = post(server, files=files)
    assert answer.status_code == 400
    assert answer.json()["code"] == code
    assert len(answer.json()["message"]) > 20
    assert "Traceback" not in answer.text
    assert client.score(GOOD, GOOD).value == 0


PICTURE = ("image", GOOD, "image/png")
TEXT = base64.b64encode(GOOD).decode()

BAD_REQUESTS = {
    "nothing": ({}, "bad_request"),
    "no reference": ({"files": {"distorted": PICTURE}}, "bad_request"),
    "no distorted": ({"files": {"reference": PICTURE}}, "bad_request"),
    "another field": (
        {"files": {"reference": PICTURE, "distorted": PICTURE, "mask": PICTURE}},
        "bad_request",
    ),
    "text for an image": (
        {"files": {"reference": ("x", "/etc/hostname", "text/plain"), "distorted": PICTURE}},
        "bad_request",
    ),
    "raw image": ({"data": GOOD, "headers_": "image/png"}, "bad_request"),
    "broken json": ({"data": b'{"reference": ', "headers_": "application/json"}, "bad_request"),
    "json list": ({"json": [1, 2]}, "bad_request"),
    "json number": ({"json": {"reference": 1, "distorted": TEXT}}, "bad_request"),
    "no base64": ({"json": {"reference": "%%%", "distorted": TEXT}}, "bad_request"),
    "base64 of text": (
        {"json": {"reference": base64.b64encode(b"text").decode(), "distorted": TEXT}},
        "bad_image",
    ),
    "unknown metric": (
        {"json": {"reference": TEXT, "distorted": TEXT, "metric": "ssmi"}},
        "unknown_metric",
    ),
    "metric not packed": (
        {"json": {"reference": TEXT, "distorted": TEXT, "metric": "ssim_skimage"}},
        "unknown_metric",
    ),
    "metric of another type": (
        {"json": {"reference": TEXT, "distorted": TEXT, "metric": {}}},
        "bad_request",
    ),
}


@pytest.mark.parametrize("kind", BAD_REQUESTS)
def test_a_bad_request_gets_400_and_its_code(server, client, kind):
    options, code = BAD_REQUESTS[kind]
    options = dict(options)
    content_type = options.pop("headers_", None)
    headers = {"Authorization": f"Bearer {server.token()}"}
    if content_type:
        headers["Content-Type"] = content_type
    answer = requests.post(
        f"{server.inference_url}/predictions/iqa", headers=headers, timeout=60, **options
    )
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert client.score(GOOD, GOOD).value == 0


def test_a_small_pair_is_too_small_for_the_network_only(client):
    small = encoded(RGB[:20, :20])
    with pytest.raises(ServeError) as caught:
        client.score(small, small)
    assert (caught.value.status, caught.value.code) == (400, "too_small")
    assert client.score(small, small, "ssim").value == 1


def test_a_body_over_the_limit_is_refused(server, client):
    noise = os.urandom(2**20 + 1000)
    try:
        assert post(server, files={"reference": ("x", noise, "image/png")}).status_code == 413
    except requests.ConnectionError:
        pass  # TorchServe may close the connection before the body is through
    assert client.score(GOOD, GOOD).value == 0


@pytest.mark.parametrize("token", ["", "wrong", "management"])
def test_no_answer_without_the_right_token(server, client, token):
    token = server.token("management") if token == "management" else token
    with Client(server.inference_url, token) as other, pytest.raises(ServeError) as caught:
        other.score(GOOD, GOOD)
    assert caught.value.status in (400, 401, 403)
    assert caught.value.code == "refused"
    assert client.score(GOOD, GOOD).value == 0


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
        assert RunningServer.find(state).ready()
    finally:
        assert servers.stop(state)
    assert java_of(state) == []


def test_what_a_killed_server_left_is_removed(archive, tmp_path):
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
    assert server.ready()


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


def test_a_token_that_is_no_token_is_refused():
    with pytest.raises(ValueError, match="ASCII"):
        Client("http://127.0.0.1:9", "ü€")


def test_a_client_without_a_server_says_so():
    with Client("http://127.0.0.1:9", "token") as client, pytest.raises(ServeError) as caught:
        client.score(GOOD, GOOD)
    assert (caught.value.code, caught.value.status) == ("unreachable", None)
