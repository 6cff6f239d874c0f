"""docs/openapi.yaml describes requests and replies, and a real server follows it."""

import base64
import copy
import functools
import json
from collections import Counter

import numpy as np
import pytest
import requests
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from material import REPOSITORY, encoded
from profiles import P3, cicp, iccp, png

from iqa_metrics import PSNR, create_metric
from iqa_torchserve import __version__
from iqa_torchserve.container import CONTENT_TYPE, pack
from iqa_torchserve.limits import Limits
from iqa_torchserve.protocol import STATUSES, RequestError, parse_request
from iqa_torchserve.scorer import Scorer
from iqa_torchserve.worker import Worker

PATH = REPOSITORY / "docs" / "openapi.yaml"
DOCUMENT = yaml.safe_load(PATH.read_text())
SCORING = DOCUMENT["paths"]["/predictions/{model}"]["post"]
DESCRIBING = DOCUMENT["paths"]["/models/{model}"]["get"]
SCHEMAS = DOCUMENT["components"]["schemas"]
CONTENT = SCORING["requestBody"]["content"]
FORM = "multipart/form-data"

RGB = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
GOOD = encoded(RGB)
OTHER = encoded(RGB, "JPEG", quality=10)
SMALL = encoded(RGB[:20, :20])
ALPHA = encoded(np.dstack([RGB, RGB[..., 0]]))
WIDE, HDR = png(RGB, iccp(P3)), png(RGB, cicp(9, 16, 0, 1))


def validator(*path):
    """A validator of the schema at a path in the document."""
    pytest.importorskip("jsonschema")
    from jsonschema import Draft202012Validator
    from referencing import Registry
    from referencing.jsonschema import DRAFT202012

    registry = Registry().with_resource("urn:openapi", DRAFT202012.create_resource(DOCUMENT))
    steps = (str(step).replace("~", "~0").replace("/", "~1") for step in path)
    return Draft202012Validator({"$ref": "urn:openapi#/" + "/".join(steps)}, registry=registry)


def check(body, *path):
    errors = [f"{e.json_path}: {e.message}" for e in validator(*path).iter_errors(body)]
    assert errors == []


def check_reply(status, body):
    media = ("content", "application/json", "schema")
    check(body, "paths", "/predictions/{model}", "post", "responses", status, *media)


def test_the_document_is_valid():
    pytest.importorskip("openapi_spec_validator").validate(DOCUMENT)
    assert DOCUMENT["info"]["license"]["name"] == "Apache-2.0"


def test_its_version_is_that_of_the_package():
    assert DOCUMENT["info"]["version"] == __version__


def test_its_codes_and_their_statuses_are_those_of_the_protocol():
    assert SCHEMAS["Code"]["enum"] == list(STATUSES)
    of_status = {
        code: one["properties"]["status"]["const"]
        for one in SCHEMAS["Problem"]["oneOf"]
        for code in one["properties"]["code"]["enum"]
    }
    assert of_status == dict(STATUSES)
    assert {str(status) for status in STATUSES.values()} < set(SCORING["responses"])


def test_its_limits_and_content_types_are_those_of_the_code():
    assert set(SCHEMAS["Limits"]["required"]) == set(Limits().as_json())
    assert set(SCHEMAS["Limits"]["properties"]) == set(Limits().as_json())
    assert set(CONTENT) == {FORM, "application/json", CONTENT_TYPE}


REQUEST_EXAMPLES = [
    pytest.param(media, example["value"], id=f"{media}-{name}")
    for media, said in CONTENT.items()
    for name, example in said["examples"].items()
]


def as_handed_over(media, value):
    """Return an example of a body as TorchServe passes it to the handler."""
    if media == CONTENT_TYPE:
        return {"body": bytes.fromhex(value)}
    if media == "application/json":
        return {"body": value}
    return {
        name: text.encode() if name in ("metric", "map") else base64.b64decode(text)
        for name, text in value.items()
    }


@pytest.mark.parametrize(("media", "value"), REQUEST_EXAMPLES)
def test_examples_of_requests_are_requests(media, value):
    check(value, "paths", "/predictions/{model}", "post", "requestBody", "content", media, "schema")
    request = parse_request(as_handed_over(media, value), Limits())
    assert request.reference.startswith(b"\x89PNG")
    assert set(request.metrics) <= {"psnr", "ssim"}
    (reply,) = replies(as_handed_over(media, value))
    assert reply.status == 200


def reply_examples():
    for path, method, operation in (
        ("/predictions/{model}", "post", SCORING),
        ("/models/{model}", "get", DESCRIBING),
    ):
        for status, response in operation["responses"].items():
            for media, said in response.get("content", {}).items():
                place = ("paths", path, method, "responses", status, "content", media, "schema")
                assert said["examples"]
                for name, example in said["examples"].items():
                    yield pytest.param(place, example["value"], id=f"{method}-{status}-{name}")


@pytest.mark.parametrize(("place", "value"), list(reply_examples()))
def test_examples_of_replies_match_their_schemas(place, value):
    check(value, *place)


FIELDS = [
    ("reference", b"a"),
    ("distorted", b"b"),
    ("distorted_1", b"b"),
    ("distorted_2", b"b"),
    ("distorted_3", b"b"),
    ("distorted_4", b"b"),
    ("distorted_01", b"b"),
    ("distorted_10000", b"b"),
    ("metric", b"psnr"),
    ("map", b"true"),
    ("map", b"yes"),
    ("mask", b"c"),
]


@settings(max_examples=300)
@given(st.lists(st.sampled_from(FIELDS), unique_by=lambda field: field[0]))
def test_a_form_that_the_schema_refuses_is_refused(fields):
    form = dict(fields)
    fits = validator("components", "schemas", "Form").is_valid(
        {name: value.decode() for name, value in form.items()}
    )
    try:
        parse_request(form, Limits())
        taken = True
    except RequestError:
        taken = False
    # A gap after distorted_3 is what the schema can't tell.
    gap = "distorted_4" in form and "distorted_3" not in form
    assert taken == (fits and not gap)


IMAGE_VALUES = st.sampled_from(["", "YQ==", "%", 3, None, True, {}])
JSON_FIELDS = {
    "reference": IMAGE_VALUES,
    "distorted": st.one_of(IMAGE_VALUES, st.lists(IMAGE_VALUES, max_size=3)),
    "metric": st.sampled_from(["psnr", "", 3, None, {}, [], ["psnr"], ["psnr", 3], [None]]),
    "map": st.sampled_from([True, False, None, 1, "true"]),
    "mask": st.just("YQ=="),
}


@settings(max_examples=500)
@given(
    st.fixed_dictionaries(
        {}, optional={name: st.none() | values for name, values in JSON_FIELDS.items()}
    )
)
def test_a_json_request_that_the_schema_refuses_is_refused(body):
    fits = validator("components", "schemas", "JsonRequest").is_valid(body)
    images = [body.get("reference"), *np.atleast_1d(body.get("distorted"))]
    try:
        parse_request({"body": body}, Limits())
        taken = True
    except RequestError:
        taken = False
    # Schemas describe base64; they don't decode it.
    assert taken == (fits and "%" not in images)


@functools.cache
def scorer():
    return Scorer({name: create_metric(name) for name in ("psnr", "ssim")})


def replies(*requests_):
    return scorer().answer(requests_, request_ids=["an id"] * len(requests_))


def as_json(body):
    return json.loads(json.dumps(body, allow_nan=False))


@pytest.mark.parametrize(
    ("data", "status"),
    [
        ({"body": pack([GOOD, OTHER])}, 200),
        ({"body": pack([GOOD, GOOD, OTHER], ["psnr", "ssim"])}, 200),
        ({"body": pack([GOOD, OTHER], ["psnr", "ssim"], maps=True)}, 200),
        ({"body": pack([GOOD, OTHER, b"broken", SMALL, ALPHA], ["ssim"], maps=True)}, 200),
        ({"body": pack([encoded(RGB[:5])] * 2, ["psnr", "ssim"])}, 200),
        ({"body": pack([encoded(RGB[:5])] * 2, ["ssim"])}, 400),
        ({"body": pack([GOOD, OTHER], ["psnr"], maps=True)}, 400),
        ({"body": pack([GOOD, b"broken", SMALL])}, 400),
        ({"body": pack([GOOD, ALPHA])}, 400),
        ({"body": pack([b"", GOOD, GOOD])}, 400),
        ({"body": pack([GOOD, OTHER, WIDE, HDR], ["psnr"])}, 200),
        ({"body": pack([png(RGB[:5], iccp(P3))] * 2, ["ssim"])}, 400),
        ({"body": pack([GOOD, HDR])}, 400),
        ({"body": pack([GOOD, OTHER], ["nonsense"])}, 400),
        ({"body": pack([GOOD] * 100)}, 400),
        ({"body": pack([GOOD, GOOD])[:-1]}, 400),
        ({"body": [1]}, 400),
        ({"body": b""}, 400),
        ({"reference": GOOD}, 400),
        ({}, 400),
    ],
)
def test_replies_match_their_schemas(data, status):
    (reply,) = replies(data)
    assert reply.status == status
    check_reply(str(status), as_json(reply.body))


class Fails(PSNR):
    """Fails on every pair."""

    def compare(self, reference, distorted):
        raise RuntimeError("secret detail")


def test_replies_of_failures_match_their_schemas(tmp_path):
    failing = Scorer({"psnr": Fails(), "ssim": create_metric("ssim")})
    body = pack([GOOD, OTHER, b"broken"], ["psnr"])
    (reply,) = failing.answer([{"body": body}])
    check_reply("500", as_json(reply.body))
    assert (reply.status, reply.body["code"]) == (500, "internal")
    (reply,) = failing.answer([{"body": pack([GOOD, OTHER], ["psnr", "ssim"])}])
    check_reply("200", as_json(reply.body))
    late = Scorer({"psnr": PSNR()}, limits=Limits(batch_seconds=1e-9))
    (reply,) = late.answer([{"body": body}])
    check_reply("503", as_json(reply.body))
    (tmp_path / "draining").touch()
    ((reply, text),) = Worker(scorer(), state=tmp_path).handle([{"body": body}], [{}], ["id"])
    check_reply("503", json.loads(text))
    assert (reply.status, reply.body["code"]) == (503, "draining")


def test_a_reply_that_drifts_from_its_schema_is_noticed():
    (reply,) = replies({"body": pack([GOOD, OTHER])})
    body = as_json(reply.body)
    schema = validator("components", "schemas", "Scored")
    assert schema.is_valid(body)
    assert not schema.is_valid({**body, "more": 1})
    assert not schema.is_valid({**body, "code": "bad_image"})
    (result,) = body["results"]
    assert not schema.is_valid({**body, "results": [{**result, "more": 1}]})
    (found,) = result["scores"]
    assert not schema.is_valid({**body, "results": [{**result, "scores": [{**found, "more": 1}]}]})
    refused = {"status": 400, "code": "internal", "message": "x", "request_id": ""}
    assert not validator("components", "schemas", "Refused").is_valid(refused)


def test_the_description_matches_its_schema():
    described = as_json(scorer().describe())
    check(described, "components", "schemas", "Description")
    assert not validator("components", "schemas", "Description").is_valid({**described, "more": 1})


# What a request is made of: whole images, equal ones and others, and what is none.
FILES = [*[GOOD] * 6, OTHER, OTHER, SMALL, ALPHA, GOOD[:60], b"", b"text"]
IMAGES = st.sampled_from(FILES)
NAMED = {f"image {number}": image for number, image in enumerate(FILES)}
SPECS = st.sampled_from(["psnr", "ssim", "default"] * 3 + ["nonsense", "", "\0", "ü"])


@st.composite
def containers(draw):
    body = pack(
        draw(st.lists(IMAGES, min_size=2, max_size=4)),
        draw(st.lists(SPECS, max_size=2)),
        maps=draw(st.booleans()),
    )
    kind = draw(st.sampled_from(["whole"] * 3 + ["cut", "changed", "longer"]))
    if kind == "cut":
        return body[: draw(st.integers(0, len(body)))]
    if kind == "changed":
        at = draw(st.integers(0, min(40, len(body) - 1)))
        return body[:at] + bytes([draw(st.integers(0, 255))]) + body[at + 1 :]
    return body + b"more" if kind == "longer" else body


def operation(media):
    """The scoring operation with one form of body, as schemathesis reads it from the document."""
    schemathesis = pytest.importorskip("schemathesis")
    # A name for each image, since schemathesis can't check bytes against a schema.
    schemathesis.openapi.format("binary", st.sampled_from(list(NAMED)))
    schemathesis.openapi.format("byte", IMAGES.map(lambda image: base64.b64encode(image).decode()))
    schemathesis.openapi.format("metric-spec", SPECS)
    schemathesis.openapi.format("metric-specs", st.lists(SPECS, max_size=3).map(",".join))
    schemathesis.openapi.media_type(CONTENT_TYPE, containers())
    # Without the token, which schemathesis would leave out of most bad requests: then nobody reads
    # their bodies.
    document = {name: said for name, said in copy.deepcopy(DOCUMENT).items() if name != "security"}
    body = document["paths"]["/predictions/{model}"]["post"]["requestBody"]
    body["content"] = {media: body["content"][media]}
    return schemathesis.openapi.from_dict(document)["/predictions/{model}"]["POST"]


def authorised(server, kind="inference"):
    return {"Authorization": f"Bearer {server.token(kind)}"}


def check_generated(server, examples, derandomize):
    """Send generated requests, good and bad, and check the replies."""
    pytest.importorskip("schemathesis")
    from schemathesis import GenerationMode, checks
    from schemathesis.specs.openapi import checks as of_openapi

    # Left out: positive_data_acceptance, since no schema says which images and metrics there are;
    # unsupported_method, since TorchServe takes any method; ignored_auth, since it answers 400 to a
    # wrong token, not 401 (tested below).
    checked = [
        of_openapi.status_code_conformance,
        of_openapi.content_type_conformance,
        of_openapi.response_headers_conformance,
        of_openapi.response_schema_conformance,
    ]
    seen = Counter()

    def run(media, mode, extra):
        strategy = operation(media).as_strategy(
            generation_mode=mode, path_parameters={"model": "iqa"}
        )

        @settings(
            max_examples=examples,
            derandomize=derandomize,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=strategy)
        def send(case):
            if case.media_type == FORM and isinstance(case.body, dict):
                case.body = {
                    name: NAMED.get(value, value) if isinstance(value, str) else value
                    for name, value in case.body.items()
                }
            response = case.call(
                base_url=server.inference_url, headers=authorised(server), timeout=60
            )
            seen[case.media_type, response.status_code] += 1
            assert "InvalidKeyException" not in response.text
            # In a form all is text: an empty list is no field, and true is "true". What was to be
            # wrong may then be right.
            more = [] if case.media_type == FORM and not of_text(case.body) else list(extra)
            if not torchserve_can_not_read(case, response):
                more.append(checks.not_a_server_error)
            case.validate_response(response, checks=[*checked, *more])

        send()

    for media in CONTENT:
        run(media, GenerationMode.POSITIVE, [])
        # No schema says what is wrong with a container: its own strategy makes bad ones, too.
        if media != CONTENT_TYPE:
            run(media, GenerationMode.NEGATIVE, [of_openapi.negative_data_rejection])
    return seen


def of_text(body):
    """Return whether all fields of a form are text or bytes before they are encoded."""
    return isinstance(body, dict) and all(isinstance(v, (str, bytes)) for v in body.values())


def torchserve_can_not_read(case, response):
    """Return whether a reply is the documented 500 for a form that TorchServe can't parse."""
    if case.media_type != FORM or response.status_code != 500:
        return False
    return response.json().get("type") == "ErrorDataDecoderException"


def check_still_right(server):
    answer = requests.post(
        f"{server.inference_url}/predictions/iqa",
        data=pack([GOOD, GOOD]),
        headers=authorised(server),
        timeout=60,
    )
    assert answer.json()["results"][0]["scores"][0]["value"] == 0


def check_seen(seen):
    for media in CONTENT:
        for status in (200, 400):
            assert seen[media, status], f"no {status} for {media}: {seen}"


@pytest.mark.server
def test_a_server_follows_the_document(server):
    pytest.importorskip("ts")
    seen = check_generated(server, 20, derandomize=True)
    check_seen(seen)
    check_still_right(server)


@pytest.mark.slow
@pytest.mark.server
def test_a_server_follows_the_document_in_a_long_run(server):
    pytest.importorskip("ts")
    seen = check_generated(server, 150, derandomize=False)
    check_seen(seen)
    check_still_right(server)


def check_answer(answer, *path):
    status = str(answer.status_code)
    media = ("content", "application/json", "schema")
    check(answer.json(), "paths", *path, "responses", status, *media)
    assert answer.headers["content-type"].startswith("application/json")
    check(answer.headers["x-request-id"], "components", "headers", "RequestId", "schema")


@pytest.mark.server
@pytest.mark.parametrize(("media", "value"), REQUEST_EXAMPLES)
def test_a_server_takes_the_examples(server, media, value):
    pytest.importorskip("ts")
    headers = authorised(server)
    data = as_handed_over(media, value)
    if media == FORM:
        options = {
            "files": {
                name: (None if name in ("metric", "map") else name, content)
                for name, content in data.items()
            }
        }
    elif media == "application/json":
        options = {"json": value}
    else:
        options = {"data": data["body"]}
        headers["Content-Type"] = media
    url = f"{server.inference_url}/predictions/iqa"
    answer = requests.post(url, headers=headers, timeout=60, **options)
    assert answer.status_code == 200
    check_answer(answer, "/predictions/{model}", "post")


@pytest.mark.server
def test_torchserves_own_replies_are_documented(server):
    pytest.importorskip("ts")

    def post(model="iqa", data=b"", **headers):
        url = f"{server.inference_url}/predictions/{model}"
        return requests.post(url, data=data, headers=headers, timeout=60)

    token = authorised(server)
    place = "/predictions/{model}", "post"
    for status, answer in (
        (400, post()),
        (400, post(Authorization="Bearer wrong")),
        (400, post(**authorised(server, "management"))),
        (404, post("other", **token)),
        (400, post(**token)),
    ):
        assert answer.status_code == status
        check_answer(answer, *place)
    form = "--x\r\nContent-Disposition: form-data{}\r\n\r\nabc\r\n--x--\r\n"
    for name in ("", '; name=""'):
        headers = {**token, "Content-Type": "multipart/form-data; boundary=x"}
        answer = post(data=form.format(name).encode(), **headers)
        assert (answer.status_code, answer.json()["type"]) == (500, "ErrorDataDecoderException")
        check_answer(answer, *place)
    try:
        answer = post(data=bytes(2**20 + 1000), **token)
        assert (answer.status_code, answer.content) == (413, b"")
    except requests.ConnectionError:
        pass  # as documented
    check_still_right(server)


@pytest.mark.server
def test_a_server_describes_a_model_as_documented(server):
    pytest.importorskip("ts")
    place = "/models/{model}", "get"
    url = f"{server.management_url}/models"
    token = authorised(server, "management")
    for status, model, headers in ((200, "iqa", token), (400, "iqa", {}), (404, "other", token)):
        answer = requests.get(f"{url}/{model}?customized=true", headers=headers, timeout=60)
        assert answer.status_code == status
        check_answer(answer, *place)
