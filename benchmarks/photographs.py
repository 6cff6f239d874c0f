"""Photographs, and copies of them with compression, blur and noise."""

import io
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageFilter
from skimage import data
from torch import Tensor

QUICK_SIZE = (192, 176)
"""Image size in a smoke run, whatever the case's own size: the smallest that MS-SSIM accepts."""


def photograph(number: int, size: tuple[int, int]) -> Image.Image:
    """Return one of scikit-image's photographs, resized; numbers 3 to 5 are mirrored, and so on."""
    arrays = (data.astronaut, data.coffee, data.chelsea)
    picture = Image.fromarray(arrays[number % 3]()).resize(size, Image.Resampling.LANCZOS)
    mirrored = number // 3 % 2
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else picture


def distorted(picture: Image.Image, number: int) -> Image.Image:
    """Return a distorted copy: JPEG, blur and noise in turn, in increasing strengths."""
    strength = 1 + number // 3 % 8
    if number % 3 == 0:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=64 // strength)
        return Image.open(file).convert("RGB")
    if number % 3 == 1:
        return picture.filter(ImageFilter.GaussianBlur(0.75 * strength))
    noise = np.random.default_rng(number).normal(0, 4 * strength, np.asarray(picture).shape)
    return Image.fromarray((np.asarray(picture) + noise).round().clip(0, 255).astype(np.uint8))


def batch(pictures: Sequence[Image.Image]) -> Tensor:
    """Return pictures of the same size as ``[N, 3, H, W]`` in [0, 1]."""
    array = np.stack([np.asarray(picture) for picture in pictures])
    return torch.from_numpy(array).permute(0, 3, 1, 2).contiguous().float() / 255


def pairs(size: tuple[int, int], count: int) -> tuple[Tensor, Tensor]:
    """Return ``count`` references and distorted images, ``[N, 3, H, W]`` each."""
    references = [photograph(number, size) for number in range(count)]
    return batch(references), batch([distorted(p, n) for n, p in enumerate(references)])


def one_to_many(size: tuple[int, int], count: int) -> tuple[Tensor, Tensor]:
    """Return one reference ``[1, 3, H, W]`` and ``count`` distorted copies ``[N, 3, H, W]``."""
    reference = photograph(0, size)
    return batch([reference]), batch([distorted(reference, number) for number in range(count)])
