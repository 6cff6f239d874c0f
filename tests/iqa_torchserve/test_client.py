"""The client, with a server that does what it is told: what is repeated, and what never is."""

import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from iqa_torchserve import client as module
from iqa_torchserve.client import Client, ServeError
from iqa_torchserve.container import CONTENT_TYPE, unpack

SCORE = {"metric": "psnr", "resolved": "psnr", "value": 30.5, "higher_is_better": True}


def reply_to(body, **score):
    images, metrics, _ = unpack(body, most_images=99, most_metrics=99)
    scores = [{**SCORE, "metric": metric, **score} for metric in metrics or ["psnr"]]
    return {"status": 200, "results": [{"status": 200, "scores": scores}] * (len(images) - 1)}


class Told(ThreadingHTTPServer):
    """Answers each request with the next of its answers, and then always with the last one."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.seen, self.lock = [], [], threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            self.server.seen.append((self.path, dict(self.headers), body))
            answers = self.server.answers
            answer = answers.pop(0) if len(answers) > 1 else answers[0] if answers else None
        if answer == "hang up":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if isinstance(answer, float):
            time.sleep(answer)
            answer = None
        status, said = answer or (200, reply_to(body))
        data = said if isinstance(said, bytes) else json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def told():
    server = Told()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def waits(monkeypatch):
    """The waits before retries, which are recorded instead."""
    longest = []
    monkeypatch.setattr(module.random, "uniform", lambda low, high: longest.append(high) or 0)
    return longest


@pytest.fixture
def client(told):
    with Client(told.url, "token", retries=3) as client:
        yield client


def test_a_request_is_a_raw_body_with_the_token(client, told):
    assert client.score(b"reference", b"distorted", "psnr").value == 30.5
    ((path, headers, body),) = told.seen
    assert path == "/predictions/iqa"
    assert headers["Authorization"] == "Bearer token"
    assert headers["Content-Type"] == CONTENT_TYPE
    expected = ([b"reference", b"distorted"], ["psnr"], False)
    assert unpack(body, most_images=2, most_metrics=1) == expected


BUSY = {"code": 503, "type": "ServiceUnavailableException", "message": "No worker is available"}
DRAINING = {"status": 503, "code": "draining", "message": "about to stop"}


@pytest.mark.parametrize("first", [(503, BUSY), (503, DRAINING), (503, b""), "hang up"])
def test_busy_servers_and_lost_connections_are_tried_again(client, told, waits, first):
    told.answers = [first, first, None]
    assert client.score(b"a", b"b").value == 30.5
    assert len(told.seen) == 3
    assert waits == [0.25, 0.5]


@pytest.mark.parametrize(
    ("answer", "code"),
    [((503, BUSY), "busy"), ((503, DRAINING), "draining"), ("hang up", "unreachable")],
)
def test_retries_end(client, told, waits, answer, code):
    told.answers = [answer]
    with pytest.raises(ServeError) as caught:
        client.score(b"a", b"b")
    assert (caught.value.code, len(told.seen), len(waits)) == (code, 4, 3)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ((400, {"status": 400, "code": "bad_image", "message": "broken"}), "bad_image"),
        ((500, {"status": 500, "code": "internal", "message": "failed"}), "internal"),
        ((500, {"code": 500, "type": "InternalServerException", "message": "died"}), "failed"),
        ((404, {"code": 404, "type": "ModelNotFoundException", "message": "?"}), "unknown_model"),
        ((413, b""), "too_large"),
        ((200, b"<html>"), "failed"),
        ((302, b""), "failed"),
    ],
)
def test_nothing_else_is_tried_again(client, told, waits, answer, code):
    told.answers = [answer]
    with pytest.raises(ServeError) as caught:
        client.score(b"a", b"b")
    assert (caught.value.code, len(told.seen), waits) == (code, 1, [])


def test_a_timeout_is_not_repeated(told, waits):
    told.answers = [1.0]
    with Client(told.url, "token", timeout=(5, 0.2)) as client, pytest.raises(ServeError) as caught:
        client.score(b"a", b"b")
    assert (caught.value.code, len(told.seen), waits) == ("unreachable", 1, [])


def test_a_renewed_token_is_requested_once(told):
    tokens = iter(["old", "new", "new"])
    told.answers = [(400, {"code": 400, "type": "InvalidKeyException", "message": "no"}), None]
    with Client(told.url, lambda: next(tokens)) as client:
        assert client.score(b"a", b"b").value == 30.5
    sent = [headers["Authorization"] for _, headers, _ in told.seen]
    assert sent == ["Bearer old", "Bearer new"]


def test_a_token_refused_by_a_gateway_is_requested_again(told):
    tokens = iter(["old", "new", "new"])
    told.answers = [(401, {"code": "unauthorised", "message": "expected a token"}), None]
    with Client(told.url, lambda: next(tokens)) as client:
        assert client.score(b"a", b"b").value == 30.5
    assert len(told.seen) == 2


def test_connections_are_reused_from_one_run_to_the_next(client, told):
    for _ in range(4):
        assert len(list(client.compare_many([(b"a", [b"b"])] * 12, in_flight=3))) == 12
    assert len(client._idle) <= 3


def test_a_token_that_stays_refused_is_an_error(client, told, waits):
    told.answers = [(400, {"code": 400, "type": "InvalidKeyException", "message": "no"})]
    with pytest.raises(ServeError) as caught:
        client.score(b"a", b"b")
    assert (caught.value.code, caught.value.status, len(told.seen)) == ("unauthorised", 400, 1)


def test_each_image_and_metric_has_its_own_outcome(client, told):
    result = {
        "status": 200,
        "scores": [SCORE, {"metric": "x", "code": "too_small", "message": "m"}],
    }
    bad = {"status": 400, "code": "bad_image", "message": "broken"}
    told.answers = [(200, {"status": 200, "results": [result, bad]})]
    first, second = client.compare(b"a", [b"b", b"c"], ["psnr", "x"])
    assert (first[0].value, first[1].code) == (30.5, "too_small")
    assert [outcome.code for outcome in second] == ["bad_image", "bad_image"]


def test_infinite_values_come_back_as_numbers(client, told):
    result = {"status": 200, "scores": [{**SCORE, "value": "Infinity"}]}
    told.answers = [(200, {"status": 200, "results": [result]})]
    assert client.score(b"a", b"b").value == float("inf")


def test_many_requests_run_at_a_time_and_return_in_order(told):
    def jobs():
        for number in range(40):
            yield str(number).encode(), [b"x"] * (number % 3 + 1)

    with Client(told.url, "token") as client:
        answers = list(client.compare_many(jobs(), in_flight=6))
    assert [len(answer) for answer in answers] == [number % 3 + 1 for number in range(40)]
    assert len(told.seen) == 40
    with pytest.raises(ValueError, match="in_flight"):
        client.compare_many([], in_flight=0)


def test_each_of_many_requests_fails_by_itself(client, told, tmp_path):
    told.answers = [None]
    answers = list(client.compare_many([(b"a", [b"b"]), (tmp_path / "gone", [b"b"])], in_flight=2))
    assert answers[0][0][0].value == 30.5
    assert isinstance(answers[1], OSError)


def test_a_proxy_never_sees_the_token(client, told, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert client.score(b"a", b"b").value == 30.5


@pytest.mark.parametrize("token", ["ü€", "two\nlines"])
def test_an_invalid_token_is_refused(token):
    with pytest.raises(ValueError, match="ASCII"):
        Client("http://127.0.0.1:9", token)


@pytest.mark.parametrize("options", [{"retries": -1}, {"backoff": 0}, {"timeout": (0, 1)}])
def test_options_are_checked(options):
    with pytest.raises(ValueError, match="expected retries"):
        Client("http://127.0.0.1:9", "token", **options)


def test_a_client_without_a_server_says_so():
    client = Client("http://127.0.0.1:9", "token", retries=0)
    with client, pytest.raises(ServeError) as caught:
        client.score(b"a", b"b")
    assert (caught.value.code, caught.value.status) == ("unreachable", None)
