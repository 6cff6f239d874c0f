"""Draw the documentation's pictures into docs/pictures.

    nox -s pictures

The photograph is NASA's portrait of Eileen Collins, in the public domain, as scikit-image ships it.
PerceptNet's picture is drawn only if its weights are on this machine.
"""

import io
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib import pyplot
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage import data

from iqa_metrics import Metric, WeightsError, create_metric, read_image

FOLDER = Path(__file__).parent / "pictures"
MAPS = {
    "mse": ("mse", "squared error"),
    "ssim": ("ssim", "SSIM"),
    "deep": ("efficientnet_lite0:block3+block9:rmse:joint", "rmse in block3 and block9"),
    "lpips": (
        "efficientnet_lite0:stem+block2+block4+block9+block14:lpips:sum",
        "lpips in EfficientNet-Lite0",
    ),
    "perceptnet": ("perceptnet", "PerceptNet"),
}


def photographs() -> tuple[np.ndarray, np.ndarray]:
    """Return a portrait and a copy with JPEG (left third), blur (middle) and noise (right)."""
    reference = data.astronaut()[:384, 32:416]
    file = io.BytesIO()
    Image.fromarray(reference).save(file, "JPEG", quality=6)
    jpeg = np.array(Image.open(file))
    blurred = gaussian_filter(reference.astype(float), (2, 2, 0))
    noise = reference + np.random.RandomState(0).normal(0, 25, reference.shape)
    distorted = np.concatenate([jpeg[:, :128], blurred[:, 128:256], noise[:, 256:]], axis=1)
    return reference, distorted.clip(0, 255).astype(np.uint8)


def draw_map(metric: Metric, title: str, path: Path) -> None:
    """Draw the reference, the distorted image, and the metric's map over the grey image."""
    reference, distorted = photographs()
    with torch.no_grad():
        found = metric(read_image(reference), read_image(distorted), map=True)[0, 0].numpy()
    figure, axes = pyplot.subplots(1, 3, figsize=(9.6, 3.4), layout="constrained")
    for axis, image, label in zip(
        axes, (reference, distorted), ("reference", "JPEG | blur | noise"), strict=False
    ):
        axis.imshow(image)
        axis.set_title(label, fontsize=10)
    axes[2].imshow(reference.mean(2), cmap="gray", vmin=0, vmax=255)
    colours = "magma_r" if metric.higher_is_better else "magma"
    drawn = axes[2].imshow(found, cmap=colours, alpha=0.75, vmax=np.percentile(found, 99.5))
    axes[2].set_title(title, fontsize=10)
    figure.colorbar(drawn, ax=axes[2], shrink=0.85)
    save(figure, axes, path)


def draw_texture(path: Path) -> None:
    """Draw a texture, another patch of it and a blurred copy, each with its distances."""
    stream = np.random.RandomState(1)

    def patch() -> np.ndarray:
        noise = gaussian_filter(stream.normal(size=(192, 192, 3)), (1.2, 3.5, 0), mode="wrap")
        return (0.5 + 0.18 * noise / noise.std()).clip(0, 1)

    first = patch()
    patches = {"texture": first, "another patch of it": patch()}
    patches["the first, blurred"] = gaussian_filter(first, (1.5, 1.5, 0), mode="wrap")
    specs = {
        "rmse": "efficientnet_lite0:block3:rmse",
        "dists_texture": "efficientnet_lite0:block3:dists_texture",
        "channel_mean_std": "efficientnet_lite0:block3:channel_mean_std",
    }
    figure, axes = pyplot.subplots(1, 3, figsize=(9.6, 3.9), layout="constrained")
    for axis, (label, image) in zip(axes, patches.items(), strict=True):
        axis.imshow(image)
        axis.set_title(label, fontsize=10)
        values = [
            f"{name} {float(create_metric(spec)(read_image(first), read_image(image))):.3g}"
            for name, spec in specs.items()
        ]
        axis.set_xlabel("\n".join(values), fontsize=9)
    save(figure, axes, path)


def save(figure: pyplot.Figure, axes: np.ndarray, path: Path) -> None:
    """Write a figure with few colours, to keep the file small."""
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
    canvas = io.BytesIO()
    figure.savefig(canvas, dpi=110, bbox_inches="tight")
    pyplot.close(figure)
    Image.open(canvas).convert("RGB").quantize(200).save(path, optimize=True)
    print(path, path.stat().st_size)


def main() -> None:
    """Draw all pictures."""
    mpl.use("agg")
    FOLDER.mkdir(exist_ok=True)
    for name, (spec, title) in MAPS.items():
        try:
            metric = create_metric(spec)
        except WeightsError as error:
            print(f"{name}.png is left as it is: {error}")
            continue
        draw_map(metric, title, FOLDER / f"{name}.png")
    draw_texture(FOLDER / "dists.png")


if __name__ == "__main__":
    main()
