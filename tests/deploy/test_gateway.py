"""The gateway in a real nginx, with a stand-in for TorchServe: what passes, and what does not."""

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from material import REPOSITORY

trustme = pytest.importorskip("trustme")

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not here")

TOKEN = "Zq3" + "k" * 29
NEXT_TOKEN = "n-_" + "7" * 29
MODEL = "/predictions/iqa"
SERVICE = "org.pytorch.serve.grpc.inference.InferenceAPIsService"
LIMIT = 32 * 2**20
# nginx won't be root; a test may be.
NOBODY = 65534 if os.getuid() == 0 else None


class StandIn(BaseHTTPRequestHandler):
    """Records requests, and replies with what the request says or with the request's own body."""

    protocol_version = "HTTP/1.1"

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.came.append((self.command, self.path, dict(self.headers), body))
        status, reply = 200, body
        if body.startswith(b'{"status"'):
            status, reply = json.loads(body)["status"], body
        if body == b"slow":
            self.server.release.wait(60)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Request-Id", "an-id")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    do_GET = do_POST = do_PUT = do_DELETE = do_OPTIONS = answer  # noqa: N815 - as http.server asks

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def endpoint():
    """A stand-in for TorchServe: ``came`` has the requests, ``release`` ends slow ones."""
    with ThreadingHTTPServer(("127.0.0.1", 0), StandIn) as server:
        server.came, server.release = [], threading.Event()
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.release.set()
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def rendered(values):
    """Return the template as envsubst fills it in when the names are listed."""
    text = (REPOSITORY / "deploy" / "gateway" / "nginx.conf.template").read_text()
    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda m: values.get(m[1] or m[2], m[0]), text)


@contextlib.contextmanager
def running(authority, containers, endpoint_port, **changed):
    """Run nginx in its own folder, with the Deployment's values except for ports and folders."""
    port, metrics = free_ports(2)
    folder = Path(tempfile.mkdtemp(prefix="iqa-gateway-"))
    address = f"127.0.0.1:{endpoint_port}"
    given = {one["name"]: one["value"] for one in containers["gateway"]["env"] if "value" in one}
    values = {
        **{name: value for name, value in given.items() if name.startswith("GATEWAY_")},
        "GATEWAY_LISTEN": f"127.0.0.1:{port}",
        "GATEWAY_METRICS_LISTEN": f"127.0.0.1:{metrics}",
        "GATEWAY_TLS": str(folder),
        "GATEWAY_FOLDER": str(folder),
        **dict.fromkeys(("GATEWAY_HTTP", "GATEWAY_GRPC", "GATEWAY_METRICS"), address),
        "GATEWAY_TOKEN": TOKEN,
        "GATEWAY_NEXT_TOKEN": "",
        **changed,
    }
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(str(folder / "tls.key"))
    for at, part in enumerate(certificate.cert_chain_pems):
        part.write_to_path(str(folder / "tls.crt"), append=at > 0)
    configuration = folder / "nginx.conf"
    configuration.write_text(rendered(values))
    assert "GATEWAY_" not in re.sub(r"#.*", "", configuration.read_text())
    output, errors = folder / "output", folder / "errors"
    try:
        with output.open("ab") as out, errors.open("ab") as err:
            if NOBODY is not None:
                for path in (folder, *folder.iterdir()):
                    os.chown(path, NOBODY, NOBODY)
            command = [NGINX, "-p", str(folder), "-c", str(configuration), "-g", "daemon off;"]
            unprivileged = {} if NOBODY is None else {"user": NOBODY, "group": NOBODY}
            process = subprocess.Popen(
                command, stdout=out, stderr=err, env={"PATH": "/usr/bin:/bin"}, **unprivileged
            )
        try:
            wait_for(port, process, errors)
            context = ssl.create_default_context()
            authority.configure_trust(context)
            yield SimpleNamespace(
                port=port,
                metrics=metrics,
                context=context,
                process=process,
                output=output,
                errors=errors,
            )
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
    finally:
        shutil.rmtree(folder)


def wait_for(port, process, errors):
    end = time.monotonic() + 30
    while time.monotonic() < end:
        assert process.poll() is None, errors.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise AssertionError(errors.read_text())


@pytest.fixture(scope="module")
def gateway(authority, containers, endpoint):
    port = endpoint.server_address[1]
    with running(authority, containers, port, GATEWAY_BODY_TIMEOUT="1s") as one:
        yield one


@pytest.fixture(autouse=True)
def forgotten(endpoint):
    endpoint.came.clear()
    endpoint.release.clear()


@contextlib.contextmanager
def connected(gateway):
    connection = http.client.HTTPSConnection(
        "127.0.0.1", gateway.port, context=gateway.context, timeout=60
    )
    try:
        yield connection
    finally:
        connection.close()


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def ask(gateway, method="POST", path=MODEL, body=b"images", headers=None):
    """Return the status, the headers and the body of a reply."""
    with connected(gateway) as connection:
        connection.request(method, path, body, bearer(TOKEN) if headers is None else headers)
        reply = connection.getresponse()
        return reply.status, reply.headers, reply.read()


def refused(answer, status, code):
    """Check that a reply comes from the gateway itself."""
    assert answer[0] == status
    assert answer[1]["Content-Type"] == "application/json"
    said = json.loads(answer[2])
    assert said.keys() == {"code", "message"}
    assert said["code"] == code
    assert said["message"]
    return True


def test_a_request_with_the_token_passes_both_ways_unchanged(gateway, endpoint):
    body = bytes(range(256)) * 1000
    headers = {**bearer(TOKEN), "Content-Type": "multipart/form-data; boundary=x"}
    status, said, reply = ask(gateway, body=body, headers=headers)
    assert (status, said["Content-Type"], reply) == (200, "application/json", body)
    ((method, path, received, came),) = endpoint.came
    assert (method, path, came) == ("POST", MODEL, body)
    assert received["Content-Type"] == "multipart/form-data; boundary=x"


def test_neither_the_token_nor_other_headers_reach_the_endpoint(gateway, endpoint):
    ask(gateway, headers={**bearer(TOKEN), "describe": "True", "Cookie": "a=b", "X-Other": "1"})
    ((_, _, received, _),) = endpoint.came
    assert {name.lower() for name in received} <= {"host", "connection", "content-length"}


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer wrong",
        f"Bearer {TOKEN}x",
        f"Bearer x{TOKEN}",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN.lower()}",
        f"Bearer {TOKEN} {TOKEN}",
        f"Bearer {NEXT_TOKEN}",
        f"Basic {TOKEN}",
        TOKEN,
        "Bearer ",
        "Bearer",
        " ",
        "Bearer ${GATEWAY_NEXT_TOKEN}",
        "Bearer .*",
        None,
    ],
)
def test_a_wrong_or_missing_token_is_refused(authorization, gateway, endpoint):
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = ask(gateway, headers=headers)
    assert refused(answer, 401, "unauthorised")
    assert answer[1]["WWW-Authenticate"].startswith("Bearer")
    assert endpoint.came == []


def test_both_tokens_are_accepted_during_a_rotation(authority, containers, endpoint):
    port = endpoint.server_address[1]
    with running(authority, containers, port, GATEWAY_NEXT_TOKEN=NEXT_TOKEN) as gateway:
        for token in (TOKEN, NEXT_TOKEN):
            assert ask(gateway, headers=bearer(token))[0] == 200
        assert refused(ask(gateway, headers=bearer(TOKEN + NEXT_TOKEN)), 401, "unauthorised")
    with running(authority, containers, port, GATEWAY_NEXT_TOKEN=TOKEN) as gateway:
        assert ask(gateway)[0] == 200


@pytest.mark.parametrize("token", ["", "PLACEHOLDER", "x" * 31])
def test_empty_and_short_tokens_give_no_access(token, authority, containers, endpoint):
    port = endpoint.server_address[1]
    with running(authority, containers, port, GATEWAY_TOKEN=token) as gateway:
        for said in (f"Bearer {token}", "Bearer ", "Bearer", " ", ""):
            assert refused(ask(gateway, headers={"Authorization": said}), 401, "unauthorised")
    assert endpoint.came == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_are_refused(method, gateway, endpoint):
    answer = ask(gateway, method=method)
    if method == "HEAD":
        assert answer[0] == 405
    else:
        assert refused(answer, 405, "method_not_allowed")
    assert answer[1]["Allow"] == "POST"
    assert endpoint.came == []


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/ping", "/models", "/models/iqa", "/models/iqa?customized=true", "/metrics"),
        *("/predictions", "/predictions/", "/predictions/other", "/predictions/iqa/"),
        *("/predictions/iqa/1.0", "/predictions/../models", "/predictions/iqa/../../models"),
        *("/predictions%2Fiqa%2F..%2F..%2Fmodels", "/explanations/iqa", "/v1/models/iqa:predict"),
        *(
            "/bad_request",
            "/Predictions/iqa",
            "/predictions/iqa;x",
            "/workflows",
            "/api-description",
        ),
        *(
            f"/{SERVICE}/Ping",
            "/org.pytorch.serve.grpc.management.ManagementAPIsService/ListModels",
        ),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_other_paths_never_pass(method, path, gateway, endpoint):
    assert refused(ask(gateway, method=method, path=path), 404, "not_found")
    assert endpoint.came == []


@pytest.mark.parametrize(
    "path", ["/models/../predictions/iqa", "//predictions/./iqa", f"{MODEL}?a"]
)
def test_equivalent_paths_arrive_as_the_same_path(path, gateway, endpoint):
    assert ask(gateway, path=path)[0] == 200
    ((_, came, _, _),) = endpoint.came
    assert came.split("?")[0] == MODEL


def test_a_body_of_32_mib_passes_and_a_larger_one_is_refused(gateway, endpoint):
    body = b"x" * LIMIT
    assert ask(gateway, body=body)[0] == 200
    ((_, _, _, came),) = endpoint.came
    assert came == body
    with connected(gateway) as connection:
        # Refused by its length, before it is sent.
        connection.putrequest("POST", MODEL)
        connection.putheader("Authorization", f"Bearer {TOKEN}")
        connection.putheader("Content-Length", str(LIMIT + 1))
        connection.endheaders()
        reply = connection.getresponse()
        assert refused((reply.status, reply.headers, reply.read()), 413, "too_large")
    assert len(endpoint.came) == 1


def test_a_body_of_unknown_length_is_refused_where_it_gets_too_large(gateway, endpoint):
    with connected(gateway) as connection:
        pieces = (b"x" * 2**20 for _ in range(33))
        connection.request("POST", MODEL, pieces, bearer(TOKEN), encode_chunked=True)
        reply = connection.getresponse()
        assert refused((reply.status, reply.headers, reply.read()), 413, "too_large")
    assert endpoint.came == []


@pytest.mark.parametrize("status", [400, 401, 404, 405, 413, 500, 502, 503, 504])
def test_the_endpoints_own_refusals_pass_unchanged(status, gateway, endpoint):
    body = json.dumps({"status": status, "code": "draining", "message": "its own"}).encode()
    answered, headers, reply = ask(gateway, body=body)
    assert (answered, headers["Content-Type"], reply) == (status, "application/json", body)
    assert headers["X-Request-Id"] == "an-id"
    assert len(endpoint.came) == 1  # and nothing is tried again


def test_a_missing_endpoint_is_reported(authority, containers):
    (closed,) = free_ports(1)
    with running(authority, containers, closed) as gateway:
        assert refused(ask(gateway), 503, "unavailable")


def test_too_many_simultaneous_requests_are_refused(authority, containers, endpoint):
    port = endpoint.server_address[1]
    with (
        running(authority, containers, port, GATEWAY_REQUESTS="1") as gateway,
        ThreadPoolExecutor(1) as pool,
    ):
        answer = pool.submit(ask, gateway, body=b"slow")
        wait_for_request(endpoint)
        assert refused(ask(gateway), 503, "overloaded")
        endpoint.release.set()
        assert answer.result(60)[0] == 200
        assert ask(gateway)[0] == 200


def test_a_malformed_request_is_answered_in_json(gateway):
    said = raw(gateway, b"POST /predictions/iqa%zz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 400 ")
    assert json.loads(said.split(b"\r\n\r\n", 1)[1])["code"] == "bad_request"


def test_plain_http_is_refused(gateway):
    with socket.create_connection(("127.0.0.1", gateway.port), 30) as plain:
        plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert plain.recv(100).startswith(b"HTTP/1.1 400 ")


def raw(gateway, data):
    """Send these bytes, then nothing, and return what arrives until the connection ends."""
    said = b""
    with (
        socket.create_connection(("127.0.0.1", gateway.port), 60) as plain,
        gateway.context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        connection.sendall(data)
        with contextlib.suppress(ConnectionResetError, ssl.SSLEOFError):
            while piece := connection.recv(65536):
                said += piece
    return said


def test_a_client_that_stops_sending_is_dropped(gateway, endpoint):
    head = f"POST {MODEL} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
    # It returns, rather than running into its own timeout, and nobody heard of the request.
    assert raw(gateway, f"{head}Content-Length: 1000\r\n\r\nsome".encode()) == b""
    assert endpoint.came == []


def test_the_gateway_answers_health_without_a_token(gateway, endpoint):
    status, _, reply = ask(gateway, method="GET", path="/healthz", body=None, headers={})
    assert (status, json.loads(reply)) == (200, {"status": "ok"})
    assert endpoint.came == []


def plain(port, method, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, headers=bearer(TOKEN))
        reply = connection.getresponse()
        reply.read()
        return reply.status
    finally:
        connection.close()


def test_metrics_are_only_on_their_own_port(gateway, endpoint):
    assert plain(gateway.metrics, "GET", "/metrics") == 200
    assert [(method, path) for method, path, _, _ in endpoint.came] == [("GET", "/metrics")]
    assert plain(gateway.metrics, "POST", "/metrics") == 405
    for path in ("/", MODEL, "/models", "/healthz"):
        assert plain(gateway.metrics, "GET", path) == 404
        assert plain(gateway.metrics, "POST", path) == 404
    assert refused(ask(gateway, method="GET", path="/metrics"), 404, "not_found")
    assert len(endpoint.came) == 1


def test_the_log_has_requests_but_no_tokens(authority, containers, endpoint):
    port = endpoint.server_address[1]
    with running(authority, containers, port, GATEWAY_NEXT_TOKEN=NEXT_TOKEN) as gateway:
        ask(gateway)
        ask(gateway, headers=bearer(NEXT_TOKEN))
        ask(gateway, headers=bearer("w" * 40))
        ask(gateway, path=f"{MODEL}?token={TOKEN}")
        raw(gateway, f"POST / HTTP/1.1\r\nAuthorization Bearer {TOKEN}\r\n\r\n".encode())
        command = Path(f"/proc/{gateway.process.pid}/cmdline")
        if command.exists():
            assert TOKEN.encode() not in command.read_bytes()
        gateway.process.terminate()
        gateway.process.wait(20)
        lines = gateway.output.read_text().splitlines()
        written = gateway.output.read_text() + gateway.errors.read_text()
    said = [json.loads(line) for line in lines]
    assert [one["status"] for one in said[:4]] == ["200", "200", "401", "200"]
    assert {one["path"] for one in said[:4]} == {MODEL}
    assert said[0]["request_id"] == "an-id"
    assert not any(token in written for token in (TOKEN, NEXT_TOKEN, "w" * 40))


def test_a_terminating_gateway_finishes_requests_in_progress(authority, containers, endpoint):
    port = endpoint.server_address[1]
    with (
        running(authority, containers, port) as gateway,
        ThreadPoolExecutor(1) as pool,
    ):
        answer = pool.submit(ask, gateway, body=b"slow")
        wait_for_request(endpoint)
        gateway.process.send_signal(signal.SIGQUIT)  # what its image is stopped with
        end = time.monotonic() + 30
        while is_open(gateway.port) and time.monotonic() < end:
            time.sleep(0.02)
        assert not is_open(gateway.port)
        endpoint.release.set()
        assert answer.result(60)[::2] == (200, b"slow")
        assert gateway.process.wait(30) == 0


def wait_for_request(endpoint):
    end = time.monotonic() + 30
    while not endpoint.came and time.monotonic() < end:
        time.sleep(0.02)
    assert endpoint.came


def is_open(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5):
        return True
    return False


def test_grpc_passes_predictions_with_a_token_and_nothing_else(authority, containers, endpoint):
    grpc = pytest.importorskip("grpc")
    came = []

    def answer(request, context):
        came.append({pair.key: pair.value for pair in context.invocation_metadata()})
        return request

    method = grpc.unary_unary_rpc_method_handler(answer)
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler(name, {"Predictions": method, "Other": method})
            for name in (SERVICE, "org.pytorch.serve.grpc.management.ManagementAPIsService")
        ]
    )
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    port = endpoint.server_address[1]
    trust = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
    try:
        with (
            running(authority, containers, port, GATEWAY_GRPC=address) as gateway,
            grpc.secure_channel(
                f"127.0.0.1:{gateway.port}",
                trust,
                options=[("grpc.max_receive_message_length", -1)],
            ) as channel,
        ):

            def call(authorization, name=f"{SERVICE}/Predictions", body=b"images"):
                metadata = [("describe", "True")]
                if authorization is not None:
                    metadata.append(("authorization", authorization))
                return channel.unary_unary(f"/{name}")(body, metadata=metadata, timeout=60)

            large = b"x" * 2**21
            assert call(f"Bearer {TOKEN}", body=large) == large
            assert not {"authorization", "describe"} & came[0].keys()
            for wrong in (None, "Bearer ", "Bearer wrong", ""):
                with pytest.raises(grpc.RpcError) as refusal:
                    call(wrong)
                assert refusal.value.code() is grpc.StatusCode.UNAUTHENTICATED
            for name in (
                f"{SERVICE}/Other",
                "org.pytorch.serve.grpc.management.ManagementAPIsService/Predictions",
            ):
                with pytest.raises(grpc.RpcError) as refusal:
                    call(f"Bearer {TOKEN}", name)
                assert refusal.value.code() is grpc.StatusCode.UNIMPLEMENTED
            assert len(came) == 1
    finally:
        server.stop(None).wait()
