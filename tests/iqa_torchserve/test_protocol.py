"""Requests: both forms parse alike; what is wrong is said."""

import base64
import json

import pytest

from iqa_torchserve.protocol import RequestError, ScoreRequest, parse_request

TEXT = base64.b64encode(b"image").decode()


@pytest.mark.parametrize("metric", [None, "psnr"])
def test_all_forms_parse_alike(metric):
    form = {"reference": bytearray(b"image"), "distorted": b"image"}
    body = {"reference": TEXT, "distorted": TEXT}
    if metric:
        form["metric"], body["metric"] = bytearray(metric.encode()), metric
    expected = ScoreRequest(b"image", b"image", metric)
    raw = json.dumps(body).encode()
    for data in (form, {**form, **({"metric": metric} if metric else {})}, {"body": body}):
        assert parse_request(data) == expected
    assert parse_request({"body": raw}) == parse_request({"body": bytearray(raw)}) == expected


GOOD = {"reference": b"a", "distorted": b"b"}
JSON = {"reference": TEXT, "distorted": TEXT}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "no field 'reference', no field 'distorted'"),
        ({"reference": b"a"}, "no field 'distorted'"),
        ({**GOOD, "refrence": b"a"}, "unknown field 'refrence'"),
        ({**GOOD, "body": b"a"}, "unknown field 'body'"),
        ({**GOOD, "reference": "/etc/passwd"}, "got text"),
        ({**GOOD, "metric": b"\xff\xfe"}, "UTF-8"),
        ({"body": b"\x89PNG"}, "neither a multipart form nor JSON"),
        ({"body": b""}, "neither"),
        ({"body": b"[" * 100_000}, "neither"),
        ({"body": [1]}, "got list"),
        ({"body": b"3"}, "got int"),
        ({"body": {**JSON, "reference": 3}}, "base64, got int"),
        ({"body": {**JSON, "reference": None}}, "base64, got NoneType"),
        ({"body": {**JSON, "reference": "not base64!"}}, "not base64"),
        ({"body": {**JSON, "distorted": "ä"}}, "not base64"),
        ({"body": {**JSON, "metric": ["psnr"]}}, "expected text, got list"),
        ({"body": {**JSON, "map": True}}, "unknown field 'map'"),
    ],
)
def test_what_is_wrong_is_said(data, words):
    with pytest.raises(RequestError) as caught:
        parse_request(data)
    assert words in str(caught.value)
    assert caught.value.code == "bad_request"
