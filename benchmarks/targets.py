"""The targets: the largest share of the peer's time or memory, on two CPU cores."""

from types import MappingProxyType
from typing import Final

LPIPS: Final = MappingProxyType(
    {
        "float32": {"alex": 0.80, "squeeze": 0.55, "vgg": 0.85},
        "float32 compiled": {"alex": 0.75, "squeeze": 0.40, "vgg": 0.67},
        "bfloat16 compiled": {"alex": 0.42, "squeeze": 0.25, "vgg": 0.38},
    }
)
"""Time divided by that of the authors' package: the bounds, by way and network."""
LPIPS_SHARED: Final = MappingProxyType(
    {
        "float32": {"alex": 0.40, "squeeze": 0.25, "vgg": 0.40},
        "bfloat16": {"alex": 0.22, "squeeze": 0.12, "vgg": 0.20},
    }
)
"""The same for 1 reference and 24 distorted images, by precision, compiled or not."""
STRETCH: Final = MappingProxyType({("vgg", "float32 compiled"): 0.45})
"""More ambitious targets."""

FLOAT32_DEVIATION = 1e-6
BFLOAT16_DEVIATION = 3e-3
SROCC_DIFFERENCE = 2e-3

DISTS = 0.92
WINDOWS = 0.60
WINDOWS_COMPILED = 0.10
PSNR = 0.50
LPIPS_MEMORY = 0.10
WINOGRAD = 0.90
"""Time with the Winograd convolution divided by that without it: above that it is not worth it."""
TRAINING = 1.0
"""Memory and time of a training step divided by those of the authors' package."""
DEFAULT_COMPILED = 1 / 1.3
"""Time of the compiled default metric divided by that of the same uncompiled."""
EVERY_LAYER_MIB = 400.0
EVERY_LAYER_TIME = 1.0
NETWORK_BUSY = 0.90
MEMORY_GROWTH = 1.05
"""Peak memory in the last quarter of a table divided by that in the second: nearly constant."""
IMPORT = 1.15
STUDY_SECONDS = 300.0
STUDY_MIB = 4096.0
"""For the statistics of 46 networks of 20 layers on 3000 pairs, with 1000 bootstrap replicates."""
