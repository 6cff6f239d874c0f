"""Convert decoded pixels to sRGB, and decide whether a pair of images can be compared.

What can't be converted keeps its stored values, and the reason; :func:`settled` decides whether two
such images can still be compared.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from iqa_metrics.io.conversions import conversion_to_srgb
from iqa_metrics.io.errors import ImageError
from iqa_metrics.io.stated_colour import Stated

ColourChoice = Literal["srgb", "ignore"]
COLOUR_CHOICES: tuple[ColourChoice, ...] = ("srgb", "ignore")
_REMEDY = "convert it to sRGB first, or set colour='ignore' to take its values as stored"


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
        Equal for images whose files state the same; empty if they state nothing, or if it can't be
        read.
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
    conversion = conversion_to_srgb(stated, grey, pixels.dtype != np.uint8)
    key = _key(stated)
    if conversion is None:
        return None, Colour(key=key)
    if isinstance(conversion, str):
        if choice == "ignore":
            return None, Colour(done=f"{conversion}: ignored", key=key)
        return None, Colour(problem=conversion, key=key)
    if choice == "ignore":
        return None, Colour(done=f"{conversion.name} ignored", key=key)
    found = conversion.apply(pixels[..., : bands - has_alpha])
    if has_alpha:
        alpha = pixels[..., -1].astype(np.float32)
        peak = 1 if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max
        found = np.concatenate([found, alpha[None] / np.float32(peak)])
    return found, Colour(done=f"{conversion.name} to sRGB", key=key)


def _key(stated: Stated) -> str:
    """Return a hash of the statement that counts; empty if its content is not known."""
    if stated.cicp is None and stated.icc is not None:
        return hashlib.sha256(stated.icc).hexdigest() if stated.icc else ""
    return repr(stated.cicp or (stated.gamma, stated.chromaticities))


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
    same = reference.key != "" and reference.key == distorted.key
    if reference.problem and distorted.problem and same:
        return f"both: not converted, {reference.problem}"
    for role, colour in problems:
        if colour.problem:
            other = (
                "and those of the other image, which states the same, can be"
                if same
                else "and the other image does not state the same"
            )
            raise ImageError(
                f"{role}: its colours can't be converted to sRGB, {other}: it states "
                f"{colour.problem}; {_REMEDY}",
                "bad_colour",
            )
    if reference.done == distorted.done:
        return f"both: {reference.done}" if reference.done else ""
    return "; ".join(f"{role}: {colour.done}" for role, colour in problems if colour.done)
