"""Mistakes in the sizes of the images, and in the order of their axes."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from iqa_metrics.doctor.colours import rounded
from iqa_metrics.doctor.hypotheses import Hypothesis, both

_SAME_SIZE = "compare the images at their own size"


def size_mistakes(deep: bool) -> Iterator[Hypothesis]:
    """Yield mistakes in the sizes of the images, and in the order of their axes."""
    yield Hypothesis(
        name="reshaped",
        group="geometry",
        tier=1 if deep else 2,
        explanation="channels-last arrays are reshaped, not permuted, to channels first, which "
        "scrambles the image",
        remedy="use permute(2, 0, 1) (numpy: transpose), not reshape or view",
        images=both(_scrambled),
    )
    yield Hypothesis(
        name="transposed",
        group="geometry",
        explanation="height and width are swapped",
        remedy="use permute(2, 0, 1), not transpose(0, 2) or .T",
        images=both(lambda x: x.transpose(-1, -2)),
    )
    for pixels in range(1, 9):
        yield Hypothesis(
            name=f"border_{pixels}",
            group="geometry",
            tier=2 if deep else 1,
            explanation=f"{pixels} pixel(s) are shaved off at every border",
            remedy="compare the whole images, or state the border, as papers about "
            f"super-resolution do; ours is border={pixels}",
            images=both(lambda x, b=pixels: x[..., b:-b, b:-b]),  # type: ignore[misc]
        )
    for side in (224, 256):
        yield _cropped(f"cropped_{side}", side, None)
    yield _cropped("resized_256_cropped_224", 224, 256)
    for name, what, size in (
        ("256x256", "to 256x256", _exactly(256)),
        ("224x224", "to 224x224", _exactly(224)),
        ("512x512", "to 512x512", _exactly(512)),
        ("short_side_256", "so that the shorter side has 256 pixels", _shorter(256)),
        ("short_side_224", "so that the shorter side has 224 pixels", _shorter(224)),
        ("half", "to half their height and width", lambda h, w: (h // 2, w // 2)),
        ("double", "to double their height and width", lambda h, w: (2 * h, 2 * w)),
    ):
        yield from _resized(name, what, size, deep)


def _cropped(name: str, side: int, shorter: int | None) -> Hypothesis:
    first = "" if shorter is None else f"resized to a shorter side of {shorter} pixels, then "

    def cut(images: Tensor) -> Tensor:
        if shorter is not None:
            images = resized(_shorter(shorter))(images)
        height, width = images.shape[-2:]
        if min(height, width) < side:
            raise ValueError("the image is smaller than the crop")
        # As torchvision's center_crop rounds.
        top, left = round((height - side) / 2), round((width - side) / 2)
        return images[..., top : top + side, left : left + side]

    return Hypothesis(
        name=name,
        group="geometry",
        tier=1 if side == 224 else 2,
        explanation=f"the images are {first}cropped to their central {side}x{side} pixels",
        remedy=f"{_SAME_SIZE}; leave out the transforms of classifiers",
        images=both(cut),
    )


Size = Callable[[int, int], tuple[int, int]]


def _exactly(side: int) -> Size:
    return lambda height, width: (side, side)


def _shorter(side: int) -> Size:
    def size(height: int, width: int) -> tuple[int, int]:
        short = min(height, width)
        return side * height // short, side * width // short

    return size


def resized(
    size: Size, mode: str = "bilinear", antialias: bool = True
) -> Callable[[Tensor], Tensor]:
    """Return a function that resizes images ``[N, 3, H, W]`` to ``size(H, W)``."""

    def of(images: Tensor) -> Tensor:
        wanted = size(*images.shape[-2:])
        if wanted == tuple(images.shape[-2:]):
            return images
        options: dict[str, Any] = {} if mode == "nearest" else {"align_corners": False}
        if mode != "nearest":
            options["antialias"] = antialias
        return F.interpolate(images, wanted, mode=mode, **options)

    return of


_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def by_pillow(size: Size, mode: str) -> Callable[[Tensor], Tensor]:
    """Return a function that resizes one image ``[1, 3, H, W]``, in 8 bits, as Pillow does."""

    def of(images: Tensor) -> Tensor:
        height, width = size(*images.shape[-2:])
        pixels = (images[0].clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0)
        picture = Image.fromarray(pixels.cpu().numpy()).resize((width, height), _RESAMPLING[mode])
        resized = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]
        return resized.to(images.device, images.dtype) / 255

    return of


def _resized(name: str, what: str, size: Size, deep: bool) -> Iterator[Hypothesis]:
    usual = 1 if deep and name in ("256x256", "224x224", "short_side_256") else 2
    usual += name in ("512x512", "double")
    for suffix, how, mode, antialias, eight_bits, rarer in (
        ("", "bilinear, antialiased", "bilinear", True, False, 0),
        ("_not_antialiased", "bilinear, not antialiased", "bilinear", False, False, 0),
        ("_8_bit", "bilinear, antialiased, 8 bits, as by Pillow", "bilinear", True, True, 1),
        ("_cv2", "bilinear, not antialiased, 8 bits, as by OpenCV", "bilinear", False, True, 1),
        ("_bicubic", "bicubic, antialiased", "bicubic", True, False, 1),
        (
            "_bicubic_8_bit",
            "bicubic, antialiased, 8 bits, Pillow's default",
            "bicubic",
            True,
            True,
            1,
        ),
        ("_bicubic_not_antialiased", "bicubic, not antialiased", "bicubic", False, False, 1),
        ("_nearest", "nearest neighbour", "nearest", False, False, 2),
    ):
        if name in ("512x512", "double") and (not antialias or mode == "nearest"):
            continue  # enlarging is the same without it, and large images take long
        resize = resized(size, mode, antialias)
        if eight_bits:
            resize = by_pillow(size, mode) if antialias else _then_rounded(resize)
        yield Hypothesis(
            name=f"resized_{name}{suffix}",
            group="geometry",
            tier=usual + rarer,
            explanation=f"the images are resized {what} ({how})",
            remedy=f"{_SAME_SIZE}, or state the size and how they are resized",
            images=both(resize),
        )


def _then_rounded(resize: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda images: rounded(resize(images))


def _scrambled(images: Tensor) -> Tensor:
    return images.permute(0, 2, 3, 1).reshape(images.shape)
