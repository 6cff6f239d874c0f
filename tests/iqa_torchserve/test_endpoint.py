"""A real TorchServe answers right, and refuses clearly."""

import base64
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import requests
from material import encoded
from PIL import Image

from iqa_metrics import score
from iqa_torchserve.client import Client, ServeError

pytest.importorskip("ts")
pytestmark = pytest.mark.server


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


def test_a_token_that_is_no_token_is_refused():
    with pytest.raises(ValueError, match="ASCII"):
        Client("http://127.0.0.1:9", "ü€")


def test_a_client_without_a_server_says_so():
    with Client("http://127.0.0.1:9", "token") as client, pytest.raises(ServeError) as caught:
        client.score(GOOD, GOOD)
    assert (caught.value.code, caught.value.status) == ("unreachable", None)
