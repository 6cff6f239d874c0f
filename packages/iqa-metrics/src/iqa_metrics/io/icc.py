"""Read ICC profiles (ICC.1:2022): their names, and the tone curves and matrix that most have.

Profiles with tables are only recognised here; littleCMS applies them.
"""

import struct
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from iqa_metrics.io.colour_spaces import Curve, Values, hdr_reason, linear

_HEADER, _MOST_TAGS = 128, 200
_TABLES = (b"A2B0", b"A2B1", b"D2B0", b"D2B1")
_CLASSES = (b"mntr", b"scnr", b"prtr", b"spac")
_COLOURS = (b"r", b"g", b"b")
_PARAMETERS = (1, 3, 4, 5, 7)
"""Number of parameters of each parametric curve type."""
_LONGEST_NAME = 60


class ProfileError(ValueError):
    """A profile that is damaged, or that does not lead from an image to colours."""


@dataclass(frozen=True, eq=False)
class Profile:
    """An ICC profile.

    Attributes
    ----------
    name
        The profile's description, ``ICC profile`` if it has none.
    space
        ``RGB``, ``GRAY``, ``CMYK``...
    tables
        Whether it converts by tables of colours. If so, the others are empty.
    curves
        Tone curves from stored values to linear light: three (RGB) or one (grey).
    to_xyz
        The matrix from linear RGB to XYZ with the white D50; None for grey.
    """

    name: str
    space: str
    tables: bool
    curves: tuple[Curve, ...] = ()
    to_xyz: NDArray[np.float64] | None = None


def read_profile(content: bytes) -> Profile:
    """Read a profile. Raises ProfileError."""
    try:
        return _profile(content)
    except (struct.error, UnicodeDecodeError, IndexError) as error:
        raise ProfileError(f"a damaged ICC profile ({error})") from error


def _profile(content: bytes) -> Profile:
    if len(content) < _HEADER + 4 or content[36:40] != b"acsp":
        raise ProfileError("a damaged ICC profile (no ICC header)")
    tags = _tags(content)
    name = _name(tags.get(b"desc", b""))
    space = content[16:20].decode("ascii").strip()
    if content[12:16] not in _CLASSES:
        raise ProfileError(f"the ICC profile {name!r}, which does not describe an image's colours")
    if content[20:24] not in (b"XYZ ", b"Lab "):
        raise ProfileError(f"a damaged ICC profile, {name!r} (connection space)")
    cicp = tags.get(b"cicp", b"")
    reason = hdr_reason(cicp[9]) if len(cicp) >= 12 else None
    if reason is not None:
        raise ProfileError(f"the ICC profile {name!r} of {reason}")
    if any(tag in tags for tag in _TABLES) or space not in ("RGB", "GRAY"):
        return Profile(name, space, tables=True)
    if space == "GRAY":
        curve = _curve(_required(tags, b"kTRC"))
        if content[20:24] == b"Lab ":
            curve = partial(_light_of_lightness, curve)
        return Profile(name, space, False, (curve,))
    curves = tuple(_curve(_required(tags, colour + b"TRC")) for colour in _COLOURS)
    columns = [_xyz(_required(tags, colour + b"XYZ")) for colour in _COLOURS]
    to_xyz = np.array(columns, dtype=np.float64).T
    if abs(np.linalg.det(to_xyz)) < 1e-6:
        raise ProfileError("a damaged ICC profile (its primaries lie on one line)")
    return Profile(name, space, False, curves, to_xyz)


def _tags(content: bytes) -> dict[bytes, bytes]:
    (count,) = struct.unpack_from(">I", content, _HEADER)
    if count > _MOST_TAGS:
        raise ProfileError(f"a damaged ICC profile ({count} tags)")
    tags = {}
    for number in range(count):
        tag, start, size = struct.unpack_from(">4sII", content, _HEADER + 4 + 12 * number)
        if start + size > len(content):
            raise ProfileError("a damaged ICC profile (a tag lies past its end)")
        tags[tag] = content[start : start + size]
    return tags


def _required(tags: dict[bytes, bytes], tag: bytes) -> bytes:
    if tag not in tags:
        raise ProfileError(f"a damaged ICC profile (no tag {tag.decode()})")
    return tags[tag]


def _name(content: bytes) -> str:
    text = ""
    if content[:4] == b"desc":
        (count,) = struct.unpack_from(">I", content, 8)
        text = content[12 : 12 + count].split(b"\0")[0].decode("latin-1")
    elif content[:4] == b"mluc":
        size, start = struct.unpack_from(">II", content, 20)
        text = content[start : start + size].decode("utf-16-be", errors="replace")
    shown = "".join(letter for letter in text if letter.isprintable()).strip()
    return shown[:_LONGEST_NAME] or "ICC profile"


def _xyz(content: bytes) -> tuple[float, ...]:
    if content[:4] != b"XYZ ":
        raise ProfileError("a damaged ICC profile (a colour that is not XYZ)")
    return tuple(value / 65536 for value in struct.unpack_from(">3i", content, 8))


def _curve(content: bytes) -> Curve:
    if content[:4] == b"para":
        (kind,) = struct.unpack_from(">H", content, 8)
        if kind >= len(_PARAMETERS):
            raise ProfileError(f"a damaged ICC profile (parametric curve {kind})")
        found = struct.unpack_from(f">{_PARAMETERS[kind]}i", content, 12)
        curve: Curve = partial(_parametric, kind, tuple(value / 65536 for value in found))
    elif content[:4] == b"curv":
        (count,) = struct.unpack_from(">I", content, 8)
        if count > (len(content) - 12) // 2:
            raise ProfileError("a damaged ICC profile (a curve is cut off)")
        table = np.frombuffer(content, ">u2", count, 12)
        if count == 0:
            curve = linear
        elif count == 1:
            curve = partial(_parametric, 0, (float(table[0]) / 256,))
        else:
            curve = partial(_interpolated, table.astype(np.float64) / 65535)
    else:
        raise ProfileError("a damaged ICC profile (a curve of unknown type)")
    if not np.isfinite(curve(np.linspace(0, 1, 257))).all():
        raise ProfileError("a damaged ICC profile (a curve without values)")
    return curve


def _parametric(kind: int, parameters: tuple[float, ...], values: Values) -> Values:
    """Return a parametric curve, section 10.18 of ICC.1:2022, limited to [0, 1]."""
    g, a, b, c, d, e, f = (*parameters, *(0.0,) * (7 - len(parameters)))
    with np.errstate(all="ignore"):  # what is not finite is refused when the profile is read
        if kind == 0:
            found = np.power(values, g)
        elif kind <= 2:
            inside = a * values + b
            offset = c if kind == 2 else 0.0
            powered = np.power(np.maximum(inside, 0), g) + offset
            found = np.where(inside >= 0, powered, offset)
        else:
            powered = np.power(np.maximum(a * values + b, 0), g) + e
            found = np.where(values >= d, powered, c * values + f)
        return np.clip(found, 0, 1)


def _interpolated(table: NDArray[np.float64], values: Values) -> Values:
    return np.interp(values, np.linspace(0, 1, len(table)), table)


def _light_of_lightness(curve: Curve, values: Values) -> Values:
    """Return the luminance of CIE L*, which grey profiles connected by Lab give."""
    lightness = 100 * curve(values)
    return np.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness * 27 / 24389)
