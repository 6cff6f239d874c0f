"""The raw body: images and options of a request, one after another, each behind its length.

It is the quickest form, since nothing is searched for a boundary and nothing is encoded. All
numbers are little-endian and unsigned:

======================  ==========================================================
``IQAR``                magic number, 4 bytes
``1``                   version, 1 byte
flags                   1 byte; bit 0 asks for maps, all others are 0
number of metrics       2 bytes; 0 asks for the archive's first one
number of images        4 bytes; the reference and at least one distorted image
each metric             2 bytes of length, then its spec in UTF-8
each image              4 bytes of length, then an image file; the reference first
======================  ==========================================================

Nothing may follow.
"""

import struct
from collections.abc import Sequence

MAGIC = b"IQAR"
VERSION = 1
CONTENT_TYPE = "application/vnd.iqa.request"

_HEAD = struct.Struct("<4sBBHI")
_METRIC, _IMAGE = struct.Struct("<H"), struct.Struct("<I")
_MAPS = 1


class ContainerError(ValueError):
    """Bytes that are no such container; the message says what was expected and what came."""


class TooManyError(ContainerError):
    """A container of more images or metrics than are taken."""


def pack(images: Sequence[bytes], metrics: Sequence[str] = (), *, maps: bool = False) -> bytes:
    """Return the container of a request.

    Parameters
    ----------
    images
        Image files: the reference, then the distorted ones.
    metrics
        Specs; none asks for the archive's first one.
    maps
        Whether maps are asked for.

    Raises
    ------
    ValueError
        If there is no distorted image, or a part is longer than its length can say.
    """
    if len(images) < 2:
        raise ValueError(f"expected a reference and a distorted image, got {len(images)} images")
    texts = [metric.encode() for metric in metrics]
    parts = [_HEAD.pack(MAGIC, VERSION, _MAPS if maps else 0, len(texts), len(images))]
    try:
        for lengths, contents in ((_METRIC, texts), (_IMAGE, images)):
            for content in contents:
                parts += [lengths.pack(len(content)), content]
    except struct.error as error:
        raise ValueError(f"too long for a request ({error})") from error
    return b"".join(parts)


def unpack(
    body: bytes | bytearray, *, most_images: int, most_metrics: int
) -> tuple[list[bytes], list[str], bool]:
    """Return the images, metrics and whether maps are asked for.

    Parameters
    ----------
    body
        The container.
    most_images, most_metrics
        More than that are not looked at: the counts are what anyone writes there.

    Raises
    ------
    ContainerError
        If the bytes are not exactly one container; TooManyError if it has too many parts.
    """
    if len(body) < _HEAD.size:
        raise ContainerError(f"cut off: {len(body)} bytes, its head has {_HEAD.size}")
    magic, version, flags, metric_count, image_count = _HEAD.unpack_from(body)
    if magic != MAGIC:
        raise ContainerError(f"expected it to begin with {MAGIC!r}, got {bytes(magic)!r}")
    if version != VERSION:
        raise ContainerError(f"version {version}, expected {VERSION}")
    if flags & ~_MAPS:
        raise ContainerError(f"flags {flags:#04x}: expected bit 0 alone, which asks for maps")
    if image_count < 2:
        raise ContainerError(
            f"{image_count} images; expected a reference and at least one distorted image"
        )
    if image_count > most_images or metric_count > most_metrics:
        raise TooManyError(
            f"{image_count} images and {metric_count} metrics; at most {most_images} and "
            f"{most_metrics} are taken"
        )
    view = memoryview(body)
    at = _HEAD.size
    found: list[bytes] = []
    for number in range(metric_count + image_count):
        lengths = _METRIC if number < metric_count else _IMAGE
        end = at + lengths.size
        if end <= len(body):
            (length,) = lengths.unpack_from(body, at)
            at, end = end, end + length
        if end > len(body):
            part = f"metric {number + 1}"
            if number >= metric_count:
                part = f"image {number - metric_count + 1}"
            raise ContainerError(f"cut off: {part} ends at byte {end}, of {len(body)}")
        found.append(bytes(view[at:end]))
        at = end
    if at != len(body):
        raise ContainerError(f"{len(body) - at} bytes follow its last image")
    try:
        metrics = [text.decode() for text in found[:metric_count]]
    except UnicodeDecodeError:
        raise ContainerError("a metric is no text in UTF-8") from None
    return found[metric_count:], metrics, bool(flags & _MAPS)
