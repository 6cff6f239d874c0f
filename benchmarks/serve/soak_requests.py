"""The requests of the soak, good and bad, each with its expected reply."""

import base64
import json
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import requests
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.photographs import distorted, photograph
from benchmarks.serve.pictures import encoded
from iqa_metrics import create_metric, read_image, score
from iqa_torchserve.container import CONTENT_TYPE, pack
from iqa_torchserve.maps import LEVELS, map_values

SIZES = (
    (32, 32),
    (40, 48),
    (48, 36),
    (64, 64),
    (80, 60),
    (96, 96),
    (128, 96),
    (120, 160),
    (200, 150),
    (256, 192),
    (320, 240),
)
_WEIGHTS = (6, 6, 6, 8, 6, 5, 5, 3, 2, 1, 1)
DEFAULT = "default"
METRICS = ((), (), ("psnr",), ("ssim",), ("ssim", "psnr"), (DEFAULT, "psnr", "ssim"))
TOLERANCE = 1e-6
"""Largest relative deviation of a value; identical images must give exactly 0."""

Scores = Mapping[str, float]
Maps = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Prepared:
    """A request and its expected reply.

    Attributes
    ----------
    kind
        The request's name in messages.
    content_type, body
        What is sent.
    code
        The reply's code, or empty.
    results
        For each distorted image the scores by metric, or its code.
    maps
        For each distorted image the maps by metric.
    """

    kind: str
    content_type: str
    body: bytes
    code: str = ""
    results: Sequence[Scores | str] = ()
    maps: Sequence[Maps] = field(default=(), repr=False)


def wrong(request: Prepared, status: int, reply: Mapping[str, Any]) -> str:
    """Return what is wrong with a reply, or an empty string."""
    must = 400 if request.code else 200
    if (status, reply.get("status"), reply.get("code", "")) != (must, must, request.code):
        return f"expected {must} {request.code}, got {status} {_shortened(reply)}"
    results = reply.get("results", [])
    if len(results) != len(request.results):
        return f"expected {len(request.results)} results, got {len(results)}"
    for number, (expected, result) in enumerate(zip(request.results, results, strict=True)):
        if isinstance(expected, str):
            if result.get("code") != expected:
                return f"image {number}: expected {expected}, got {_shortened(result)}"
            continue
        came = {s["metric"]: float(s.get("value", "nan")) for s in result.get("scores", [])}
        if came.keys() != expected.keys():
            return f"image {number}: expected {list(expected)}, got {_shortened(result)}"
        for metric, value in expected.items():
            if not _is_near(came[metric], value):
                return f"image {number}: {metric} {came[metric]!r}, expected {value!r}"
        maps = request.maps[number] if request.maps else {}
        if problem := _wrong_maps(maps, result["scores"]):
            return f"image {number}: {problem}"
    return ""


def deviations(request: Prepared, reply: Mapping[str, Any]) -> tuple[float, float]:
    """Return the largest relative deviation in a reply, and the largest value expected to be 0."""
    relative, absolute = 0.0, 0.0
    for expected, result in zip(request.results, reply.get("results", []), strict=True):
        if isinstance(expected, str):
            continue
        for said in result["scores"]:
            value, right = float(said["value"]), expected[said["metric"]]
            if right == 0:
                absolute = max(absolute, abs(value))
            elif math.isfinite(right):
                relative = max(relative, abs(value - right) / abs(right))
    return relative, absolute


def _is_near(value: float, right: float) -> bool:
    return math.isclose(value, right, rel_tol=TOLERANCE)  # infinity is only close to itself


def _wrong_maps(expected: Maps, scores: Sequence[Mapping[str, Any]]) -> str:
    for said in scores:
        if ("map" in said) != bool(expected):
            return f"map of {said['metric']}: expected {'one' if expected else 'none'}"
        if not expected:
            continue
        of, right = said["map"], expected[said["metric"]]
        values = map_values(base64.b64decode(of["png"]), of["low"], of["high"])
        if values.shape != right.shape:
            return f"map of {said['metric']}: {values.shape}, expected {right.shape}"
        # The PNG rounds by half a level, and a map is computed in float32.
        nearly = (of["high"] - of["low"]) / LEVELS + 1e-5 * float(np.abs(right).max())
        if float(np.abs(values - right).max()) > nearly:
            return f"map of {said['metric']} has other values"
    return ""


def good_requests(count: int) -> list[Prepared]:
    """Return valid requests of all sizes, metrics and forms, some with maps."""
    random = np.random.default_rng(12)
    weights = np.array(_WEIGHTS) / sum(_WEIGHTS)
    return [_good(number, SIZES[random.choice(len(SIZES), p=weights)]) for number in range(count)]


def _good(number: int, size: tuple[int, int]) -> Prepared:
    # Periods without a common factor, so that all combinations occur.
    picture = photograph(number, size)
    kinds = (("PNG", {}), ("JPEG", {"quality": 95}), ("WEBP", {"lossless": True}), ("BMP", {}))
    kind, options = kinds[number % len(kinds)]
    reference = encoded(picture, kind, **options)
    images = 1 if number % 5 else 2 + number % 3
    worse = []
    for place in range(images):
        copy = distorted(picture, number * 5 + place)
        as_jpeg = (number + place) % 2
        worse.append(encoded(copy, "JPEG", quality=90) if as_jpeg else encoded(copy, "PNG"))
    if number % 29 == 7:
        worse[-1] = reference  # distance 0, and an infinite PSNR
    metrics = METRICS[number % len(METRICS)]
    with_maps = number % 11 == 3
    if with_maps:
        metrics = (("ssim",), (DEFAULT,), (DEFAULT, "ssim"))[number % 3]
    asked = metrics or (DEFAULT,)
    results = [{name: score(reference, image, name) for name in asked} for image in worse]
    maps = [_maps(reference, image, asked) for image in worse] if with_maps else []
    form = {8: as_json, 9: as_form}.get(number % 10, as_raw)
    content_type, body = form(reference, worse, metrics, with_maps)
    name = f"good {number}: {size[0]}x{size[1]}, {images} images, {','.join(asked)}"
    return Prepared(name, content_type, body, results=results, maps=maps)


def _maps(reference: bytes, image: bytes, metrics: Sequence[str]) -> Maps:
    pair = read_image(reference), read_image(image)
    with torch.no_grad():
        return {
            name: create_metric(name)(*pair, map=True)[0, 0].numpy().astype(np.float64)
            for name in metrics
        }


def as_raw(
    reference: bytes, images: Sequence[bytes], metrics: Sequence[str] = (), maps: bool = False
) -> tuple[str, bytes]:
    """Return the content type and body of the raw form."""
    return CONTENT_TYPE, pack([reference, *images], metrics, maps=maps)


def as_json(
    reference: bytes, images: Sequence[bytes], metrics: Sequence[str] = (), maps: bool = False
) -> tuple[str, bytes]:
    """Return the content type and body of the JSON form."""
    text = [base64.b64encode(image).decode() for image in (reference, *images)]
    said: dict[str, Any] = {"reference": text[0], "distorted": text[1:], "map": maps}
    if metrics:
        said["metric"] = list(metrics)
    return "application/json", json.dumps(said).encode()


def as_form(
    reference: bytes, images: Sequence[bytes], metrics: Sequence[str] = (), maps: bool = False
) -> tuple[str, bytes]:
    """Return the content type and body of a multipart form."""
    files = {"reference": ("reference.png", reference, "image/png")}
    for number, image in enumerate(images, start=1):
        name = "distorted" if len(images) == 1 else f"distorted_{number}"
        files[name] = (f"{name}.png", image, "image/png")
    fields = {"map": "true"} if maps else {}
    if metrics:
        fields["metric"] = ",".join(metrics)
    made = requests.Request("POST", "http://localhost", files=files, data=fields).prepare()
    return made.headers["Content-Type"], made.body


def bad_requests() -> list[Prepared]:
    """Return one request of each kind that must be refused, completely or in part."""
    picture = photograph(1, (96, 72))
    png, jpeg = encoded(picture, "PNG"), encoded(picture, "JPEG", quality=40)
    raw = as_raw(png, [jpeg])[1]
    files = [_of_image(*of, png) for of in _bad_images(picture, png, jpeg).items()]
    tiny = encoded(picture.resize((16, 16)), "PNG")
    value = score(png, jpeg)
    half = jpeg[: len(jpeg) // 2]

    def refused(kind: str, code: str, of: tuple[str, bytes], results: Any = ()) -> Prepared:
        return Prepared(kind, *of, code=code, results=results)

    listed = json.dumps({"reference": base64.b64encode(png).decode()}).encode()
    no_text = json.dumps({"reference": "ä", "distorted": "?"}).encode()
    return [
        *files,
        refused("too small", "too_small", as_raw(tiny, [tiny]), ("too_small",)),
        refused("no map", "no_map", as_raw(png, [jpeg], ["psnr"], True), ("no_map",)),
        refused("unknown metric", "unknown_metric", as_raw(png, [jpeg], ["nonsense"])),
        refused("metric not packed", "unknown_metric", as_json(png, [jpeg], ["lpips_alex"])),
        refused("too many images", "too_large", as_raw(png, [jpeg] * 65)),
        refused("empty body", "bad_request", (CONTENT_TYPE, b"")),
        refused("wrong magic", "bad_request", (CONTENT_TYPE, b"IQAX" + raw[4:])),
        refused("wrong version", "bad_request", (CONTENT_TYPE, raw[:4] + b"\x09" + raw[5:])),
        refused("cut off", "bad_request", (CONTENT_TYPE, raw[:-7])),
        refused("bytes that follow", "bad_request", (CONTENT_TYPE, raw + b"more")),
        refused("garbage JSON", "bad_request", ("application/json", b'{"reference": nonsense')),
        refused("a list", "bad_request", ("application/json", b"[1, 2]")),
        refused("missing field", "bad_request", ("application/json", listed)),
        refused("no base64", "bad_request", ("application/json", no_text)),
        refused("unknown field", "bad_request", _with_field(png, jpeg)),
        Prepared(
            "one image of three is bad",
            *as_raw(png, [jpeg, half, jpeg]),
            results=({DEFAULT: value}, "bad_image", {DEFAULT: value}),
        ),
    ]


def _bad_images(picture: Image.Image, png: bytes, jpeg: bytes) -> dict[str, tuple[str, bytes]]:
    """Return image files that can't be compared with the picture, with the expected codes."""
    transparent = picture.copy()
    transparent.putalpha(100)
    frames = encoded(picture, "GIF", save_all=True, append_images=[picture.rotate(90)])
    beyond = Image.fromarray(np.full((72, 96), 2, np.float32))
    return {
        "truncated JPEG": ("bad_image", jpeg[: len(jpeg) // 2]),
        "truncated PNG": ("bad_image", png[: len(png) // 2]),
        "no image": ("bad_image", b"\x00\x01\x02\x03" + png[4:]),
        "empty image": ("bad_image", b""),
        "another size": ("size_mismatch", encoded(picture.resize((72, 72)), "PNG")),
        "transparent": ("has_alpha", encoded(transparent, "PNG")),
        "animated": ("animated", frames),
        "out of range": ("out_of_range", encoded(beyond, "TIFF")),
        "too large": ("too_large", _vast_png()),
    }


def _of_image(kind: str, of: tuple[str, bytes], reference: bytes) -> Prepared:
    code, image = of
    return Prepared(kind, *as_raw(reference, [image]), code=code, results=(code,))


def _with_field(reference: bytes, image: bytes) -> tuple[str, bytes]:
    files = {
        "reference": ("a.png", reference, "image/png"),
        "distorted": ("b.png", image, "image/png"),
        "other": ("c.txt", b"what", "application/octet-stream"),
    }
    made = requests.Request("POST", "http://localhost", files=files).prepare()
    return made.headers["Content-Type"], made.body


def _vast_png() -> bytes:
    """Return a small file whose header states 100,000 x 100,000 pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(b"0" * 1000)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _shortened(said: Mapping[str, Any]) -> str:
    return " ".join(str(said.get(key, "")) for key in ("status", "code", "message"))[:200]
