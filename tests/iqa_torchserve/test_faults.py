"""A real server under faults: after each of them, the next good request is answered correctly."""

import contextlib
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from material import encoded
from skimage import data

from iqa_metrics import score
from iqa_torchserve import server as servers
from iqa_torchserve.archive import ArchiveError, build_archive, check_archive
from iqa_torchserve.client import Client, ServeError
from iqa_torchserve.config import PORTS, ServerConfig
from iqa_torchserve.container import pack
from iqa_torchserve.server import RunningServer, free_port, restart, start

pytest.importorskip("ts")
pytestmark = pytest.mark.server

PHOTOGRAPH = data.chelsea()[:120, :160]
REFERENCE, DISTORTED = encoded(PHOTOGRAPH), encoded(PHOTOGRAPH, "JPEG", quality=15)
SLOW = encoded(data.astronaut())  # takes a while, eight times


@pytest.fixture(scope="module")
def expected():
    return score(REFERENCE, DISTORTED)


@pytest.fixture
def answers_right(expected):
    """Check that a server answers the next good request correctly."""

    def check(server, **options):
        with Client(server.inference_url, server.token, **options) as client:
            assert client.score(REFERENCE, DISTORTED).value == pytest.approx(expected, rel=1e-6)

    return check


@pytest.fixture
def started(tmp_path):
    """Return a function that starts a separate server, which is stopped afterwards."""
    states = []

    def start_one(archive, **options):
        states.append(tmp_path / f"state{len(states)}")
        return start(ServerConfig(archive, state=states[-1], port=free_port(PORTS), **options))

    yield start_one
    for state in states:
        servers.stop(state, 0)


@pytest.fixture(scope="module")
def lasting(archive, tmp_path_factory):
    """Return a function that gives a server apart, and starts it where a test has stopped it."""
    state = tmp_path_factory.mktemp("lasting")

    def running():
        found = RunningServer.find(state)
        return found or start(ServerConfig(archive, state=state, port=free_port(PORTS)))

    yield running
    servers.stop(state, 0)


def slow_request():
    return pack([SLOW, *[encoded(data.astronaut(), "JPEG", quality=q) for q in range(60, 68)]])


def posted(server, body, **options):
    return requests.post(
        f"{server.inference_url}/predictions/iqa",
        data=body,
        headers={"Authorization": f"Bearer {server.token()}"},
        timeout=120,
        **options,
    )


def connection(server, content_length, content=b""):
    """Return a socket that has sent a request's head and a part of its body."""
    peer = socket.create_connection(("127.0.0.1", server.config.port), timeout=60)
    head = (
        f"POST /predictions/iqa HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token()}\r\n"
        f"Content-Type: application/octet-stream\r\nContent-Length: {content_length}\r\n\r\n"
    )
    peer.sendall(head.encode() + content)
    return peer


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_killed_worker_comes_back(lasting, answers_right):
    server = lasting()
    answers_right(server)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(posted, server, slow_request())
        wait_until(server.is_busy)
        (worker,) = server.workers()
        os.kill(worker["pid"], signal.SIGKILL)
        answer = asked.result()
    assert answer.status_code >= 500
    assert "Traceback" not in answer.text
    answers_right(server)
    (again,) = server.workers()
    assert again["pid"] != worker["pid"]


def test_a_full_queue_is_busy_and_a_patient_client_gets_all_its_answers(
    archive, started, answers_right, expected
):
    server = started(archive, queue=2)

    def ask(retries):
        with Client(server.inference_url, server.token, retries=retries) as client:
            try:
                return client.score(REFERENCE, DISTORTED).value
            except ServeError as error:
                return error.status, error.code

    with ThreadPoolExecutor(40) as pool:
        slow = pool.submit(posted, server, slow_request())
        wait_until(server.is_busy)
        hasty = list(pool.map(ask, [0] * 30))
        assert slow.result().status_code == 200
    refused = [answer for answer in hasty if isinstance(answer, tuple)]
    assert set(refused) == {(503, "busy")}
    right = [answer for answer in hasty if not isinstance(answer, tuple)]
    assert right == pytest.approx([expected] * len(right), rel=1e-6)
    with ThreadPoolExecutor(20) as pool:
        patient = list(pool.map(ask, [20] * 20))
    assert patient == pytest.approx([expected] * 20, rel=1e-6)
    answers_right(server)


def test_clients_that_stop_sending_leave_or_send_nonsense(server, answers_right):
    good = pack([REFERENCE, DISTORTED])
    half = [connection(server, len(good), good[: len(good) // 2]) for _ in range(10)]
    silent = [socket.create_connection(("127.0.0.1", server.config.port)) for _ in range(10)]
    answers_right(server, retries=0)
    for _ in range(5):
        connection(server, len(good), good).close()  # leaves before its answer comes
        cut = connection(server, len(good), good[:100])
        cut.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        cut.close()  # by a reset
        ended = connection(server, len(good), good[:-1])
        ended.shutdown(socket.SHUT_WR)
        ended.close()
    for content in (b"nonsense\r\n\r\n", b"\x16\x03\x01" + bytes(200), b"GET " + b"/" * 20_000):
        with socket.create_connection(("127.0.0.1", server.config.port)) as peer:
            peer.sendall(content)
            answers_right(server, retries=0)
    for peer in (*half, *silent):
        peer.close()
    answers_right(server, retries=0)


def test_a_body_in_chunks_is_a_body(server, expected):
    body = pack([REFERENCE, DISTORTED])
    answer = posted(server, iter([body[:1000], body[1000:]]))
    value = answer.json()["results"][0]["scores"][0]["value"]
    assert value == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", ["text/plain", "image/png", "application/json", "multipart/x", ""])
def test_a_body_of_the_wrong_type_gets_a_code_or_its_answer(server, answers_right, kind):
    headers = {"Authorization": f"Bearer {server.token()}", "Content-Type": kind}
    for body in (pack([REFERENCE, DISTORTED]), b"%%%", b'{"reference": 1}'):
        url = f"{server.inference_url}/predictions/iqa"
        answer = requests.post(url, data=body, headers=headers, timeout=60)
        said = answer.json()
        assert (answer.status_code, said["status"]) in ((200, 200), (400, 400))
        assert said["status"] == 200 or said["code"] == "bad_request"
    answers_right(server, retries=0)


def mutated(rng, image):
    """Return a damaged image file, and how it was damaged."""
    content = bytearray(image)
    kind = rng.choice(["flip", "cut", "insert", "zero", "repeat", "swap", "head", "length"])
    at = rng.randrange(len(content))
    if kind == "flip":
        for _ in range(rng.randint(1, 30)):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del content[at:]
    elif kind == "insert":
        content[at:at] = rng.randbytes(rng.randint(1, 500))
    elif kind == "zero":
        end = min(len(content), at + rng.randint(1, 2000))
        content[at:end] = bytes(end - at)
    elif kind == "repeat":
        content[at:at] = content[max(0, at - 300) : at] * rng.randint(1, 20)
    elif kind == "swap":
        other = rng.randrange(len(content))
        content[at : at + 50], content[other : other + 50] = (
            content[other : other + 50],
            content[at : at + 50],
        )
    elif kind == "head":
        content[: rng.randint(1, 40)] = rng.randbytes(rng.randint(0, 60))
    else:  # a field of the header says something else
        place = rng.randrange(min(len(content) - 4, 200))
        content[place : place + 4] = rng.choice([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff"])
    return bytes(content)


FORMATS = [
    *[encoded(PHOTOGRAPH, "PNG"), encoded(PHOTOGRAPH, "JPEG", quality=80)],
    encoded(PHOTOGRAPH, "JPEG", progressive=True),
    *[encoded(PHOTOGRAPH, "WEBP"), encoded(PHOTOGRAPH, "BMP"), encoded(PHOTOGRAPH[..., 0], "GIF")],
    *[encoded(PHOTOGRAPH, "TIFF"), encoded(PHOTOGRAPH, "TIFF", compression="tiff_lzw")],
    *[encoded(PHOTOGRAPH, "TIFF", compression="tiff_deflate"), encoded(PHOTOGRAPH, "PPM")],
    encoded((PHOTOGRAPH[..., 0].astype(np.uint16) * 257), "PNG"),
]
IMAGE_CODES = {
    *("bad_image", "has_alpha", "animated", "too_large", "too_small", "too_slow"),
    *("size_mismatch", "out_of_range", "bad_colour"),
}


def check_answers(client, reference, images):
    """Each damaged image has its own code, or the library can read it as well."""
    outcomes = client.compare(reference, images)
    for image, (outcome,) in zip(images, outcomes, strict=True):
        if isinstance(outcome, ServeError):
            assert outcome.code in IMAGE_CODES, (outcome.code, str(outcome))
            assert len(str(outcome)) > 20
        else:
            assert outcome.value == pytest.approx(score(reference, image), rel=1e-6)
    return sum(isinstance(outcome, ServeError) for (outcome,) in outcomes)


def test_two_hundred_kinds_of_malformed_images(server, answers_right):
    rng = random.Random(0)
    images = [mutated(rng, FORMATS[number % len(FORMATS)]) for number in range(200)]
    with Client(server.inference_url, server.token, retries=0) as client:
        refused = sum(
            check_answers(client, REFERENCE, images[at : at + 8]) for at in range(0, 200, 8)
        )
    assert refused > 100
    assert server.worker_states() == ["READY"]
    answers_right(server, retries=0)


@pytest.mark.slow
@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(FORMATS),
    st.lists(st.tuples(st.integers(0, 2**20), st.binary(max_size=40), st.booleans()), max_size=5),
)
def test_malformed_images_of_all_kinds(server, image, changes):
    content = bytearray(image)
    for place, replacement, inserted in changes:
        at = place % (len(content) + 1)
        content[at : at if inserted else at + len(replacement)] = replacement
    with Client(server.inference_url, server.token, retries=0) as client:
        check_answers(client, REFERENCE, [bytes(content)])
        assert client.score(REFERENCE, REFERENCE).value == 0


@pytest.mark.slow
@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=300), st.sampled_from(["", "application/json", "multipart/form-data"]))
def test_bodies_of_all_kinds(server, body, kind):
    headers = {"Authorization": f"Bearer {server.token()}", "Content-Type": kind}
    url = f"{server.inference_url}/predictions/iqa"
    answer = requests.post(url, data=body, headers=headers, timeout=60)
    assert (answer.status_code, answer.json()["code"]) in ((400, "bad_request"), (400, 400))
    with Client(server.inference_url, server.token, retries=0) as client:
        assert client.score(REFERENCE, REFERENCE).value == 0


@pytest.mark.slow
def test_an_expired_token_is_refused_and_a_new_one_is_not(archive, started, answers_right):
    server = started(archive, token_minutes=1)
    old = server.token()
    answers_right(server)

    def expired():
        time.sleep(2)
        with Client(server.inference_url, old) as client:
            try:
                client.score(REFERENCE, DISTORTED)
            except ServeError as error:
                return error.code == "unauthorised"
        return False

    wait_until(expired, 150)
    servers.renew_tokens(server)
    answers_right(server)


def test_clients_that_retry_do_not_notice_a_restart(lasting, answers_right, expected):
    server = lasting()
    stop, values, failures = threading.Event(), [], []

    def ask():
        with Client(server.inference_url, server.token, retries=12) as client:
            while not stop.is_set():
                try:
                    values.append(client.score(REFERENCE, DISTORTED).value)
                except ServeError as error:
                    failures.append((error.code, str(error)))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(values) > 20)
    before = len(values)
    again = restart(server.state)
    assert again.pid != server.pid
    wait_until(lambda: len(values) > before + 20)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert values == pytest.approx([expected] * len(values), rel=1e-6)
    answers_right(again)


def test_a_stop_finishes_requests_in_progress_and_refuses_others(lasting):
    server = lasting()
    state, family = server.state, [server.process(), *server.process().children(recursive=True)]
    with ThreadPoolExecutor(2) as pool:
        asked = pool.submit(posted, server, slow_request())
        wait_until(server.is_busy)
        stopping = pool.submit(servers.stop, state)
        wait_until((state / "draining").exists)
        refused = posted(server, pack([REFERENCE, DISTORTED]))
        answer = asked.result()
        assert stopping.result() is True
    assert answer.status_code == 200
    assert len(answer.json()["results"]) == 8
    assert all(result["status"] == 200 for result in answer.json()["results"])
    assert (refused.status_code, refused.json()["code"]) == (503, "draining")
    psutil.wait_procs(family, timeout=10)
    assert not any(process.is_running() for process in family)
    assert not {"draining", "busy", "key_file.json", "server.json"} & {
        path.name for path in state.iterdir()
    }


@pytest.mark.slow
def test_a_stop_waits_only_for_its_time(archive, started):
    server = started(archive, drain_seconds=0.1)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(posted, server, slow_request())
        wait_until(server.is_busy)
        assert servers.stop(server.state) is True
        with contextlib.suppress(requests.RequestException):
            assert asked.result().status_code >= 500
    assert RunningServer.described(server.state) is None


@pytest.mark.slow
def test_an_interrupted_stop_leaves_nothing_behind(archive, started):
    server = started(archive)
    family = [server.process(), *server.process().children(recursive=True)]
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(posted, server, slow_request())
        wait_until(server.is_busy)
        command = [sys.executable, "-m", "iqa_torchserve.cli", "stop", "--state", server.state]
        stopping = subprocess.Popen([str(part) for part in command])
        wait_until((server.state / "draining").exists)
        stopping.terminate()
        assert stopping.wait(timeout=60) != 0
        with contextlib.suppress(requests.RequestException):
            asked.result()
    psutil.wait_procs(family, timeout=10)
    assert not any(process.is_running() for process in family)
    assert RunningServer.described(server.state) is None
    assert not (server.state / "key_file.json").exists()
    assert not server.temporary.exists()


def test_an_archive_with_a_flipped_byte_is_refused(archive, tmp_path):
    good = archive.read_bytes()
    with zipfile.ZipFile(archive) as mar:
        content = {name: mar.read(name) for name in mar.namelist()}
        weights = next(info for info in mar.infolist() if info.filename.endswith(".safetensors"))
    places = random.Random(1).sample(range(len(good)), 60)
    places += range(len(good) - 700, len(good), 7)  # the table of contents
    damaged = tmp_path / "iqa.mar"
    for place in places:
        flipped = bytearray(good)
        flipped[place] ^= 1
        damaged.write_bytes(flipped)
        try:
            check_archive(damaged)
        except ArchiveError:
            continue
        # A field that nothing depends on, such as a date.
        with zipfile.ZipFile(damaged) as mar:
            assert {name: mar.read(name) for name in mar.namelist()} == content, place
    flipped = bytearray(good)
    flipped[weights.header_offset + 1000] ^= 1
    damaged.write_bytes(flipped)
    with pytest.raises(ArchiveError):
        start(ServerConfig(damaged, state=tmp_path / "state", port=free_port(PORTS)))
    assert not (tmp_path / "state").exists()


def test_a_full_disk_for_logs_costs_no_answer(archive, tmp_path, started, answers_right):
    logs = tmp_path / "state0" / "logs"
    logs.mkdir(parents=True)
    (tmp_path / "state0" / ".iqa-serve").touch()
    for name in ("model_log", "ts_log", "access_log", "model_metrics", "ts_metrics"):
        (logs / f"{name}.log").symlink_to("/dev/full")
    server = started(archive)
    for _ in range(3):
        answers_right(server)
    with Client(server.inference_url, server.token) as client, pytest.raises(ServeError) as caught:
        client.score(REFERENCE, b"broken")
    assert caught.value.code == "bad_image"
    assert server.worker_states() == ["READY"]


@pytest.mark.slow
def test_two_instances_are_independent(archive, started, tmp_path, answers_right):
    other = build_archive(tmp_path / "store", name="other", version="2.0", metrics=["psnr"])
    first, second = started(archive), started(other)
    with Client(second.inference_url, second.token, model="other") as client:
        assert client.score(REFERENCE, REFERENCE).value == float("inf")
        answers_right(first)
        with Client(second.inference_url, first.token(), model="other") as stranger:
            with pytest.raises(ServeError) as caught:
                stranger.score(REFERENCE, REFERENCE)
            assert caught.value.code == "unauthorised"
        servers.stop(first.state)
        assert client.score(REFERENCE, REFERENCE).value == float("inf")
        again = start(first.config)
        answers_right(again)
        assert client.score(REFERENCE, REFERENCE).value == float("inf")
    assert second.worker_states() == ["READY"]
