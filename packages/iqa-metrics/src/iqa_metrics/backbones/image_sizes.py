"""What a network states about the sizes of its images and patches."""

import math
from collections.abc import Iterator

from torch import nn


def patch_size(network: nn.Module) -> int | None:
    """Return the side of a transformer's patches, where it states one."""
    for module in network.modules():
        side = _side(getattr(module, "patch_size", None))
        if side is not None:
            return side
    return None


def stated_sizes(network: nn.Module) -> Iterator[int]:
    """Yield the sizes of images that a network states, or that its position embeddings fit."""
    of_timm = getattr(network, "pretrained_cfg", None)
    sizes: list[object] = (
        [tuple(of_timm["input_size"])[1:]] if of_timm and "input_size" in of_timm else []
    )
    for module in network.modules():
        sizes += [getattr(module, name, None) for name in ("image_size", "img_size", "input_size")]
    yield from filter(None, map(_side, sizes))
    patches = {
        module.stride[0]
        for module in network.modules()
        if isinstance(module, nn.Conv2d) and module.stride == module.kernel_size != (1, 1)
    }
    for parameter in network.parameters():
        if parameter.ndim == 3 and parameter.shape[0] == 1:
            for prefix in range(3):
                rows = math.isqrt(max(0, parameter.shape[1] - prefix))
                if rows > 1 and rows * rows == parameter.shape[1] - prefix:
                    yield from (rows * patch for patch in patches)


def _side(size: object) -> int | None:
    """Return the side of a square, given as a number or as two."""
    sides = {size} if isinstance(size, int) else set(size) if isinstance(size, tuple) else set()
    side = sides.pop() if len(sides) == 1 else None
    return side if isinstance(side, int) and not isinstance(side, bool) and side > 0 else None
