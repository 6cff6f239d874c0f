"""What a file states about its colours."""

from dataclasses import dataclass
from typing import BinaryIO

from PIL import Image

CodePoints = tuple[int, int, int, int]
"""Primaries, transfer, matrix and full-range flag, by ITU-T H.273."""

_EXIF, _EXIF_COLOUR, _EXIF_INTEROP = 0x8769, 0xA001, 0xA005
_PNG = b"\x89PNG\r\n\x1a\n"
_MOST_CHUNKS = 10_000


@dataclass(frozen=True)
class Stated:
    """What a file states about its colours; nothing by default.

    Attributes
    ----------
    icc
        An ICC profile; empty if the file has one that can't be read.
    cicp
        The code points of PNG's chunk cICP, or of AVIF's colour box.
    srgb
        Whether it is said to be sRGB, by PNG's chunk of that name.
    gamma, chromaticities
        PNG's chunks gAMA and cHRM; the gamma is the exponent from light to stored values.
    adobe_rgb
        Whether EXIF says Adobe RGB.
    """

    icc: bytes | None = None
    cicp: CodePoints | None = None
    srgb: bool = False
    gamma: float | None = None
    chromaticities: tuple[float, ...] | None = None
    adobe_rgb: bool = False


def stated_by(image: Image.Image, cicp: CodePoints | None = None) -> Stated:
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


def cicp_of_png(file: BinaryIO) -> CodePoints | None:
    """Return the code points of PNG's chunk cICP, which Pillow does not expose.

    None if the file is no PNG, or has no such chunk before its pixels.
    """
    file.seek(0)
    if file.read(len(_PNG)) != _PNG:
        return None
    at = len(_PNG)
    for _ in range(_MOST_CHUNKS):
        head = file.read(8)
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if len(head) < 8 or kind in (b"IDAT", b"IEND"):
            return None
        if kind == b"cICP" and length == 4:
            content = file.read(4)
            return (content[0], content[1], content[2], content[3]) if len(content) == 4 else None
        at += 12 + length
        file.seek(at)
    return None
