"""A data set that needs no download: photographs degraded in steps, scored by severity.

The score is the severity of the degradation, a rung from 1 to 5. It is **not an opinion**: there
are no human ratings. The ladder shows whether a metric rises as a photograph gets worse in one way,
and lets a study be tried out. It does not show which of two kinds of degradation looks worse, so
agreement is measured within a photograph and a kind, and it flatters: most metrics climb a ladder.
"""

import importlib.util
import io
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

from iqa_metrics.datasets.opinions import (
    DatabaseFacts,
    DatasetError,
    OpinionDatabase,
    OpinionPair,
)
from iqa_metrics.io.atomic import written_at_once

PHOTOGRAPHS = (
    "astronaut",
    "chelsea",
    "coffee",
    "rocket",
    "motorcycle",
    "hopper",
    "hubble",
    "tissue",
)
"""Colour photographs that come with scikit-image and matplotlib; a new one is added at the end."""
RUNGS = 5

_SIDE = 384
"""Length of the longer side in pixels; the degradations' strengths are chosen for this size."""


def _photograph(name: str) -> Image.Image:
    """Return a photograph as its package ships it, so that nothing is downloaded."""
    import matplotlib
    from skimage import data

    if name == "hopper":
        file = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
        with Image.open(file) as picture:
            return picture.convert("RGB")
    if name == "motorcycle":
        return Image.fromarray(data.stereo_motorcycle()[0])
    function = {"hubble": "hubble_deep_field", "tissue": "immunohistochemistry"}.get(name, name)
    return Image.fromarray(getattr(data, function)())


def _noisy(picture: Image.Image, rung: int, seed: int, *, colour: bool) -> Image.Image:
    pixels = np.asarray(picture, dtype=np.float64)
    shape = pixels.shape if colour else (*pixels.shape[:2], 1)
    noise = np.random.default_rng(seed).normal(0, 4.0 * 1.7 ** (rung - 1), shape)
    return _image(pixels + noise)


def _encoded(picture: Image.Image, kind: str, **options: object) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return Image.open(file).convert("RGB")


def _shifted(picture: Image.Image, rung: int) -> Image.Image:
    step = 2 ** (rung - 1)
    pixels = np.asarray(picture)
    padded = np.pad(pixels, ((0, 0), (step, 0), (0, 0)), mode="edge")
    return Image.fromarray(padded[:, : pixels.shape[1]].copy())


def _quantised(picture: Image.Image, rung: int) -> Image.Image:
    levels = (32, 16, 8, 5, 3)[rung - 1]
    pixels = np.asarray(picture, dtype=np.float64) / 255
    return _image(np.round(pixels * (levels - 1)) / (levels - 1) * 255)


def _image(pixels: NDArray[np.float64]) -> Image.Image:
    return Image.fromarray(np.clip(np.round(pixels), 0, 255).astype(np.uint8))


LADDERS: Mapping[str, Callable[[Image.Image, int, int], Image.Image]] = {
    "jpeg": lambda p, rung, _: _encoded(p, "JPEG", quality=(50, 30, 18, 10, 5)[rung - 1]),
    "jpeg2000": lambda p, rung, _: _encoded(
        p, "JPEG2000", quality_mode="rates", quality_layers=[(16, 32, 64, 128, 256)[rung - 1]]
    ),
    "blur": lambda p, rung, _: p.filter(ImageFilter.GaussianBlur(0.6 * 1.6 ** (rung - 1))),
    "white noise": lambda p, rung, seed: _noisy(p, rung, seed, colour=False),
    "colour noise": lambda p, rung, seed: _noisy(p, rung, seed, colour=True),
    "contrast": lambda p, rung, _: ImageEnhance.Contrast(p).enhance(1 - 0.17 * rung),
    "quantisation": lambda p, rung, _: _quantised(p, rung),
    "shift": lambda p, rung, _: _shifted(p, rung),
}
"""Degradations: ``(photograph, rung from 1, seed) -> photograph``."""


def make_ladder(folder: str | Path) -> OpinionDatabase:
    """Return the data set, writing into a folder the images that are not there yet.

    Parameters
    ----------
    folder
        The folder of the PNG images: 8 references and 320 distorted images, about 60 MB.

    Returns
    -------
    OpinionDatabase
        Its ``opinion`` is the rung, 1 to 5, higher for stronger degradations: a severity, not an
        opinion, as the title says.

    Raises
    ------
    DatasetError
        If scikit-image or matplotlib is not installed, or the folder can't be written to.
    """
    for package in ("skimage", "matplotlib"):
        if importlib.util.find_spec(package) is None:
            raise DatasetError(
                "the ladder needs scikit-image and matplotlib: pip install 'iqa-metrics[study]'"
            )
    root = Path(folder)
    pairs = []
    try:
        root.mkdir(parents=True, exist_ok=True)
        for number, name in enumerate(PHOTOGRAPHS):
            picture = _photograph(name)
            picture.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
            reference = _kept(root / f"{name}.png", partial(Image.Image.copy, picture))
            for kind, (distortion, degrade) in enumerate(LADDERS.items()):
                for rung in range(1, RUNGS + 1):
                    seed = 100 * number + 10 * kind + rung
                    distorted = _kept(
                        root / f"{name}_{distortion.replace(' ', '_')}_{rung}.png",
                        partial(degrade, picture, rung, seed),
                    )
                    pairs.append(OpinionPair(reference, distorted, rung, distortion, rung))
    except OSError as error:
        raise DatasetError(f"{root} can't be written to: {error}") from error
    return OpinionDatabase(_FACTS, tuple(pairs))


_FACTS = DatabaseFacts(
    name="ladder",
    title="Ladder (severity, not human ratings)",
    higher_is="worse",
    range=(1.0, float(RUNGS)),
    references=len(PHOTOGRAPHS),
    pairs=len(PHOTOGRAPHS) * len(LADDERS) * RUNGS,
    source="photographs of scikit-image and matplotlib, degraded in steps",
    licence="those of the photographs, see scikit-image and matplotlib",
    layout="made by iqa_metrics.datasets.make_ladder",
    opinion=False,
)


def _kept(path: Path, make: Callable[[], Image.Image]) -> Path:
    """Write an image unless it exists; writes are atomic, so an existing image is complete."""
    if not path.exists():
        with written_at_once(path) as file:
            make().save(file, "PNG", compress_level=1)  # a third of the time, 8 % more bytes
    return path
