"""Small copies of a study's images, for the page: bounded in number and in bytes."""

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from iqa_metrics.io.colour import converted
from iqa_metrics.io.decoding import decode_file
from iqa_metrics.io.errors import ImageError

MOST_PAIRS = 400
MOST_BYTES = 6_000_000
"""The size of all thumbnails together, as the base64 text that the page holds."""
_SIDES = ((100, 256), (200, 192), (MOST_PAIRS, 128))
"""Up to how many pairs, and how long the longer side of a thumbnail is, in pixels."""
_MOST_PIXELS = 2**27
_QUALITY = 82


@dataclass(frozen=True)
class Wanted:
    """A pair whose thumbnails are wanted: the folder of its database, and the images' names."""

    folder: Path
    reference: str
    distorted: str


@dataclass
class Thumbnails:
    """The thumbnails of a page.

    Attributes
    ----------
    images
        The encoded images, each once.
    pairs
        For each wanted pair, the indexes of its reference and its distorted image; None if there is
        no thumbnail of it.
    unreadable
        The number of images that could not be read.
    media_type
        Their format.
    side
        The length of the longer side in pixels.
    """

    images: list[bytes] = field(default_factory=list)
    pairs: list[tuple[int, int] | None] = field(default_factory=list)
    unreadable: int = 0
    media_type: str = ""
    side: int = 0


def thumbnails(wanted: Sequence[Wanted]) -> Thumbnails:
    """Make the thumbnails of pairs, the first of them first if there is not enough room.

    Parameters
    ----------
    wanted
        At most ``MOST_PAIRS`` pairs. Images that can't be read are counted and left out.
    """
    webp = bool(features.check("webp"))
    side = next((side for most, side in _SIDES if len(wanted) <= most), _SIDES[-1][1])
    found = Thumbnails(media_type="image/webp" if webp else "image/jpeg", side=side)
    files = list(
        dict.fromkeys(
            path
            for one in wanted
            for path in (_path(one, one.reference), _path(one, one.distorted))
        )
    )
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        encoded = dict(
            zip(files, pool.map(lambda path: _encoded(path, side, webp), files), strict=True)
        )
    found.unreadable = sum(content is None for content in encoded.values())
    places: dict[Path | None, int] = {}
    size = 0
    for one in wanted:
        both = (_path(one, one.reference), _path(one, one.distorted))
        contents = {path: encoded[path] for path in both}
        new = {path: data for path, data in contents.items() if data and path not in places}
        size_with_it = size + sum(-(-len(data) // 3) * 4 for data in new.values())
        if None in contents.values() or size_with_it > MOST_BYTES:
            found.pairs.append(None)
            continue
        size = size_with_it
        for path, data in new.items():
            places[path] = len(found.images)
            found.images.append(data)
        found.pairs.append((places[both[0]], places[both[1]]))
    return found


def _path(pair: Wanted, name: str) -> Path | None:
    """Return an image's path; None for a name that leads out of the folder."""
    inside = PurePosixPath(name)
    # The tables may be someone else's, and nobody's other pictures belong into the page.
    return None if inside.is_absolute() or ".." in inside.parts else pair.folder / inside


def _encoded(path: Path | None, side: int, webp: bool) -> bytes | None:
    """Return an image as a small WebP or JPEG file; None if it can't be read."""
    if path is None:
        return None
    try:
        decoded = decode_file(path, _MOST_PIXELS)
        floats, _ = converted(decoded.pixels, decoded.stated, "srgb")
    except ImageError:
        return None
    pixels = decoded.pixels if floats is None else np.moveaxis(floats, 0, -1)
    image = _shown(pixels)
    # Its scaling filters on the way down, so that noise is shrunk and not sampled.
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    target = io.BytesIO()
    if webp:
        image.save(target, "WEBP", quality=_QUALITY, method=4)
    else:
        image.save(target, "JPEG", quality=_QUALITY)
    return target.getvalue()


def _shown(pixels: NDArray[np.generic]) -> Image.Image:
    """Return pixels as an RGB image of 8 bits, on white where they are transparent."""
    array = np.atleast_3d(pixels)
    if array.dtype == np.uint16:
        eight = (array >> 8).astype(np.uint8)
    elif array.dtype != np.uint8:
        eight = np.rint(255 * np.clip(np.nan_to_num(array), 0, 1)).astype(np.uint8)
    else:
        eight = array
    bands = eight.shape[-1]
    if bands in (1, 2):
        eight = np.concatenate([np.repeat(eight[..., :1], 3, -1), eight[..., 1:]], -1)
    image = Image.fromarray(np.ascontiguousarray(eight))
    if image.mode == "RGB":
        return image
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")
