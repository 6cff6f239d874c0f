"""Conventions of papers: what is compared of two images, before any metric looks at them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, Literal, get_args

Space = Literal["rgb", "y", "y8"]
SPACES: tuple[Space, ...] = get_args(Space)
CONVENTIONS = ("space", "border", "peak")
"""Names of the conventions, which are also columns of tables of pairs."""


@dataclass(frozen=True)
class Conventions:
    """What is compared of two images, as papers on super-resolution and compression state it.

    Attributes
    ----------
    space
        ``"rgb"``, or ``"y"``: the luma Y of ITU-R BT.601, as MATLAB's ``rgb2ycbcr`` gives it for
        images of floating-point numbers. Black is 16/255 and white 235/255, and yet the dynamic
        range of metrics stays 1, as in those papers. ``"y8"`` rounds Y to 8 bits, as ``rgb2ycbcr``
        does for images of 8 bits; the gradient passes the rounding unchanged. Networks get Y in all
        three channels.
    border
        Number of pixels that are cut off on each side of both images.
    peak
        The value of white in the images as they are given, such as 255, or 4095 for 12 bits in
        samples of 16. None means what their type says: 1 for tensors and floating-point samples,
        the greatest number for integers.

    Raises
    ------
    ValueError
        If one of them has another value.

    Examples
    --------
    >>> from iqa_metrics import Conventions
    >>> str(Conventions(space="y", border=4))
    'space:y|border:4|peak:type'
    """

    space: Space = "rgb"
    border: int = 0
    peak: float | None = None

    def __post_init__(self) -> None:
        if self.space not in SPACES:
            raise ValueError(f"space: expected one of {', '.join(SPACES)}, got {self.space!r}")
        # Numbers of NumPy count as well.
        whole = isinstance(self.border, Integral) and not isinstance(self.border, bool)
        if not whole or self.border < 0:
            raise ValueError(f"border: expected a number of pixels from 0 on, got {self.border!r}")
        object.__setattr__(self, "border", int(self.border))
        if self.peak is None:
            return
        fine = isinstance(self.peak, Real) and not isinstance(self.peak, bool)
        if not (fine and math.isfinite(self.peak) and self.peak > 0):
            raise ValueError(
                f"peak: expected the value of white, above 0, such as 255; got {self.peak!r}"
            )
        object.__setattr__(self, "peak", float(self.peak))

    def __str__(self) -> str:
        peak = "type" if self.peak is None else repr(float(self.peak)).removesuffix(".0")
        return f"space:{self.space}|border:{self.border}|peak:{peak}"

    def with_changes(self, changes: Mapping[str, object]) -> "Conventions":
        """Return conventions in which some are changed.

        Parameters
        ----------
        changes
            Their names to values, or to text as in a cell of a table. What is None is not changed;
            other names are ignored.

        Raises
        ------
        ValueError
            If a value is none that it can have.

        Examples
        --------
        >>> from iqa_metrics import Conventions
        >>> Conventions().with_changes({"space": "y", "border": "4", "peak": None})
        Conventions(space='y', border=4, peak=None)
        """
        given: dict[str, Any] = {
            name: value
            for name, value in changes.items()
            if name in CONVENTIONS and value is not None
        }
        for name, convert in (("border", _whole), ("peak", _number)):
            if name in given:
                given[name] = convert(given[name])
        if "space" in given:
            given["space"] = str(given["space"]).strip()
        return replace(self, **given)


AS_GIVEN = Conventions()


def _whole(value: object) -> object:
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    # A table of pandas has whole numbers as floats where cells of the column are empty.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _number(value: object) -> object:
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value
