"""A real TorchServe returns right values and clear errors."""

import base64
import csv
import json
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import requests
import torch
from material import encoded, scan_bomb
from PIL import Image
from profiles import P3, cicp, iccp, png
from typer.testing import CliRunner

from iqa_metrics import create_metric, read_image, score
from iqa_torchserve.cli import app
from iqa_torchserve.client import Client, ServeError
from iqa_torchserve.container import pack
from iqa_torchserve.logs import last_lines, log_file

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


def test_all_forms_give_the_same(server, pairs):
    reference, *distorted = [pairs[0][0], pairs[0][1], pairs[1][1]]
    metrics = ["ssim", "default"]
    texts = [base64.b64encode(data).decode() for data in distorted]
    text = base64.b64encode(reference).decode()
    answers = [
        post(server, data=pack([reference, *distorted], metrics, maps=True)),
        post(
            server,
            json={"reference": text, "distorted": texts, "metric": metrics, "map": True},
        ),
        post(
            server,
            files={
                "reference": ("r", reference, "image/png"),
                "distorted_1": ("a", distorted[0], "image/jpeg"),
                "distorted_2": ("b", distorted[1], "image/jpeg"),
            },
            data={"metric": ",".join(metrics), "map": "true"},
        ),
    ]
    bodies = [answer.json() for answer in answers]
    for answer, body in zip(answers, bodies, strict=True):
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("application/json")
        assert body.pop("request_id") == answer.headers["x-request-id"]
        for result in body["results"]:
            for found in result["scores"]:
                assert found.pop("map")["png"]
    assert bodies[0] == bodies[1] == bodies[2]
    values = [found["value"] for result in bodies[0]["results"] for found in result["scores"]]
    expected = [score(reference, image, metric) for image in distorted for metric in metrics]
    assert values == pytest.approx(expected, rel=1e-6)


def test_what_was_done_about_colours_reaches_the_client(client):
    wide = png(RGB, iccp(P3))
    served = client.score(GOOD, wide, "psnr")
    assert served.value == pytest.approx(score(GOOD, wide, "psnr"), rel=1e-6)
    assert served.colour == "distorted: Display P3 to sRGB"
    assert client.score(GOOD, GOOD).colour == ""


def test_maps_reach_the_client(client, pairs):
    reference, distorted = pairs[0]
    ((found,),) = client.compare(reference, [distorted], ["ssim"], maps=True)
    with torch.no_grad():
        images = read_image(reference), read_image(distorted)
        expected = create_metric("ssim")(*images, map=True)[0, 0].numpy()
    assert np.abs(found.map.values() - expected).max() < 2e-5


def test_a_repeated_form_field_is_refused(server, client):
    picture = encoded(np.random.default_rng(1).integers(0, 256, (60, 60, 3), dtype=np.uint8))
    parts = [(name, ("x", picture, "image/png")) for name in ("reference", "distorted")]
    answer = post(server, files=[*parts, parts[1]])
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert "is repeated" in answer.json()["message"]
    assert client.score(picture, picture).value == 0


def test_a_header_that_asks_for_the_description_changes_nothing(server, client):
    headers = {"Authorization": f"Bearer {server.token()}", "describe": "True"}
    url = f"{server.inference_url}/predictions/iqa"
    answer = requests.post(url, data=pack([GOOD, GOOD]), headers=headers, timeout=60)
    assert answer.json()["results"][0]["scores"][0]["value"] == 0


def test_identical_images(client, pairs):
    reference = pairs[0][0]
    assert client.score(reference, reference).value == 0
    assert client.score(reference, reference, "psnr").value == float("inf")


def test_simultaneous_requests_do_not_disturb_each_other(server, pairs):
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
    "too slow": (scan_bomb(), "too_slow"),
    "colours of HDR": (png(RGB, cicp(9, 16, 0, 1)), "bad_colour"),
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
    "a raw body that is cut off": ({"data": pack([GOOD, GOOD])[:-1]}, "bad_request"),
    "a raw body of another version": ({"data": b"IQAR\x02" + bytes(20)}, "bad_request"),
    "a raw body with more images than are taken": ({"data": pack([GOOD] * 10)}, "too_large"),
    "a map that is neither true nor false": (
        {"json": {"reference": TEXT, "distorted": TEXT, "map": 1}},
        "bad_request",
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
    assert caught.value.code == "unauthorised"
    assert client.score(GOOD, GOOD).value == 0


def test_requests_are_counted_and_logged(server, client, pairs):
    def counted():
        text = requests.get(server.config.metrics_url, timeout=30).text
        found = re.findall(r"^(\w+)\{([^}]*)\} (\S+)$", text, re.MULTILINE)
        return {
            (name, *re.findall(r'(?:Metric|Code)="([^"]*)"', labels)): float(value)
            for name, labels, value in found
        }

    before = counted()
    client.compare(*pairs[0][:1], [pairs[0][1], b"broken"], ["ssim", "psnr"])
    end = time.monotonic() + 30
    while counted() == before or ("iqa_errors_total", "bad_image") not in counted():
        assert time.monotonic() < end
        time.sleep(0.1)
    after = counted()
    for key, more in (
        (("iqa_pairs_scored_total", "ssim"), 1),
        (("iqa_pairs_scored_total", "psnr"), 1),
        (("iqa_errors_total", "bad_image"), 1),
        (("iqa_batch_requests_count",), 1),
        (("iqa_batch_pairs_sum",), 2),
    ):
        assert after[key] - before.get(key, 0) == more, key
    assert after["iqa_decode_seconds_sum",] > 0
    assert after["iqa_forward_seconds_sum", "ssim"] > 0
    assert 1e8 < after["iqa_worker_memory_bytes",] < 1e10
    assert after["ts_queue_latency_microseconds",] > 0
    lines = last_lines(log_file(server.state, "requests"), "requests", 1)
    said = json.loads(lines[0])
    assert (said["pairs"], said["failed"], said["status"]) == (2, 1, 200)
    assert re.fullmatch(r"[0-9a-f-]{36}", said["request_id"])


def test_a_table_is_scored_by_the_server_and_resumed(server, pairs, photographs, tmp_path):
    names = []
    for number, photograph in enumerate(photographs.values()):
        (tmp_path / f"r{number}.png").write_bytes(encoded(photograph))
        for quality in (10, 20, 30):
            name = f"d{number}-{quality}.jpg"
            (tmp_path / name).write_bytes(encoded(photograph, "JPEG", quality=quality))
            names.append((f"r{number}.png", name))
    (tmp_path / "broken.png").write_bytes(b"broken")
    names += [("r0.png", "gone.jpg"), ("r0.png", "broken.png"), ("gone.png", names[0][1])]
    table = tmp_path / "pairs.csv"
    table.write_text("\n".join(["reference,distorted", *(",".join(row) for row in names)]))
    arguments = ["score", "--pairs", table, "--state", server.state, "-m", "default", "-m", "psnr"]

    def run(out, *more):
        return CliRunner().invoke(app, [str(a) for a in [*arguments, "--out", out, *more]])

    whole = tmp_path / "whole.csv"
    result = run(whole)
    assert result.exit_code == 1, result.output
    assert f"{len(names) * 2 - 6} of {len(names) * 2} scores" in result.stderr
    rows = list(csv.DictReader(whole.read_text().splitlines()))
    assert [(r["reference"], r["distorted"]) for r in rows[::2]] == names
    for row in rows[:18]:
        pair = (tmp_path / row["reference"], tmp_path / row["distorted"])
        assert float(row["value"]) == pytest.approx(score(*pair, row["metric"]), rel=1e-6)
    codes = [row["error"].split(":")[0] for row in rows[18:]]
    assert codes == ["not_found"] * 2 + ["bad_image"] * 2 + ["not_found"] * 2
    content = whole.read_bytes()
    for size in (0, 10, 60, 400, len(content) - 30, len(content)):
        part = tmp_path / "part.csv"
        part.write_bytes(content[:size])
        assert run(part, "--resume", "--in-flight", 2).exit_code == 1
        again = list(csv.DictReader(part.read_text().splitlines()))
        assert [(r["distorted"], r["metric"], r["error"].split(":")[0]) for r in again] == [
            (r["distorted"], r["metric"], r["error"].split(":")[0]) for r in rows
        ]
        values = [float(r["value"]) for r in again if r["value"]]
        assert values == pytest.approx([float(r["value"]) for r in rows if r["value"]], rel=1e-6)
    assert run(table).exit_code == 2
    assert run(whole, "--json").exit_code == 2
