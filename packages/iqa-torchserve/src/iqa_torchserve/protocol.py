"""The protocol: requests, replies and codes.

A request has one reference, one or more distorted images, one or more metrics, and may request
maps. It has one of three forms, over HTTP as well as gRPC:

raw
    :mod:`iqa_torchserve.container`, as the body (gRPC: input ``body``).
form
    Multipart fields (gRPC: inputs) ``reference``; ``distorted``, or ``distorted_1``,
    ``distorted_2``...; ``metric``, specs separated by commas; ``map``, ``true`` or ``false``.
JSON
    ``reference``, an image file in base64; ``distorted``, one such file or a list; ``metric``, a
    spec or a list; ``map``, a boolean.

Any other field is an error. A reply is a JSON object: :func:`reply_body` or :func:`error_body`.
``status`` repeats the HTTP status, since gRPC has none.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from iqa_metrics import __version__ as library_version
from iqa_metrics.scoring.scores import json_number
from iqa_torchserve import __version__
from iqa_torchserve.container import MAGIC, ContainerError, TooManyError, unpack
from iqa_torchserve.limits import Limits

BAD_REQUEST = "bad_request"
DRAINING = "draining"
INTERNAL = "internal"
NO_MAP = "no_map"
OVERLOADED = "overloaded"
TOO_LARGE = "too_large"
UNKNOWN_METRIC = "unknown_metric"
"""The code for a spec with an unknown name or an invalid form."""

STATUSES: Mapping[str, int] = {
    BAD_REQUEST: 400,
    UNKNOWN_METRIC: 400,
    "bad_image": 400,
    "bad_colour": 400,
    "has_alpha": 400,
    "animated": 400,
    TOO_LARGE: 400,
    "too_small": 400,
    "too_slow": 400,
    "wrong_size": 400,
    "size_mismatch": 400,
    "out_of_range": 400,
    NO_MAP: 400,
    INTERNAL: 500,
    DRAINING: 503,
    OVERLOADED: 503,
}
"""Every code that a reply may have, and the corresponding status."""

_PHRASES = {200: "OK", 400: "Bad Request", 500: "Internal Server Error", 503: "Service Unavailable"}
_OPTIONS = ("metric", "map")
_NUMBERED = re.compile(r"distorted_([1-9][0-9]{0,3})", re.ASCII)
_EXPECTED = (
    "expected the fields reference, distorted (several: distorted_1, distorted_2, ...) and, "
    "optionally, metric and map"
)
_SPEC, _MESSAGE = 500, 2000
"""Most characters in a spec and in a message."""
_PART_SLACK = 1536
"""Bytes that a part of a multipart form may take beside its content, for its header."""


class RequestError(ValueError):
    """An invalid request; the message says what was expected and what was found.

    Attributes
    ----------
    code
        ``bad_request``, or ``too_large`` if it exceeds a limit.
    """

    def __init__(self, message: str, code: str = BAD_REQUEST) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class ScoreRequest:
    """A request, its images still encoded.

    Attributes
    ----------
    reference, distorted
        Image files.
    metrics
        Specs as in the request; empty if it has none.
    maps
        Whether maps are requested.
    """

    reference: bytes
    distorted: tuple[bytes, ...]
    metrics: tuple[str, ...] = ()
    maps: bool = False


@dataclass(frozen=True)
class Reply:
    """An HTTP status and the JSON object of the body."""

    status: int
    body: Mapping[str, Any]

    @property
    def phrase(self) -> str:
        """The reason phrase of the status line."""
        return _PHRASES[self.status]


def parse_request(
    data: Mapping[str, Any], limits: Limits, headers: Mapping[str, Any] | None = None
) -> ScoreRequest:
    """Parse a request as passed by TorchServe.

    Parameters
    ----------
    data
        Form fields or gRPC inputs by name, as bytes or, for ``text/*``, str; or ``body`` with the
        parsed JSON object or the raw body.
    limits
        The limits of a request.
    headers
        The request's headers. The length of a form shows whether it has a field twice, of which
        TorchServe passes only the last one.

    Raises
    ------
    RequestError
        If a field is missing, unknown or invalid, or there are too many images or metrics.
    """
    if set(data) != {"body"}:
        _check_length(data, headers or {})
        request = _from_form(data)
    elif _is_container(data["body"]):
        request = _from_container(data["body"], limits)
    else:
        request = _from_json(_json_object(data["body"]))
    if any(len(metric) > _SPEC for metric in request.metrics):
        raise RequestError(f"metric: expected a spec of at most {_SPEC} characters")
    for what, count, most in (
        ("distorted images", len(request.distorted), limits.images),
        ("metrics", len(request.metrics), limits.metrics),
    ):
        if count > most:
            raise RequestError(
                f"{count} {what}; at most {most} are allowed per request: send several requests",
                TOO_LARGE,
            )
    return request


def score_body(
    *,
    metric: str,
    resolved: str,
    value: float,
    higher_is_better: bool,
    weights: Mapping[str, str],
    signature: str,
    map: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return one metric's result for one distorted image.

    ``weights`` has the names and SHA-256 of the files that the metric reads. ``signature`` says
    what decides its values.
    """
    body = {
        "metric": metric,
        "resolved": resolved,
        "value": json_number(value),
        "higher_is_better": higher_is_better,
        "weights": dict(weights),
        "signature": signature,
    }
    return body if map is None else {**body, "map": dict(map)}


def item_body(
    scores: Sequence[Mapping[str, Any]], size: tuple[int, int], colour: str = ""
) -> dict[str, Any]:
    """Return the result for one distorted image; ``size`` is (width, height).

    ``colour`` says what was done about the colours of the images; it is left out if it is empty.
    """
    failed = [score for score in scores if "code" in score]
    if len(failed) == len(scores):
        status = max(STATUSES[score["code"]] for score in failed)
        worst = next(score for score in failed if STATUSES[score["code"]] == status)
        said = {"status": status, "code": worst["code"], "message": worst["message"]}
    else:
        said = {"status": 200}
    done = {"colour": colour} if colour else {}
    return {**said, "width": size[0], "height": size[1], **done, "scores": list(scores)}


def error_body(code: str, message: str) -> dict[str, Any]:
    """Return the description of a failure: status, stable code, and a readable message."""
    if len(message) > _MESSAGE:
        message = f"{message[:_MESSAGE]} ..."
    return {"status": STATUSES[code], "code": code, "message": message}


def reply_body(
    results: Sequence[Mapping[str, Any]], model: Mapping[str, str], request_id: str
) -> dict[str, Any]:
    """Return the body of the reply to a valid request, with one result per distorted image.

    Only if nothing was scored, the reply itself has a code: the first one of the highest status.
    """
    said: dict[str, Any] = {"status": 200}
    if all(result["status"] != 200 for result in results):
        status = max(result["status"] for result in results)
        first = next(result for result in results if result["status"] == status)
        said = {key: first[key] for key in ("status", "code", "message")}
    return {
        **said,
        "request_id": request_id,
        "model": dict(model),
        "versions": versions(),
        "results": list(results),
    }


def versions() -> dict[str, str]:
    """Return the versions that a value depends on."""
    return {
        "iqa_metrics": library_version,
        "iqa_torchserve": __version__,
        "torch": torch.__version__,
    }


def _is_container(body: object) -> bool:
    return isinstance(body, (bytes, bytearray)) and body[: len(MAGIC)] == MAGIC


def _from_container(body: bytes | bytearray, limits: Limits) -> ScoreRequest:
    try:
        images, metrics, maps = unpack(
            body, most_images=limits.images + 1, most_metrics=limits.metrics
        )
    except ContainerError as error:
        code = TOO_LARGE if isinstance(error, TooManyError) else BAD_REQUEST
        raise RequestError(f"raw body: {error}", code) from error
    reference, *distorted = images
    return ScoreRequest(reference, tuple(distorted), tuple(metrics), maps)


def _json_object(body: object) -> dict[str, Any]:
    if isinstance(body, (bytes, bytearray, str)):
        # Invalid JSON, and JSON over gRPC, have not been decoded yet.
        try:
            body = json.loads(body)
        except (ValueError, RecursionError):
            raise RequestError(
                f"the body is neither a multipart form nor JSON nor a raw request; {_EXPECTED}"
            ) from None
    if not isinstance(body, dict):
        raise RequestError(f"expected a JSON object, got {type(body).__name__}")
    return body


def _from_json(body: dict[str, Any]) -> ScoreRequest:
    distorted = body.get("distorted")
    listed = isinstance(distorted, list)
    _check_fields(body, ["distorted"] if "distorted" in body else [])
    if listed and not distorted:
        raise RequestError("distorted: expected at least one image, got an empty list")
    maps = body.get("map", False)
    if not isinstance(maps, bool):
        raise RequestError(f"map: expected true or false, got {type(maps).__name__}")
    metric = body.get("metric")
    metrics = [] if metric is None else metric if isinstance(metric, list) else [metric]
    for spec in metrics:
        if not isinstance(spec, str):
            raise RequestError(f"metric: expected text, got {type(spec).__name__}")
    images = distorted if isinstance(distorted, list) else [distorted]
    return ScoreRequest(
        _from_base64("reference", body["reference"]),
        tuple(_from_base64("distorted", image) for image in images),
        tuple(metrics),
        maps,
    )


def _from_base64(name: str, text: object) -> bytes:
    if not isinstance(text, str):
        raise RequestError(f"{name}: expected the image file in base64, got {type(text).__name__}")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError(f"{name}: not base64 ({error})") from error


def _from_form(data: Mapping[str, Any]) -> ScoreRequest:
    numbered = sorted(
        (int(match[1]), name) for name in data if (match := _NUMBERED.fullmatch(name))
    )
    names = ["distorted"] if "distorted" in data else []
    names += [name for _, name in numbered]
    _check_fields(data, names)
    if numbered and ("distorted" in data or numbered[-1][0] != len(numbered)):
        raise RequestError(
            f"got the fields {', '.join(names)}; expected either distorted, or distorted_1, "
            "distorted_2, ... without gaps"
        )
    reference, *distorted = (_image_bytes(name, data[name]) for name in ("reference", *names))
    maps = _text("map", data.get("map", "false"))
    if maps not in ("true", "false"):
        raise RequestError(f"map: expected true or false, got {maps[:40]!r}")
    # Cut off where there are too many for any limit, so that they need not be counted.
    specs = _text("metric", data["metric"]).split(",", _SPEC) if "metric" in data else []
    metrics = tuple(specs)
    return ScoreRequest(reference, tuple(distorted), metrics, maps == "true")


def _check_fields(fields: Mapping[str, Any], distorted: Sequence[str]) -> None:
    missing = [] if "reference" in fields else ["reference"]
    missing += [] if distorted else ["distorted"]
    unknown = [name for name in fields if name not in ("reference", *distorted, *_OPTIONS)]
    if missing or unknown:
        problems = [f"no field {name!r}" for name in missing]
        problems += [f"unknown field {name[:80]!r}" for name in unknown[:5]]
        raise RequestError(f"{', '.join(problems)}; {_EXPECTED}")


def _check_length(data: Mapping[str, Any], headers: Mapping[str, Any]) -> None:
    """Refuse a multipart form that is longer than the fields that were found in it."""
    said = {name.lower(): value for name, value in headers.items() if isinstance(value, str)}
    length = said.get("content-length", "")
    if not said.get("content-type", "").startswith("multipart/") or not length.isdecimal():
        return
    came = sum(len(name) + len(value) + _PART_SLACK for name, value in data.items())
    if int(length) > came + _PART_SLACK:
        raise RequestError(
            f"the form has {length} bytes, but its fields have far fewer: a field is repeated or "
            f"unknown; {_EXPECTED}"
        )


def _image_bytes(name: str, value: object) -> bytes:
    # Never a str, which the library would take as the path of a file on this machine.
    if not isinstance(value, (bytes, bytearray)):
        raise RequestError(
            f"{name}: expected the bytes of an image file, got text; send it as a file with an "
            "image content type"
        )
    return bytes(value)


def _text(name: str, value: object) -> str:
    if isinstance(value, (bytes, bytearray)):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            raise RequestError(f"{name}: expected text in UTF-8") from None
    if not isinstance(value, str):
        raise RequestError(f"{name}: expected text, got {type(value).__name__}")
    return value
