"""Functions that make test images without the code under test."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage import data

REPOSITORY = Path(__file__).parents[1]
SHARED = REPOSITORY.parent / "shared"


def encoded(image, kind="PNG", **options):
    """The bytes of an image file."""
    buffer = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def coded(array, quality=10):
    """An image as JPEG leaves it."""
    return np.asarray(Image.open(io.BytesIO(encoded(array, "JPEG", quality=quality))))


def tensor(array):
    """[H, W, 3] uint8 -> [1, 3, H, W] in [0, 1]."""
    return torch.from_numpy(np.array(array)).permute(2, 0, 1)[None].float() / 255


def planes(array):
    """Values in [0, 1], ``[H, W]`` or ``[H, W, 3]`` -> [1, 3, H, W] in float32."""
    array = np.asarray(array, dtype=np.float32)
    array = array if array.ndim == 3 else np.repeat(array[..., None], 3, axis=2)
    return torch.from_numpy(array.copy()).permute(2, 0, 1)[None]


def stored(array):
    """uint8 or uint16, ``[H, W]`` or ``[H, W, 3]`` -> [1, 3, H, W] in [0, 1]."""
    return planes(array.astype(np.float32) / np.float32(np.iinfo(array.dtype).max))


CATS, CUPS, ROCKETS = range(281, 288), (504, 967, 968, 969), (657, 744, 812)


def names_what_it_sees(whole, scaling):
    """Whether ImageNet's classes are told of scikit-image's cat, coffee cup and rocket.

    The images are cut as classifiers are tested. The rocket stands at its launch tower, so its name
    may be among the first three.
    """
    answers = []
    for image, classes, count in (
        *((data.chelsea(), CATS, 1), (data.coffee(), CUPS, 1)),
        (data.rocket(), ROCKETS, 3),
    ):
        rgb = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
        rgb = torch.nn.functional.interpolate(
            rgb, scale_factor=256 / min(rgb.shape[-2:]), mode="bilinear", antialias=True
        )
        top, left = ((length - 224) // 2 for length in rgb.shape[-2:])
        with torch.no_grad():
            scores = whole(scaling.apply(rgb[..., top : top + 224, left : left + 224]))[0]
        answers.append(any(int(answer) in classes for answer in scores.topk(count).indices))
    return answers == [True] * 3


def scan_bomb(passes=20_000):
    """Return a small progressive JPEG that goes over its many pixels thousands of times."""
    file = io.BytesIO()
    Image.new("L", (2400, 2400), 128).save(file, "JPEG", progressive=True)
    content = file.getvalue()
    scan = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + scan * passes + content[-2:]
