"""The raw body: the images and options of a request in sequence, each preceded by its length.

It is the fastest form, since no boundaries have to be searched for and nothing is encoded. All
numbers are little-endian and unsigned:

======================  ==========================================================
``IQAR``                magic number, 4 bytes
``1``                   version, 1 byte
flags                   1 byte; bit 0 requests maps, all others are 0
number of metrics       2 bytes; 0 requests the archive's first metric
number of images        4 bytes; the reference and at least one distorted image
each metric             2 bytes of length, then its spec in UTF-8
each image              4 bytes of length, then an image file; the reference first
======================  ==========================================================

Nothing may follow the last image.
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
    """Bytes that are not such a container; the message says what was expected and found."""


class TooManyError(ContainerError):
    """A container with more images or metrics than allowed."""


def pack(images: Sequence[bytes], metrics: Sequence[str] = (), *, maps: bool = False) -> bytes:
    """Return the container of a request.

    Parameters
    ----------
    images
        Image files: the reference, then the distorted ones.
    metrics
        Specs; without any, the archive's first metric is used.
    maps
        Whether to request maps.

    Raises
    ------
    ValueError
        If there is no distorted image, or a part is too long for its length field.
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
    """Return the images, the metrics, and whether maps are requested.

    Parameters
    ----------
    body
        The container.
    most_images, most_metrics
        The largest numbers of images and metrics allowed, since the counts in the container can't
        be trusted.

    Raises
    ------
    ContainerError
        If the bytes are not exactly one container; TooManyError if it has too many parts.
    """
    if len(body) < _HEAD.size:
        raise ContainerError(f"cut off: got {len(body)} bytes, but the header has {_HEAD.size}")
    magic, version, flags, metric_count, image_count = _HEAD.unpack_from(body)
    if magic != MAGIC:
        raise ContainerError(f"expected {MAGIC!r} at the beginning, got {bytes(magic)!r}")
    if version != VERSION:
        raise ContainerError(f"version {version}, expected {VERSION}")
    if flags & ~_MAPS:
        raise ContainerError(f"flags {flags:#04x}: expected no other bit than bit 0, for maps")
    if image_count < 2:
        raise ContainerError(
            f"{image_count} images; expected a reference and at least one distorted image"
        )
    if image_count > most_images or metric_count > most_metrics:
        raise TooManyError(
            f"{image_count} images and {metric_count} metrics; at most {most_images} and "
            f"{most_metrics} are allowed"
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
            raise ContainerError(
                f"cut off: {part} ends at byte {end}, but there are only {len(body)}"
            )
        found.append(bytes(view[at:end]))
        at = end
    if at != len(body):
        raise ContainerError(f"{len(body) - at} bytes follow the last image")
    try:
        metrics = [text.decode() for text in found[:metric_count]]
    except UnicodeDecodeError:
        raise ContainerError("the spec of a metric is not UTF-8") from None
    return found[metric_count:], metrics, bool(flags & _MAPS)
