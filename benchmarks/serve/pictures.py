"""Pairs of photographs as files, which clients send."""

import io
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from PIL import Image
from skimage import data

SIZE = (512, 384)
QUALITIES = (5, 10, 15, 20, 30, 40, 55, 70, 85)
_GOLDEN = 0.618


@dataclass(frozen=True)
class EncodedPair:
    """Two image files of the same size."""

    reference: bytes
    distorted: bytes


def cut(number: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """Return a part of one of scikit-image's photographs, a different one for each number."""
    arrays = (data.astronaut, data.coffee, data.rocket)
    picture = Image.fromarray(arrays[number % 3]())
    step = (_GOLDEN * (1 + number // 3)) % 1
    left, top = (int(step * (whole - part)) for whole, part in zip(picture.size, size, strict=True))
    picture = picture.crop((left, top, left + size[0], top + size[1]))
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if number // 3 % 2 else picture


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    """Return a picture as the bytes of a file."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


@lru_cache(maxsize=1)
def pairs(count: int) -> tuple[EncodedPair, ...]:
    """Return pairs, each with its own reference: PNG and high-quality JPEG in turn."""
    found = []
    for number in range(count):
        picture = cut(number)
        good = encoded(picture, "JPEG", quality=95) if number % 2 else encoded(picture, "PNG")
        quality = QUALITIES[number % len(QUALITIES)]
        found.append(EncodedPair(good, encoded(picture, "JPEG", quality=quality)))
    return tuple(found)


def shared_reference(count: int) -> tuple[bytes, list[bytes]]:
    """Return a reference and ``count`` distorted images of it."""
    picture = cut(0)
    return encoded(picture, "PNG"), [
        encoded(picture, "JPEG", quality=quality) for quality in QUALITIES[:count]
    ]
