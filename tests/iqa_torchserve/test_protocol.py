"""Requests of all forms are parsed alike, errors say what is wrong, replies have all results."""

import base64
import json

import pytest

from iqa_metrics import ImageError
from iqa_torchserve.container import pack
from iqa_torchserve.limits import Limits
from iqa_torchserve.protocol import (
    STATUSES,
    RequestError,
    ScoreRequest,
    error_body,
    item_body,
    parse_request,
    reply_body,
    score_body,
)

TEXT = base64.b64encode(b"image").decode()
LIMITS = Limits(images=3, metrics=2)


def parse(data, headers=None):
    return parse_request(data, LIMITS, headers)


@pytest.mark.parametrize("maps", [False, True])
@pytest.mark.parametrize("metrics", [(), ("psnr",), ("psnr", "a:b+c:d")])
@pytest.mark.parametrize("count", [1, 3])
def test_all_forms_parse_alike(count, metrics, maps):
    names = ["distorted"] if count == 1 else [f"distorted_{n}" for n in range(1, count + 1)]
    images = [f"image {n}".encode() for n in range(count)]
    form = {"reference": bytearray(b"image"), **dict(zip(names, images, strict=True))}
    texts = [base64.b64encode(image).decode() for image in images]
    body = {"reference": TEXT, "distorted": texts[0] if count == 1 else texts}
    if metrics:
        form["metric"] = bytearray(",".join(metrics).encode())
        body["metric"] = metrics[0] if len(metrics) == 1 else list(metrics)
    if maps:
        form["map"], body["map"] = b"true", True
    expected = ScoreRequest(b"image", tuple(images), metrics, maps)
    raw = pack([b"image", *images], metrics, maps=maps)
    json_ = json.dumps(body).encode()
    for data in (form, {"body": body}, {"body": json_}, {"body": bytearray(json_)}):
        assert parse(data) == expected
    assert parse({"body": raw}) == parse({"body": bytearray(raw)}) == expected
    if metrics:
        assert parse({**form, "metric": ",".join(metrics)}) == expected


GOOD = {"reference": b"a", "distorted": b"b"}
JSON = {"reference": TEXT, "distorted": TEXT}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "no field 'reference', no field 'distorted'"),
        ({"reference": b"a"}, "no field 'distorted'"),
        ({**GOOD, "refrence": b"a"}, "unknown field 'refrence'"),
        ({**GOOD, "body": b"a"}, "unknown field 'body'"),
        ({**GOOD, "distorted_1": b"a"}, "either distorted, or distorted_1"),
        ({"reference": b"a", "distorted_2": b"a"}, "without gaps"),
        ({"reference": b"a", "distorted_0": b"a"}, "unknown field 'distorted_0'"),
        ({**GOOD, "reference": "/etc/passwd"}, "got text"),
        ({**GOOD, "metric": b"\xff\xfe"}, "UTF-8"),
        ({**GOOD, "metric": 3}, "expected text, got int"),
        ({**GOOD, "map": b"yes"}, "expected true or false, got 'yes'"),
        ({"body": b"\x89PNG"}, "neither a multipart form nor JSON"),
        ({"body": b""}, "neither"),
        ({"body": b"[" * 100_000}, "neither"),
        ({"body": [1]}, "got list"),
        ({"body": b"3"}, "got int"),
        ({"body": {**JSON, "reference": 3}}, "base64, got int"),
        ({"body": {**JSON, "reference": None}}, "base64, got NoneType"),
        ({"body": {**JSON, "reference": "not base64!"}}, "not base64"),
        ({"body": {**JSON, "distorted": "ä"}}, "not base64"),
        ({"body": {**JSON, "distorted": []}}, "empty list"),
        ({"body": {**JSON, "distorted": [TEXT, None]}}, "base64, got NoneType"),
        ({"body": {**JSON, "metric": ["psnr", 3]}}, "expected text, got int"),
        ({"body": {**JSON, "map": "true"}}, "expected true or false, got str"),
        ({"body": {**JSON, "maps": True}}, "unknown field 'maps'"),
        ({"body": b"IQAR"}, "cut off: got 4 bytes"),
    ],
)
def test_what_is_wrong_is_said(data, words):
    with pytest.raises(RequestError) as caught:
        parse(data)
    assert words in str(caught.value)
    assert caught.value.code == "bad_request"


@pytest.mark.parametrize(
    "data",
    [
        {"reference": b"a", **{f"distorted_{n}": b"b" for n in range(1, 5)}},
        {"body": {**JSON, "distorted": [TEXT] * 4}},
        {"body": pack([b"a"] * 5)},
        {"body": {**JSON, "metric": ["a", "b", "c"]}},
        {**GOOD, "metric": "a,b,c"},
        {"body": pack([b"a"] * 2, ["a", "b", "c"])},
    ],
)
def test_more_than_a_limit_is_too_large(data):
    with pytest.raises(RequestError, match="at most") as caught:
        parse(data)
    assert caught.value.code == "too_large"


def test_a_repeated_form_field_is_noticed():
    # TorchServe hands over the last one alone.
    image = bytes(5000)
    form = {"reference": image, "distorted": image}
    once = {"Content-Type": "multipart/form-data; boundary=x", "Content-Length": "10400"}
    assert parse(form, once).distorted == (image,)
    with pytest.raises(RequestError, match="is repeated"):
        parse(form, {**once, "Content-Length": "15600"})


def test_every_code_of_an_image_has_a_status():
    documented = set(ImageError.__doc__.replace("``", " ").replace(",", " ").split())
    codes = {c for c in STATUSES if c in documented}
    assert {"bad_image", "bad_colour", "too_slow", "has_alpha", "size_mismatch"} <= codes
    assert all(400 <= status < 600 for status in STATUSES.values())


SAID = {"metric": "psnr", "resolved": "psnr", "weights": {}, "signature": "psnr|space:rgb"}
SCORE = score_body(value=1.5, higher_is_better=True, **SAID)
BAD = {"metric": "x", **error_body("too_small", "small")}
WORSE = {"metric": "x", **error_body("internal", "failed")}


def test_a_reply_has_a_code_where_nothing_was_scored():
    model = {"name": "iqa", "version": "1"}
    mixed = item_body([BAD, SCORE], (2, 3))
    assert (mixed["status"], "code" in mixed, mixed["width"]) == (200, False, 2)
    failed = item_body([BAD, WORSE], (2, 3))
    assert (failed["status"], failed["code"]) == (500, "internal")
    small = item_body([BAD, BAD], (2, 3))
    assert (small["status"], small["code"]) == (400, "too_small")
    assert "code" not in reply_body([small, mixed], model, "id")
    whole = reply_body([small, failed, error_body("bad_image", "broken")], model, "id")
    assert (whole["status"], whole["code"], whole["request_id"]) == (500, "internal", "id")
    assert whole["model"] == model
    assert set(whole["versions"]) == {"iqa_metrics", "iqa_torchserve", "torch"}


def test_values_without_a_json_number_are_text():
    said = score_body(value=float("inf"), higher_is_better=True, **SAID)
    assert said["value"] == "Infinity"
