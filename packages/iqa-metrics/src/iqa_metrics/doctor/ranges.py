"""Mistakes in the range of the images' values, and in what a network's input is scaled to."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from iqa_metrics.backbones.scaling import AS_IT_IS, HALVES, IMAGENET, InputScaling
from iqa_metrics.doctor.hypotheses import Hypothesis, Pairwise, both


def _one(
    name: str,
    tier: int,
    explanation: str,
    remedy: str,
    images: Callable[[Tensor], Tensor] | None = None,
    *,
    pair: Pairwise | None = None,
) -> Hypothesis:
    return Hypothesis(
        name=name,
        group="range",
        tier=tier,
        explanation=explanation,
        remedy=remedy,
        images=both(images) if images is not None else pair,
    )


def pixel_range_mistakes(scale_free: bool) -> Iterator[Hypothesis]:
    """Yield mistakes of metrics without a network.

    Parameters
    ----------
    scale_free
        Whether the metric has no peak: multiplying the images only multiplies its value.
    """
    if scale_free:
        yield _one(
            "scale_255",
            1,
            "the value is that of images in 0-255",
            "divide the images by 255, or the value by 255**2",
            lambda x: 255 * x,
        )
    else:
        state = "state the range of the images as data_range: 1 for [0, 1], 255 for 0-255"
        for name, tier, factor, explanation in (
            ("peak_255", 1, 1 / 255, "data_range is 255, but the images are in [0, 1]"),
            ("peak_1", 1, 255.0, "data_range is 1, but the images are in 0-255"),
            (
                "peak_2",
                1,
                0.5,
                "data_range is 2, as scikit-image once took for floats, but the images are in "
                "[0, 1]",
            ),
        ):
            yield _one(name, tier, explanation, state, lambda x, f=factor: f * x)  # type: ignore[misc]
        yield from _own_ranges()
    for bits, peak in ((10, 1023), (12, 4095), (14, 16383)):
        yield _one(
            f"peak_{peak}_of_16_bits",
            2,
            f"the peak is that of {bits} bits, {peak}, and not the 65535 of the 16-bit files",
            f"decide which is right: if the samples have {bits} bits, the other program is right, "
            f"and ours needs peak={peak}",
            lambda x, p=peak: x * (65535 / p),  # type: ignore[misc]
        )
        yield _one(
            f"peak_65535_of_{bits}_bits",
            3,
            f"the peak is 65535, but the samples have {bits} bits",
            f"take {peak} as the peak",
            lambda x, p=peak: x * (p / 65535),  # type: ignore[misc]
        )
    yield _one(
        "minus_one_one",
        1,
        "the images are in [-1, 1], where [0, 1] is wanted",
        "pass (x + 1) / 2",
        lambda x: 2 * x - 1,
    )
    yield _one(
        "minus_one_one_peak_2",
        2,
        "the images are in [-1, 1] with data_range 2, which moves their mean luminance",
        "pass (x + 1) / 2 with data_range 1",
        lambda x: x - 0.5,
    )
    yield _one(
        "normalised",
        2,
        "the images are normalised with ImageNet's mean and standard deviation",
        "pass images in [0, 1]; leave out Normalize",
        IMAGENET.apply,
    )


def _own_ranges() -> Iterator[Hypothesis]:
    """Yield hypotheses of a peak that is taken from the images."""
    remedy = "state data_range=1; do not take it from the images"
    for name, what, span in (
        ("range_of_reference", "the reference's range", lambda x, y: x.max() - x.min()),
        ("range_of_distorted", "the distorted image's range", lambda x, y: y.max() - y.min()),
        (
            "range_of_either",
            "the larger range of the two images",
            lambda x, y: torch.maximum(x.max() - x.min(), y.max() - y.min()),
        ),
        ("max_of_reference", "the reference's maximum", lambda x, y: x.max()),
    ):
        yield _one(
            name,
            2,
            f"data_range is {what}, and not that of the format",
            remedy,
            pair=lambda x, y, s=span: (x / s(x, y), y / s(x, y)),  # type: ignore[misc]
        )


def network_range_mistakes(scaling: InputScaling, lpips: bool) -> Iterator[Hypothesis]:
    """Yield mistakes in the input of a network.

    Parameters
    ----------
    scaling
        How the network's input is scaled.
    lpips
        Whether the authors' code takes images in [-1, 1].
    """
    own = _input_as(scaling)
    yield _one(
        "zero_one_for_minus_one_one",
        1 if lpips else 3,
        "the images are in [0, 1], where the other program takes [-1, 1]",
        "pass 2 * x - 1, or normalize=True to the package lpips",
        lambda x: (x + 1) / 2,
    )
    yield _one(
        "minus_one_one_for_zero_one",
        1,
        "the images are in [-1, 1], where the other program takes [0, 1]"
        + (" (normalize=True)" if lpips else ""),
        "pass (x + 1) / 2" + (", or leave out normalize=True" if lpips else ""),
        lambda x: 2 * x - 1,
    )
    yield _one(
        "unscaled_255",
        1,
        "the images are in 0-255, where [0, 1] is wanted",
        "divide by 255",
        lambda x: 255 * x,
    )
    yield _one(
        "divided_twice",
        2,
        "the images are divided by 255 twice",
        "divide by 255 once; torchvision's ToTensor does it already",
        lambda x: x / 255,
    )
    if lpips:
        yield _one(
            "unscaled_255_for_minus_one_one",
            1,
            "the images are in 0-255, where [-1, 1] is wanted",
            "pass x / 127.5 - 1",
            lambda x: (255 * x + 1) / 2,
        )
    yield from _normalisations(scaling, own, lpips)
    yield _one(
        "peak_4095_of_16_bits",
        3,
        "12-bit samples in 16-bit files are divided by 4095, and not by 65535",
        "decide which is right: if the samples have 12 bits, the other program is right",
        lambda x: x * (65535 / 4095),
    )


def _normalisations(
    scaling: InputScaling, own: Callable[[Tensor], Tensor], lpips: bool
) -> Iterator[Hypothesis]:
    once = "leave out Normalize: the metric scales the images itself"
    imagenet = "ImageNet's mean and standard deviation"
    # Normalising by halves gives the range [-1, 1], which is a hypothesis of its own.
    yield _one(
        "normalised_twice",
        1,
        f"the images are normalised with {imagenet} before the metric scales them too",
        once,
        IMAGENET.apply,
    )
    if lpips:
        yield _one(
            "normalised_for_minus_one_one",
            1,
            f"the images are normalised with {imagenet}, where [-1, 1] is wanted",
            "pass 2 * x - 1; the metric normalises the images itself",
            lambda x: (IMAGENET.apply(x) + 1) / 2,
        )
    for name, what, norm in (
        ("imagenet", imagenet, IMAGENET),
        ("halves", "a mean and standard deviation of 0.5", HALVES),
    ):
        if scaling not in (norm, AS_IT_IS):
            yield _one(
                f"normalised_by_{name}",
                2,
                f"the network's input is normalised with {what}, which is not what it was "
                "trained on",
                f"use the network's own: mean {scaling.mean}, std {scaling.std}, peak "
                f"{scaling.peak:g}",
                lambda x, n=norm: own(n.apply(x)),  # type: ignore[misc]
            )
    if scaling != AS_IT_IS:
        if scaling not in (IMAGENET, HALVES):
            yield _one(
                "own_normalisation_twice",
                1,
                "the images are normalised for the network twice",
                once,
                scaling.apply if scaling.channels == 3 else lambda x: x,
            )
        yield _one(
            "not_normalised",
            1,
            "the network's input is not normalised",
            f"normalise it: mean {scaling.mean}, std {scaling.std}, peak {scaling.peak:g}",
            own,
        )


def _input_as(scaling: InputScaling) -> Callable[[Tensor], Tensor]:
    """Return a function to images that the scaling turns into what the function is given."""

    def unscaled(wanted: Tensor) -> Tensor:
        if scaling.order == "L":
            raise ValueError("a network of lightness has no input with three channels")
        mean, std = (
            torch.tensor(values, dtype=wanted.dtype, device=wanted.device).view(1, -1, 1, 1)
            for values in (scaling.mean, scaling.std)
        )
        images = (wanted * std + mean) / scaling.peak
        return images.flip(1) if scaling.order == "BGR" else images

    return unscaled
