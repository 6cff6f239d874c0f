"""What is known of the sets of images that backbones learned from."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

LARGE, SMALL = 1_000_000, 100_000
"""The fewest images of a large data set, and the most of a small one."""


@dataclass(frozen=True)
class TrainingData:
    """A set of images.

    Attributes
    ----------
    images
        The number of training images, rounded.
    natural
        Whether they are photographs of all kinds of things and scenes. It is false for sets of one
        kind, such as digits, faces, streets or rendered objects.
    """

    images: int
    natural: bool


_KNOWN: Mapping[str, TrainingData] = {
    "imagenet1k": TrainingData(1_281_000, natural=True),
    "imagenet": TrainingData(1_281_000, natural=True),
    "imagenet12k": TrainingData(12_000_000, natural=True),
    "imagenet21k": TrainingData(14_000_000, natural=True),
    "imagenet22k": TrainingData(14_000_000, natural=True),
    "places205": TrainingData(2_448_000, natural=True),
    "places365": TrainingData(1_803_000, natural=True),
    "yfcc100m": TrainingData(99_000_000, natural=True),
    "instagram940m": TrainingData(940_000_000, natural=True),
    "instagram3.6b": TrainingData(3_600_000_000, natural=True),
    "openimages": TrainingData(9_000_000, natural=True),
    "laion2b": TrainingData(2_000_000_000, natural=True),
    "laion400m": TrainingData(400_000_000, natural=True),
    "jft300m": TrainingData(300_000_000, natural=True),
    "lvd142m": TrainingData(142_000_000, natural=True),
    "coco": TrainingData(118_000, natural=True),
    "ade20k": TrainingData(20_000, natural=True),
    "pascalvoc": TrainingData(11_500, natural=True),
    "voc2012": TrainingData(11_500, natural=True),
    "stl10": TrainingData(100_000, natural=True),
    "tinyimagenet": TrainingData(100_000, natural=True),
    "cifar10": TrainingData(50_000, natural=False),
    "cifar100": TrainingData(50_000, natural=False),
    "mnist": TrainingData(60_000, natural=False),
    "fashionmnist": TrainingData(60_000, natural=False),
    "svhn": TrainingData(73_000, natural=False),
    "cityscapes": TrainingData(3_000, natural=False),
    "kitti": TrainingData(7_500, natural=False),
    "bsds500": TrainingData(300, natural=True),
    "div2k": TrainingData(800, natural=True),
    "celeba": TrainingData(163_000, natural=False),
    "ffhq": TrainingData(70_000, natural=False),
    "tid2008": TrainingData(1_700, natural=False),
    "tid2013": TrainingData(3_000, natural=False),
    "kadid10k": TrainingData(10_125, natural=False),
}


def parts_of(name: str) -> list[TrainingData]:
    """Return what is known of each part of data such as ``"YFCC100M + ImageNet-1k"``."""
    found = [_KNOWN.get(re.sub(r"[^a-z0-9.]", "", part.lower())) for part in name.split("+")]
    return [one for one in found if one is not None]


def is_large(name: str) -> bool:
    """Return whether data is known to include a large set of natural images."""
    return any(one.natural and one.images >= LARGE for one in parts_of(name))


def is_small(name: str) -> bool:
    """Return whether data is known to be small, or restricted to images of one kind."""
    parts = parts_of(name)
    return bool(parts) and all(one.images <= SMALL or not one.natural for one in parts)
