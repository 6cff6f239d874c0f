"""A metric's map as a PNG from which its values can be read back."""

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

LEVELS = 65535
"""A map's PNG has 16 bits: 0 stands for ``low`` and this for ``high``, linearly."""


def map_body(values: Tensor) -> dict[str, Any]:
    """Return a map ``[H, W]`` as a 16-bit grey PNG in base64, and the values of its levels.

    Level 0 is ``low``, the lowest finite value, and level 65535 is ``high``, the highest one.
    Infinite values get the nearer end.
    """
    array = values.numpy().astype(np.float64)
    finite = array[np.isfinite(array)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    scale = LEVELS / (high - low) if high > low else 0.0
    clipped = np.nan_to_num(array, nan=low, posinf=high, neginf=low)
    levels = np.rint((clipped - low) * scale).astype(np.uint16)
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "PNG", compress_level=1)
    return {"png": base64.b64encode(file.getvalue()).decode(), "low": low, "high": high}


def map_values(png: bytes, low: float, high: float) -> NDArray[np.float64]:
    """Return the values ``[H, W]`` of a map's PNG, exact to half a grey level."""
    with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
        levels = np.asarray(image, dtype=np.float64)
    return low + levels * ((high - low) / LEVELS)
