"""Ways to make test images, without the code under test."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

REPOSITORY = Path(__file__).parents[1]
SHARED = REPOSITORY.parent / "shared"


def encoded(image, kind="PNG", **options):
    """The bytes of an image file."""
    buffer = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def tensor(array):
    """[H, W, 3] uint8 -> [1, 3, H, W] in [0, 1]."""
    return torch.from_numpy(np.array(array)).permute(2, 0, 1)[None].float() / 255
