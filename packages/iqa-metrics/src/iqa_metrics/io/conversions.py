"""Conversions to sRGB from what a file states about its colours.

Profiles of a matrix and tone curves, which most are, are applied here in float, whatever the depth
of the pixels. littleCMS applies those of tables, to 8 bits.
"""

import io
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from iqa_metrics.io.colour_spaces import (
    ADOBE_RGB,
    BT709_CHROMATICITIES,
    XYZ_TO_SRGB,
    Chromaticities,
    ColourSpace,
    Curve,
    SpaceError,
    gamma,
    space_of_cicp,
    srgb,
    srgb_stored,
    to_xyz,
)
from iqa_metrics.io.icc import Profile, ProfileError, read_profile
from iqa_metrics.io.stated_colour import CodePoints, Stated

_NEUTRAL_SLACK, _SLACK = 0.5 / 255, 1.5 / 255
"""How far a profile may change neutral and other colours and still be sRGB.

The sRGB profiles in use round their primaries, which moves saturated colours by up to 1.4 steps
of 8 bits (Hewlett-Packard's, which is in most files, by 0.51), and neutral ones by 0.03.
"""
_BLOCK = 2**18
"""Most pixels that are converted at a time, which bounds the memory for it."""
_GREYS = 256
_GAMMA_OF_SRGB, _GAMMA_SLACK = 1 / 2.2, 0.01
_CHROMATICITY_SLACK = 0.001


@dataclass(frozen=True, eq=False)
class Linear:
    """A conversion by tone curves and a matrix; there is no matrix for grey."""

    name: str
    curves: tuple[Curve, ...]
    matrix: NDArray[np.float64] | None

    def apply(self, colours: NDArray[Any]) -> NDArray[np.float32]:
        """Convert ``[H, W, C]`` of 1 or 3 channels to sRGB, float32 ``[3, H, W]`` (grey: 1)."""
        height, width, channels = colours.shape
        planes = 1 if self.matrix is None else 3
        found = np.empty((planes, height, width), np.float32)
        tables = _tabulated(self.curves, colours.dtype)
        rows = max(1, _BLOCK // width)
        for top in range(0, height, rows):
            block = colours[top : top + rows]
            light = [
                _light(block[..., at % channels], curve, tables[at] if tables else None)
                for at, curve in enumerate(self.curves)
            ]
            for plane in range(planes):
                found[plane, top : top + rows] = srgb_stored(
                    np.clip(self._mixed(light, plane), 0, 1)
                )
        return found

    def _mixed(self, light: list[NDArray[np.float32]], plane: int) -> NDArray[np.float32]:
        # Written out, since a matrix product may round differently for each number of threads.
        if self.matrix is None:
            return light[0]
        r, g, b = self.matrix[plane].astype(np.float32)
        mixed: NDArray[np.float32] = r * light[0] + g * light[1] + b * light[2]
        return mixed

    def is_identity(self, grey: bool) -> bool:
        """Say whether it changes no more than sRGB profiles differ."""
        samples = _samples(grey)
        return _are_same(self.apply(samples), samples)


def _light(
    values: NDArray[Any], curve: Curve, table: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    light: NDArray[np.float32]
    if table is not None:
        light = table[values]
    else:
        light = curve(values.astype(np.float64)).astype(np.float32)
    return light


def _tabulated(curves: tuple[Curve, ...], dtype: np.dtype[Any]) -> list[NDArray[np.float32]] | None:
    """Return the light of every integer value, or None for float values."""
    if dtype.kind == "f":
        return None
    peak = np.iinfo(dtype).max
    return [curve(np.arange(peak + 1) / peak).astype(np.float32) for curve in curves]


@dataclass(frozen=True, eq=False)
class Tables:
    """A conversion by the tables of a profile, which littleCMS does with 8 bits."""

    name: str
    icc: bytes = field(repr=False)
    mode: str

    def apply(self, colours: NDArray[Any]) -> NDArray[np.float32]:
        """Convert uint8 ``[H, W, C]`` of 1 or 3 channels to sRGB, float32 ``[3, H, W]``."""
        found = np.moveaxis(self._in_steps(colours), -1, 0)
        return np.ascontiguousarray(found, dtype=np.float32) / np.float32(255)

    def _in_steps(self, colours: NDArray[Any]) -> NDArray[np.uint8]:
        from PIL import ImageCms  # not every Pillow has it

        if self.mode == "L":
            image = Image.fromarray(np.ascontiguousarray(colours[..., 0]))
        else:
            image = Image.fromarray(
                np.ascontiguousarray(np.broadcast_to(colours, (*colours.shape[:2], 3)))
            )
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(self.icc)),
            ImageCms.createProfile("sRGB"),
            self.mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        converted = ImageCms.applyTransform(image, transform)
        if converted is None:
            raise ProfileError("an ICC profile that littleCMS can't apply")
        return np.array(converted)

    def is_identity(self, grey: bool) -> bool:
        """Say whether it changes no more than sRGB profiles differ."""
        samples = _samples(grey)
        return _are_same(self.apply(np.round(samples * 255).astype(np.uint8)), samples)


def _samples(grey: bool) -> NDArray[np.float64]:
    """Return colours ``[H, W, C]`` that show whether a conversion changes anything."""
    greys = (np.arange(_GREYS) / 255)[:, None, None]
    if grey:
        return greys
    steps = np.round(np.linspace(0, 255, 18)) / 255
    cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 1, 3)
    return np.concatenate([np.repeat(greys, 3, axis=-1), cube])


def _are_same(found: NDArray[np.float32], samples: NDArray[np.float64]) -> bool:
    """Say whether samples were changed by no more than sRGB profiles differ."""
    change = np.abs(found - np.moveaxis(samples, -1, 0))
    return bool((change[:, :_GREYS] <= _NEUTRAL_SLACK).all() and (change <= _SLACK).all())


class _UnconvertedError(ValueError):
    """Colours that can't be converted. The message names them."""


Conversion = Linear | Tables


def _of_space(space: ColourSpace) -> Linear:
    return Linear(space.name, space.curves, XYZ_TO_SRGB @ space.to_xyz)


def _of_icc(icc: bytes, grey: bool, deep: bool) -> Conversion:
    if not icc:
        raise _UnconvertedError("a damaged ICC profile")
    profile = read_profile(icc)
    if profile.space != "RGB" and not (profile.space == "GRAY" and grey):
        raise _UnconvertedError(
            f"the {profile.space} profile {profile.name!r} in {'a grey' if grey else 'an RGB'} "
            "image"
        )
    if profile.tables:
        return _of_tables(profile, icc, deep)
    matrix = None if profile.to_xyz is None else XYZ_TO_SRGB @ profile.to_xyz
    return Linear(profile.name, profile.curves, matrix)


def _of_tables(profile: Profile, icc: bytes, deep: bool) -> Tables:
    what = f"the ICC profile {profile.name!r}, which has tables of colours"
    if deep:
        raise _UnconvertedError(f"{what}: littleCMS would cut this image's values to 8 bits")
    if not features.check("littlecms2"):
        raise _UnconvertedError(f"{what}: this Pillow was built without littleCMS")
    return Tables(profile.name, icc, "L" if profile.space == "GRAY" else "RGB")


def _of_png(stated: Stated) -> Linear | None:
    """Return the conversion of PNG's gAMA and cHRM, whose usual values stand for sRGB."""
    exponent, chromaticities = stated.gamma, stated.chromaticities
    if exponent is not None and not exponent > 0:
        raise _UnconvertedError(f"a gamma of {exponent}")
    if exponent is not None and abs(exponent / _GAMMA_OF_SRGB - 1) <= _GAMMA_SLACK:
        exponent = None
    points: Chromaticities = BT709_CHROMATICITIES
    if chromaticities is not None:
        if len(chromaticities) != 8:
            raise _UnconvertedError("a damaged chunk cHRM")
        white_x, white_y, rx, ry, gx, gy, bx, by = chromaticities
        came = (rx, ry, gx, gy, bx, by, white_x, white_y)
        if max(abs(a - b) for a, b in zip(came, points, strict=True)) > _CHROMATICITY_SLACK:
            points = came
    if exponent is None and points is BT709_CHROMATICITIES:
        return None
    curve = srgb if exponent is None else gamma(1 / exponent)
    name = "PNG with "
    name += "" if points is BT709_CHROMATICITIES else "primaries of its own"
    if exponent is not None:
        name += f"{'' if name.endswith('with ') else ' and '}gamma {exponent:.5g}"
    return _of_space(ColourSpace(name, (curve,) * 3, to_xyz(points)))


def _of_cicp(cicp: CodePoints) -> Linear:
    primaries, transfer, matrix, full = cicp
    if matrix != 0 or full != 1:
        raise _UnconvertedError(f"code points {cicp} of values that are not full-range RGB")
    return _of_space(space_of_cicp(primaries, transfer))


@lru_cache(maxsize=8)  # most images of a table have the same profile
def conversion_to_srgb(stated: Stated, grey: bool, deep: bool) -> Conversion | str | None:
    """Return the conversion to sRGB, None if there is nothing to convert, or why there is none.

    The order is that of PNG's third edition: cICP, ICC profile, sRGB, gAMA and cHRM; then EXIF.
    """
    found: Conversion | None = None
    try:
        if stated.cicp is not None:
            found = _of_cicp(stated.cicp)
        elif stated.icc is not None:
            found = _of_icc(stated.icc, grey, deep)
        elif stated.srgb:
            return None
        elif stated.gamma is not None or stated.chromaticities is not None:
            found = _of_png(stated)
        elif stated.adobe_rgb:
            found = _of_space(ADOBE_RGB)
        return None if found is None or found.is_identity(grey) else found
    except (_UnconvertedError, SpaceError, ProfileError) as error:
        return str(error)
    except Exception as error:  # littleCMS
        return f"an ICC profile that littleCMS can't apply ({error})"
