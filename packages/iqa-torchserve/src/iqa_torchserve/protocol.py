"""What goes over the wire: requests, replies and error codes.

A request has the fields ``reference`` and ``distorted`` and, optionally, ``metric``. As multipart
form (or gRPC inputs) the images are the bytes of image files; as JSON they are those bytes in
base64. Any other field is an error. A reply is a JSON object, :func:`score_body` or
:func:`error_body`.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from iqa_metrics import __version__ as library_version
from iqa_metrics.scores import json_number
from iqa_torchserve import __version__

IMAGES = ("reference", "distorted")
FIELDS = (*IMAGES, "metric")

BAD_REQUEST = "bad_request"
INTERNAL = "internal"


class RequestError(ValueError):
    """A request that is not one of ours; the message says what was expected and what came."""

    code = BAD_REQUEST


@dataclass(frozen=True)
class ScoreRequest:
    """A request, its images still encoded. ``metric`` is None where the request names none."""

    reference: bytes
    distorted: bytes
    metric: str | None


@dataclass(frozen=True)
class Reply:
    """An HTTP status and the JSON object that goes with it."""

    status: int
    body: Mapping[str, Any]

    @property
    def phrase(self) -> str:
        """The status line's words."""
        return {200: "OK", 400: "Bad Request"}.get(self.status, "Internal Server Error")


def parse_request(data: Mapping[str, Any]) -> ScoreRequest:
    """Parse a request as TorchServe hands it over.

    Parameters
    ----------
    data
        Form fields or gRPC inputs by name, as bytes or, for ``text/*``, str; or ``body`` with the
        parsed JSON object or the raw body.

    Raises
    ------
    RequestError
        If a field is missing, unknown, or not what it should be.
    """
    if set(data) == {"body"}:
        return _from_json(_json_object(data["body"]))
    fields = dict(data)
    _check_fields(fields)
    reference, distorted = (_image_bytes(name, fields[name]) for name in IMAGES)
    return ScoreRequest(reference, distorted, _metric(fields.get("metric")))


def score_body(
    *, metric: str, resolved: str, value: float, higher_is_better: bool, size: tuple[int, int]
) -> dict[str, Any]:
    """Return the body of a good reply; ``size`` is (width, height), the same for both images."""
    return {
        "metric": metric,
        "resolved": resolved,
        "value": json_number(value),
        "higher_is_better": higher_is_better,
        "sizes": {name: {"width": size[0], "height": size[1]} for name in IMAGES},
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Return the versions that a value depends on."""
    return {
        "iqa_metrics": library_version,
        "iqa_torchserve": __version__,
        "torch": torch.__version__,
    }


def error_body(code: str, message: str) -> dict[str, str]:
    """Return the body of a bad reply: a stable code, and a message for a person."""
    return {"code": code, "message": message}


def _json_object(body: object) -> dict[str, Any]:
    if isinstance(body, (bytes, bytearray, str)):
        # Invalid JSON, and JSON over gRPC, come undecoded.
        try:
            body = json.loads(body)
        except (ValueError, RecursionError):
            raise RequestError(
                "the body is neither a multipart form nor JSON; expected one of those with the "
                "fields reference, distorted and, optionally, metric"
            ) from None
    if not isinstance(body, dict):
        raise RequestError(f"expected a JSON object, got {type(body).__name__}")
    return body


def _from_json(body: dict[str, Any]) -> ScoreRequest:
    _check_fields(body)
    reference, distorted = (_from_base64(name, body[name]) for name in IMAGES)
    return ScoreRequest(reference, distorted, _metric(body.get("metric")))


def _from_base64(name: str, text: object) -> bytes:
    if not isinstance(text, str):
        raise RequestError(f"{name}: expected the image file in base64, got {type(text).__name__}")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError(f"{name}: not base64 ({error})") from error


def _check_fields(fields: Mapping[str, Any]) -> None:
    missing = [name for name in IMAGES if name not in fields]
    unknown = [name for name in fields if name not in FIELDS]
    if missing or unknown:
        problems = [f"no field {name!r}" for name in missing]
        problems += [f"unknown field {name!r}" for name in unknown]
        raise RequestError(
            f"{', '.join(problems)}; expected the fields reference, distorted and, optionally, "
            "metric"
        )


def _image_bytes(name: str, value: object) -> bytes:
    # Never a str: the library would take it for the path of a file on this machine.
    if not isinstance(value, (bytes, bytearray)):
        raise RequestError(
            f"{name}: expected the bytes of an image file, got text; send it as a file, with an "
            "image content type"
        )
    return bytes(value)


def _metric(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, (bytes, bytearray)):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            raise RequestError("metric: expected text in UTF-8") from None
    if not isinstance(value, str):
        raise RequestError(f"metric: expected text, got {type(value).__name__}")
    return value
