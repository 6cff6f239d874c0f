"""A number that somebody reports, with the precision that its digits state."""

import math
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

TOLERANCE = 1e-4
"""Default relative tolerance: implementations differ by about this in their arithmetic."""


@dataclass(frozen=True)
class Claim:
    """A reported value.

    Attributes
    ----------
    text
        The value as it was written.
    value
        The number.
    tolerance
        Greatest difference from it that counts as the same value: half a unit of the last digit
        that is written, plus a relative tolerance.
    """

    text: str
    value: float
    tolerance: float

    @classmethod
    def read(cls, claimed: str | float, relative: float = TOLERANCE) -> "Claim":
        """Read a claim.

        Parameters
        ----------
        claimed
            The value, best as the text that was reported: ``"0.120"`` states one digit more than
            ``"0.12"``.
        relative
            The relative tolerance, at least 0.

        Raises
        ------
        ValueError
            If it is not a finite number, or the tolerance is negative.

        Examples
        --------
        >>> Claim.read("0.123", relative=0.0).tolerance
        0.0005
        >>> Claim.read("1.20e-3", relative=0.0).tolerance
        5e-06
        """
        if not (math.isfinite(relative) and relative >= 0):
            raise ValueError(f"tolerance: expected a number of at least 0, got {relative!r}")
        text = claimed.strip() if isinstance(claimed, str) else repr(float(claimed))
        try:
            number = Decimal(text.removesuffix("dB").strip())
        except InvalidOperation as error:
            raise ValueError(
                f"claims: expected a number such as 0.1234 or 1.2e-3, got {text!r}"
            ) from error
        exponent = number.as_tuple().exponent
        if not number.is_finite() or not isinstance(exponent, int):
            raise ValueError(f"claims: expected a finite number, got {text!r}")
        value = float(number)
        half_a_digit = float(Decimal((0, (5,), exponent - 1)))
        if not (math.isfinite(value) and math.isfinite(half_a_digit)):
            raise ValueError(f"claims: expected a number within float64, got {text!r}")
        return cls(text, value, half_a_digit + relative * abs(value))

    def fits(self, value: float) -> bool:
        """Return whether a value is the claimed one, within the tolerance."""
        return math.isfinite(value) and abs(value - self.value) <= self.tolerance
