"""Mistakes in the colours of the images."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from iqa_metrics.doctor.hypotheses import Hypothesis, both

_BT601 = (0.299, 0.587, 0.114)
_BT709 = (0.2125, 0.7154, 0.0721)
_MATLAB = (65.481 / 255, 128.553 / 255, 24.966 / 255)
_MATLAB_OFFSET = 16 / 255


def rounded(images: Tensor) -> Tensor:
    """Return images as 8 bits would hold them."""
    return (images.clamp(0, 1) * 255).round() / 255


def grey(weights: tuple[float, ...] = _BT601, offset: float = 0.0) -> Callable[[Tensor], Tensor]:
    """Return a function to grey images, ``offset + sum(weights * RGB)``, repeated to 3 channels."""

    def of(images: Tensor) -> Tensor:
        column = torch.tensor(weights, dtype=images.dtype, device=images.device).view(1, 3, 1, 1)
        return (offset + (images * column).sum(1, keepdim=True)).expand(-1, 3, -1, -1)

    return of


def luma() -> Callable[[Tensor], Tensor]:
    """Return a function to the luma Y of MATLAB's ``rgb2ycbcr``, for RGB in [0, 1]."""
    return grey(_MATLAB, _MATLAB_OFFSET)


def colour_mistakes(deep: bool) -> Iterator[Hypothesis]:
    """Yield mistakes in the colours; ``deep`` is whether the metric has a network."""

    def one(
        name: str, tier: int, explanation: str, remedy: str, images: Callable[[Tensor], Tensor]
    ) -> Hypothesis:
        return Hypothesis(
            name=name,
            group="colour",
            tier=tier,
            explanation=explanation,
            remedy=remedy,
            images=both(images),
        )

    rgb = "pass RGB; cv2.imread gives BGR: cv2.cvtColor(image, cv2.COLOR_BGR2RGB)"
    colours = "compare the colour images; do not convert them to grey"
    yield one("bgr", 1, "both images are in the order BGR", rgb, lambda x: x.flip(1))
    yield Hypothesis(
        name="bgr_distorted",
        group="colour",
        explanation="one image is in the order RGB and the other in BGR",
        remedy=rgb + ", of both images",
        images=lambda x, y: (x, y.flip(1)),
    )
    yield one("grey", 1, "the images are converted to grey (BT.601)", colours, grey())
    yield one(
        "grey_8_bit",
        2,
        "the images are converted to grey (BT.601) and rounded to 8 bits, as by Pillow's "
        "convert('L') or OpenCV",
        colours,
        lambda x: rounded(grey()(x)),
    )
    yield one(
        "grey_bt709",
        2,
        "the images are converted to grey (BT.709), as by scikit-image's rgb2gray",
        colours,
        grey(_BT709),
    )
    yield one(
        "luma_y",
        2 if deep else 1,
        "only the luma Y is compared (BT.601 from 16 to 235, as in MATLAB's rgb2ycbcr)",
        "compare RGB, or state that the value is of Y, as in papers about super-resolution; ours "
        "is space='y'",
        luma(),
    )
    yield one(
        "luma_y_8_bit",
        2,
        "only the luma Y is compared (MATLAB's rgb2ycbcr), rounded to 8 bits",
        "compare RGB, or state that the value is of Y; ours is space='y8'",
        lambda x: rounded(luma()(x)),
    )
    yield one("grey_mean", 3, "the mean of R, G and B is compared", colours, grey((1 / 3,) * 3))
    for channel, colour in enumerate(("red", "green", "blue")):
        yield one(
            f"{colour}_only",
            3,
            f"only the {colour} channel is compared",
            "compare all three channels",
            lambda x, c=channel: x[:, c : c + 1].expand(-1, 3, -1, -1),  # type: ignore[misc]
        )
    yield one(
        "linear_light",
        3,
        "sRGB is converted to linear light first",
        "compare sRGB values as stored",
        _linear,
    )


def _linear(images: Tensor) -> Tensor:
    curve = ((images.clamp(min=0.04) + 0.055) / 1.055) ** 2.4
    return torch.where(images <= 0.04045, images / 12.92, curve)
