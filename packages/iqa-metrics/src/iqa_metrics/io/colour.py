"""Convert decoded pixels to sRGB from the colour space that their file states.

A file states it by an ICC profile, by chunks of PNG, by the colour box of AVIF, or by EXIF. Profiles
of a matrix and tone curves, which most are, are applied here in float, whatever the depth of the
pixels. littleCMS applies those of tables, to 8 bits.

What can't be converted keeps its stored values, and the reason; :func:`settled` decides whether two
such images can still be compared.
"""

import hashlib
import io
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

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
from iqa_metrics.io.errors import ImageError
from iqa_metrics.io.icc import Profile, ProfileError, read_profile

ColourChoice = Literal["srgb", "ignore"]
COLOUR_CHOICES: tuple[ColourChoice, ...] = ("srgb", "ignore")

_HALF_STEP = 0.5 / 255
_BLOCK = 2**18
"""Most pixels that are converted at a time, which bounds the memory for it."""
_GAMMA_OF_SRGB, _GAMMA_SLACK = 1 / 2.2, 0.01
_CHROMATICITY_SLACK = 0.001
_EXIF, _EXIF_COLOUR, _EXIF_INTEROP = 0x8769, 0xA001, 0xA005


@dataclass(frozen=True)
class Stated:
    """What a file states about its colours; nothing by default.

    Attributes
    ----------
    icc
        An ICC profile; empty if the file has one that can't be read.
    cicp
        Primaries, transfer, matrix and full-range flag, by ITU-T H.273.
    srgb
        Whether it is said to be sRGB, by PNG's chunk of that name.
    gamma, chromaticities
        PNG's chunks gAMA and cHRM; the gamma is the exponent from light to stored values.
    adobe_rgb
        Whether EXIF says Adobe RGB.
    """

    icc: bytes | None = None
    cicp: tuple[int, int, int, int] | None = None
    srgb: bool = False
    gamma: float | None = None
    chromaticities: tuple[float, ...] | None = None
    adobe_rgb: bool = False


@dataclass(frozen=True)
class Colour:
    """What became of the colours of one image.

    Attributes
    ----------
    done
        What was done, such as ``Display P3 to sRGB``; empty if the stored values are sRGB.
    problem
        Why the colours could not be converted; empty if there was nothing to convert, or it was
        done.
    key
        Equal for images whose files state the same, if there is a problem.
    """

    done: str = ""
    problem: str = ""
    key: str = ""


def check_colour(colour: object) -> None:
    """Raise ValueError unless a choice of colour handling is one that exists."""
    if colour not in COLOUR_CHOICES:
        raise ValueError(
            f"colour: expected 'srgb' (convert to sRGB by the embedded profile) or 'ignore' (take "
            f"values as stored), got {colour!r}"
        )


def stated_by(image: Image.Image, cicp: tuple[int, int, int, int] | None = None) -> Stated:
    """Return what a loaded PIL image states about its colours."""
    info = image.info
    icc = info.get("icc_profile")
    if "icc_profile" in info and icc is None:  # Pillow found one, but it is damaged
        icc = b""
    elif not icc:
        icc = None
    gamma_, chromaticities = info.get("gamma"), info.get("chromaticity")
    png = image.format == "PNG" or image.format is None
    return Stated(
        icc=icc,
        cicp=cicp,
        srgb=png and "srgb" in info,
        gamma=float(gamma_) if png and gamma_ is not None else None,
        chromaticities=tuple(chromaticities) if png and chromaticities is not None else None,
        adobe_rgb=_is_adobe_rgb(image),
    )


def _is_adobe_rgb(image: Image.Image) -> bool:
    """Say whether EXIF states Adobe RGB, as cameras do (DCF 2.0: R03 and no sRGB)."""
    try:
        exif = image.getexif()
        colour = exif.get_ifd(_EXIF).get(_EXIF_COLOUR)
        if colour is None or colour == 1:
            return False
        interop = exif.get_ifd(_EXIF_INTEROP).get(1, "")
    except Exception:  # what is damaged states nothing
        return False
    text = interop.decode("latin-1") if isinstance(interop, bytes) else str(interop)
    return colour == 2 or text.rstrip("\0 ") == "R03"


@dataclass(frozen=True, eq=False)
class _Linear:
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
                table[block[..., at % channels]]
                if tables
                else curve(block[..., at % channels].astype(np.float64)).astype(np.float32)
                for at, (curve, table) in enumerate(
                    zip(self.curves, tables or self.curves, strict=True)
                )
            ]
            for plane in range(planes):
                found[plane, top : top + rows] = srgb_stored(np.clip(self._mixed(light, plane), 0, 1))
        return found

    def _mixed(self, light: list[NDArray[np.float32]], plane: int) -> NDArray[np.float32]:
        # Written out, since a matrix product may round differently for each number of threads.
        if self.matrix is None:
            return light[0]
        r, g, b = self.matrix[plane].astype(np.float32)
        mixed: NDArray[np.float32] = r * light[0] + g * light[1] + b * light[2]
        return mixed

    def is_identity(self, grey: bool) -> bool:
        """Say whether nothing changes by more than half a step of 8 bits."""
        samples = _samples(grey)
        expected = np.moveaxis(samples, -1, 0)
        return bool((np.abs(self.apply(samples) - expected) <= _HALF_STEP).all())


def _tabulated(
    curves: tuple[Curve, ...], dtype: np.dtype[Any]
) -> list[NDArray[np.float32]] | None:
    """Return the light of every integer value, or None for float values."""
    if dtype.kind == "f":
        return None
    peak = np.iinfo(dtype).max
    return [curve(np.arange(peak + 1) / peak).astype(np.float32) for curve in curves]


@dataclass(frozen=True, eq=False)
class _Tables:
    """A conversion by the tables of a profile, which littleCMS does with 8 bits."""

    name: str
    icc: bytes = field(repr=False)
    mode: str

    def apply(self, colours: NDArray[Any]) -> NDArray[np.float32]:
        """Convert uint8 ``[H, W, C]`` of 1 or 3 channels to sRGB, float32 ``[3, H, W]``."""
        found = np.moveaxis(self._in_steps(colours), -1, 0)
        return np.ascontiguousarray(found, dtype=np.float32) / np.float32(255)

    def _in_steps(self, colours: NDArray[Any]) -> NDArray[np.uint8]:
        from PIL import ImageCms

        if self.mode == "L":
            image = Image.fromarray(np.ascontiguousarray(colours[..., 0]))
        else:
            image = Image.fromarray(np.ascontiguousarray(np.broadcast_to(colours, (*colours.shape[:2], 3))))
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
        """Say whether no sample changes."""
        samples = np.round(_samples(grey) * 255).astype(np.uint8)
        return bool((self._in_steps(samples) == samples).all())


def _samples(grey: bool) -> NDArray[np.float64]:
    """Return colours ``[H, W, C]`` that show whether a conversion changes anything."""
    greys = (np.arange(256) / 255)[:, None, None]
    if grey:
        return greys
    steps = np.round(np.linspace(0, 255, 18)) / 255
    cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 1, 3)
    return np.concatenate([np.repeat(greys, 3, axis=-1), cube])


class _Unconverted(ValueError):
    """Colours that can't be converted. The message names them."""


_Conversion = _Linear | _Tables


def _of_space(space: ColourSpace) -> _Linear:
    return _Linear(space.name, space.curves, XYZ_TO_SRGB @ space.to_xyz)


def _of_icc(icc: bytes, grey: bool, deep: bool) -> _Conversion:
    if not icc:
        raise _Unconverted("a damaged ICC profile")
    profile = read_profile(icc)
    if profile.space != "RGB" and not (profile.space == "GRAY" and grey):
        raise _Unconverted(
            f"the {profile.space} profile {profile.name!r} in {'a grey' if grey else 'an RGB'} image"
        )
    if profile.tables:
        return _of_tables(profile, icc, deep)
    matrix = None if profile.to_xyz is None else XYZ_TO_SRGB @ profile.to_xyz
    return _Linear(profile.name, profile.curves, matrix)


def _of_tables(profile: Profile, icc: bytes, deep: bool) -> _Tables:
    from PIL import features

    what = f"the ICC profile {profile.name!r}, which has tables of colours"
    if deep:
        raise _Unconverted(f"{what}: littleCMS would cut this image's values to 8 bits")
    if not features.check("littlecms2"):
        raise _Unconverted(f"{what}: this Pillow was built without littleCMS")
    return _Tables(profile.name, icc, "L" if profile.space == "GRAY" else "RGB")


def _of_png(stated: Stated) -> _Linear | None:
    """Return the conversion of PNG's gAMA and cHRM, whose usual values stand for sRGB."""
    exponent, chromaticities = stated.gamma, stated.chromaticities
    if exponent is not None and not exponent > 0:
        raise _Unconverted(f"a gamma of {exponent}")
    if exponent is not None and abs(exponent / _GAMMA_OF_SRGB - 1) <= _GAMMA_SLACK:
        exponent = None
    points: Chromaticities = BT709_CHROMATICITIES
    if chromaticities is not None:
        if len(chromaticities) != 8:
            raise _Unconverted("a damaged chunk cHRM")
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


def _of_cicp(cicp: tuple[int, int, int, int]) -> _Linear:
    primaries, transfer, matrix, full = cicp
    if matrix != 0 or full != 1:
        raise _Unconverted(f"code points {cicp} of values that are not full-range RGB")
    return _of_space(space_of_cicp(primaries, transfer))


@lru_cache(maxsize=8)  # most images of a table have the same profile
def _conversion(stated: Stated, grey: bool, deep: bool) -> _Conversion | str | None:
    """Return the conversion to sRGB, None if there is nothing to convert, or why there is none.

    The order is that of PNG's third edition: cICP, ICC profile, sRGB, gAMA and cHRM; then EXIF.
    """
    found: _Conversion | None = None
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
    except (_Unconverted, SpaceError, ProfileError) as error:
        return str(error)
    except Exception as error:  # littleCMS
        return f"an ICC profile that littleCMS can't apply ({error})"


def converted(
    pixels: NDArray[Any], stated: Stated, choice: ColourChoice
) -> tuple[NDArray[np.float32] | None, Colour]:
    """Convert decoded pixels to sRGB.

    Parameters
    ----------
    pixels
        ``[H, W]`` or ``[H, W, C]``, uint8, uint16, or float in ``[0, 1]``. C is 1 or 3, and 2 or 4
        with alpha, which is left as it is.
    stated
        What the file states about its colours.
    choice
        ``ignore`` to convert nothing.

    Returns
    -------
    tuple
        float32 ``[C, H, W]`` in ``[0, 1]``, with colours outside sRGB's gamut limited to it; or
        None if the stored values are to be taken. And what was done.
    """
    if stated == Stated():
        return None, Colour()
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    bands = pixels.shape[-1]
    grey, has_alpha = bands < 3, bands in (2, 4)
    conversion = _conversion(stated, grey, pixels.dtype != np.uint8)
    if conversion is None:
        return None, Colour()
    if isinstance(conversion, str):
        if choice == "ignore":
            return None, Colour(done=f"{conversion}: ignored")
        return None, Colour(problem=conversion, key=_key(stated))
    if choice == "ignore":
        return None, Colour(done=f"{conversion.name} ignored")
    found = conversion.apply(pixels[..., : bands - has_alpha])
    if has_alpha:
        alpha = pixels[..., -1].astype(np.float32)
        peak = 1 if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max
        found = np.concatenate([found, alpha[None] / np.float32(peak)])
    return found, Colour(done=f"{conversion.name} to sRGB")


def _key(stated: Stated) -> str:
    """Return a hash of the statement that counts; empty if its content is not known."""
    if stated.cicp is None and stated.icc is not None:
        return hashlib.sha256(stated.icc).hexdigest() if stated.icc else ""
    return repr(stated.cicp or (stated.gamma, stated.chromaticities))


_REMEDY = "convert it to sRGB first, or set colour='ignore' to take its values as stored"


def refusal(colour: Colour) -> ImageError:
    """Return the error for a single image whose colours can't be converted."""
    return ImageError(
        f"its colours can't be converted to sRGB: it states {colour.problem}; {_REMEDY}",
        "bad_colour",
    )


def settled(reference: Colour, distorted: Colour) -> str:
    """Return what was done about the colours of a pair; empty if nothing was.

    Two images whose colours can't be converted are compared as stored if their files state the
    same. Raises :class:`ImageError` with code ``bad_colour`` if only one can't be converted, or
    they state different things.
    """
    problems = [("reference", reference), ("distorted", distorted)]
    if reference.problem and distorted.problem and reference.key and reference.key == distorted.key:
        return f"both: not converted, {reference.problem}"
    for role, colour in problems:
        if colour.problem:
            raise ImageError(
                f"{role}: its colours can't be converted to sRGB, and the other image does not "
                f"state the same: it states {colour.problem}; {_REMEDY}",
                "bad_colour",
            )
    if reference.done == distorted.done:
        return f"both: {reference.done}" if reference.done else ""
    return "; ".join(f"{role}: {colour.done}" for role, colour in problems if colour.done)
