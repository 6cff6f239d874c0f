"""RGB colour spaces: primaries, tone curves, and the linear way from one to another.

Tone curves here go from stored values to linear light, both in ``[0, 1]``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.floating[Any]]
Curve = Callable[[Values], Values]
Chromaticities = tuple[float, float, float, float, float, float, float, float]
"""CIE 1931 x and y of red, green, blue and white."""

_D65 = (0.3127, 0.3290)
_C = (0.310, 0.316)
_D50 = np.array([0.9642, 1.0, 0.8249])
"""The white of the ICC's profile connection space."""
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
BT709_CHROMATICITIES: Chromaticities = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, *_D65)


class SpaceError(ValueError):
    """A colour space that is unknown, or that has no way to sRGB."""


@dataclass(frozen=True, eq=False)
class ColourSpace:
    """An RGB colour space.

    Attributes
    ----------
    name
        Its name in messages.
    curves
        The tone curves of red, green and blue, from stored values to linear light.
    to_xyz
        The matrix from linear RGB to CIE XYZ with the white D50, ``[3, 3]``.
    """

    name: str
    curves: tuple[Curve, Curve, Curve]
    to_xyz: NDArray[np.float64]


def to_xyz(chromaticities: Chromaticities) -> NDArray[np.float64]:
    """Return the matrix from linear RGB to XYZ, with its white adapted to D50 (Bradford).

    See https://www.color.org/chadtag.xalter and annex E of ICC.1:2022. Raises SpaceError if the
    primaries do not span a colour space.
    """
    points = np.asarray(chromaticities, dtype=np.float64).reshape(4, 2)
    if not np.isfinite(points).all() or (points[:, 1] <= 0).any():
        raise SpaceError(f"primaries {chromaticities} that no colour space can have")
    columns = np.stack(
        [points[:, 0] / points[:, 1], np.ones(4), (1 - points.sum(axis=1)) / points[:, 1]]
    )
    primaries, white = columns[:, :3], columns[:, 3]
    if abs(np.linalg.det(primaries)) < 1e-6:
        raise SpaceError(f"primaries {chromaticities} that lie on one line")
    cones, aim = _BRADFORD @ white, _BRADFORD @ _D50
    if (cones <= 0).any():
        raise SpaceError(f"the white point {chromaticities[6:]}, which is no white")
    adapted = np.linalg.inv(_BRADFORD) @ np.diag(aim / cones) @ _BRADFORD
    found: NDArray[np.float64] = adapted @ (primaries * np.linalg.solve(primaries, white))
    return found


def linear(values: Values) -> Values:
    """Return values as they are."""
    return values


def srgb(values: Values) -> Values:
    """Return the linear light of sRGB values (IEC 61966-2-1)."""
    powered = np.power((np.maximum(values, 0) + 0.055) / 1.055, 2.4)
    return np.where(values <= 0.04045, values / 12.92, powered)


def srgb_stored(light: Values) -> Values:
    """Return the sRGB values of linear light in ``[0, 1]``, in the same precision."""
    powered = 1.055 * np.power(light, light.dtype.type(1 / 2.4)) - light.dtype.type(0.055)
    return np.where(light <= 0.0031308, 12.92 * light, powered)


def bt709(values: Values) -> Values:
    """Return the linear light of BT.709 and BT.2020 values, by ITU-T H.273, transfer 1."""
    alpha, beta = 1.09929682680944, 0.018053968510807
    powered = np.power((np.maximum(values, 0) + alpha - 1) / alpha, 1 / 0.45)
    return np.where(values < 4.5 * beta, values / 4.5, powered)


def gamma(exponent: float) -> Curve:
    """Return a power law as a tone curve."""

    def curve(values: Values) -> Values:
        return np.power(np.maximum(values, 0), exponent)

    return curve


SRGB_TO_XYZ = to_xyz(BT709_CHROMATICITIES)
XYZ_TO_SRGB = np.linalg.inv(SRGB_TO_XYZ)

ADOBE_RGB = ColourSpace(
    "Adobe RGB",
    (gamma(563 / 256),) * 3,
    to_xyz((0.64, 0.33, 0.21, 0.71, 0.15, 0.06, *_D65)),
)
"""Adobe RGB (1998), https://www.adobe.com/digitalimag/pdfs/AdobeRGB1998.pdf."""

_PRIMARIES: Mapping[int, tuple[str, Chromaticities]] = {
    1: ("BT.709", BT709_CHROMATICITIES),
    4: ("BT.470 M", (0.67, 0.33, 0.21, 0.71, 0.14, 0.08, *_C)),
    5: ("BT.601 625", (0.64, 0.33, 0.29, 0.60, 0.15, 0.06, *_D65)),
    6: ("BT.601 525", (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *_D65)),
    7: ("SMPTE 240M", (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *_D65)),
    8: ("generic film", (0.681, 0.319, 0.243, 0.692, 0.145, 0.049, *_C)),
    9: ("BT.2020", (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, *_D65)),
    11: ("DCI-P3", (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.314, 0.351)),
    12: ("Display P3", (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, *_D65)),
    22: ("EBU 3213", (0.630, 0.340, 0.295, 0.605, 0.155, 0.077, *_D65)),
}
_SRGB_TRANSFER, _UNSPECIFIED = 13, 2
_TRANSFERS: Mapping[int, tuple[str, Curve]] = {
    1: ("BT.709 curve", bt709),
    4: ("gamma 2.2", gamma(2.2)),
    5: ("gamma 2.8", gamma(2.8)),
    6: ("BT.709 curve", bt709),
    8: ("linear", linear),
    _SRGB_TRANSFER: ("sRGB curve", srgb),
    14: ("BT.709 curve", bt709),
    15: ("BT.709 curve", bt709),
}
_HDR = {16: "PQ", 18: "HLG"}


def hdr_reason(transfer: int) -> str | None:
    """Return why a transfer of ITU-T H.273 has no way to sRGB, or None if it is not HDR."""
    if transfer not in _HDR:
        return None
    return (
        f"{_HDR[transfer]} (HDR), which has no conversion to sRGB without a choice of tone mapping"
    )


def space_of_cicp(primaries: int, transfer: int) -> ColourSpace:
    """Return the colour space of two code points of ITU-T H.273.

    Unspecified ones (2) count as sRGB's. Raises SpaceError for HDR and for unknown code points.
    """
    reason = hdr_reason(transfer)
    if reason is not None:
        raise SpaceError(reason)
    primaries = 1 if primaries == _UNSPECIFIED else primaries
    transfer = _SRGB_TRANSFER if transfer == _UNSPECIFIED else transfer
    if primaries not in _PRIMARIES or transfer not in _TRANSFERS:
        raise SpaceError(
            f"the code points {primaries} (primaries) and {transfer} (transfer) of ITU-T H.273, of "
            "which at least one is not known"
        )
    name, chromaticities = _PRIMARIES[primaries]
    curve_name, curve = _TRANSFERS[transfer]
    if (primaries, transfer) == (1, _SRGB_TRANSFER):
        name = "sRGB"
    elif transfer != _SRGB_TRANSFER and not (primaries in (1, 9) and curve is bt709):
        name = f"{name}, {curve_name}"
    return ColourSpace(name, (curve,) * 3, to_xyz(chromaticities))
