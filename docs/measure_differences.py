"""Measure how far implementations and precisions of a metric differ, for docs/differences.md.

    nox -s differences

All implementations use the seeded weights of tests/seeded.py, so that anyone gets the same figures.
Comparing in float64 leaves only differences between the formulas.
"""

import copy
import io
from types import SimpleNamespace

import lpips
import numpy as np
import pytorch_msssim
import torch
import torchmetrics.functional.image as torchmetrics
from DISTS_pytorch import DISTS_pt
from PIL import Image
from seeded import trunk
from skimage import color, data
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import lpips as torchmetrics_lpips

from iqa_metrics import (
    DISTS,
    LPIPS,
    MSSSIM,
    PSNR,
    SSIM,
    FeatureReadouts,
    PerceptNet,
    backbone,
    create_metric,
    read_image,
)
from iqa_metrics.metrics.dists import CALIBRATION
from iqa_metrics.metrics.lpips import BACKBONES

PHOTOGRAPHS = {
    "astronaut": data.astronaut()[:321, :435],
    "coffee": data.coffee()[:365, :501],
    "cat": data.chelsea()[:291, :403],
}


def distortions(photograph):
    """Yield pairs [1, 3, H, W] of a photograph and its JPEG, blurred and noisy copy."""
    reference = read_image(photograph)
    file = io.BytesIO()
    Image.fromarray(photograph).save(file, "JPEG", quality=15)
    noise = torch.randn(reference.shape, generator=torch.Generator().manual_seed(0))
    yield reference, read_image(file.getvalue())
    yield reference, torch.nn.functional.avg_pool2d(reference, 5, 1, 2, count_include_pad=False)
    yield reference, (reference + 0.05 * noise).clamp(0, 1)


PAIRS = [pair for photograph in PHOTOGRAPHS.values() for pair in distortions(photograph)]


def row(topic, what, ours, theirs):
    """Print the smallest, median and largest difference over all pairs, relative to our value."""
    with torch.no_grad():
        values = [(float(ours(*pair)), float(theirs(*pair))) for pair in PAIRS]
    sizes = sorted(abs(b / a - 1) for a, b in values)
    figures = " | ".join(f"{size:.1g}" for size in (sizes[0], sizes[len(sizes) // 2], sizes[-1]))
    print(f"| {topic} | {what} | {figures} |", flush=True)


def wide(function):
    """Return a function that converts the images to float64 first."""
    return lambda x, y: function(x.double(), y.double())


def arrays(x, y):
    """Return the images as arrays [H, W, 3] in float64."""
    return [i[0].permute(1, 2, 0).double().numpy() for i in (x, y)]


def lpips_rows():
    """Compare with the authors' package and torchmetrics, on the same AlexNet."""
    network = trunk("alexnet")
    features = SimpleNamespace(features=copy.deepcopy(network))
    lpips.pretrained_networks.tv = SimpleNamespace(alexnet=lambda pretrained: features)
    authors = lpips.LPIPS(net="alex", verbose=False)
    torchmetrics_lpips._get_tv_model_features = lambda name, pretrained: copy.deepcopy(network)
    theirs = torchmetrics_lpips._LPIPS(net="alex", pnet_rand=True).double()
    ours = LPIPS("alex", trunk=network)
    exact = LPIPS("alex", trunk=network).double()
    row("LPIPS", "`lpips`, float32", wide(exact), lambda x, y: authors(x, y, normalize=True))
    row("LPIPS", "ours, float32", wide(exact), ours)
    row(
        "LPIPS",
        "torchmetrics, float64: epsilon 1e-8, inside the root",
        wide(exact),
        wide(lambda x, y: theirs(x, y, normalize=True)),
    )
    row("LPIPS", "`lpips` fed [0, 1] without `normalize=True`", ours, authors)
    row(
        "LPIPS",
        "`lpips` fed images normalised with ImageNet's mean and deviation",
        ours,
        lambda x, y: authors(*(backbone("alexnet").scaling.apply(i) for i in (x, y))),
    )


def dists_rows():
    """Compare with the authors' package on the same VGG-16, and with resized images."""
    network = trunk("vgg16")
    features = SimpleNamespace(features=copy.deepcopy(network))
    DISTS_pt.models = SimpleNamespace(vgg16=lambda pretrained: features)
    authors = DISTS_pt.DISTS(load_weights=False)
    weights = torch.load(CALIBRATION.verified(), map_location="cpu", weights_only=True)
    authors.alpha.data, authors.beta.data = weights["alpha"], weights["beta"]
    ours, resized = DISTS(trunk=network), DISTS(trunk=network, resize=True)
    exact = DISTS(trunk=network).double()
    row("DISTS", "`DISTS-pytorch`, float32", wide(exact), authors)
    row("DISTS", "ours, float32", wide(exact), ours)
    row("DISTS", "images first reduced to 256 pixels (`dists_resized`)", ours, resized)

    def by_pillow(x, y):
        images = [Image.fromarray((255 * a).round().astype(np.uint8)) for a in arrays(x, y)]
        return authors(*(DISTS_pt.prepare_image(i, resize=True) for i in images))

    row("DISTS", "`dists_resized`, resized by Pillow with rounding to 8 bits", resized, by_pillow)


def ssim_rows():
    """Compare windows, colour, borders and ranges."""
    ours = SSIM()

    def skimage(x, y, **options):
        return structural_similarity(*arrays(x, y), channel_axis=2, data_range=1.0, **options)

    def grey(x, y):
        return structural_similarity(
            *(color.rgb2gray(a) for a in arrays(x, y)),
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )

    def torchmetrics_ssim(x, y, **options):
        return torchmetrics.structural_similarity_index_measure(y, x, **options)

    def msssim(x, y):
        return pytorch_msssim.ssim(x, y, data_range=1.0, size_average=False)

    row("SSIM", "scikit-image's default window (`ssim_skimage`)", ours, skimage)
    row("SSIM", "on grey images, as in the paper", ours, grey)
    row("SSIM", "torchmetrics: the padded border counts too", wide(ours), wide(
        lambda x, y: torchmetrics_ssim(x, y, data_range=1.0)
    ))  # fmt: skip
    row("SSIM", "torchmetrics without `data_range`: taken from the images", ours, torchmetrics_ssim)
    row("SSIM", "`pytorch-msssim`, float64: its window rounds to float32", wide(ours), wide(msssim))


def ms_ssim_rows():
    """Compare odd sizes, colour and borders."""
    ours = MSSSIM()

    def msssim(x, y):
        return pytorch_msssim.ms_ssim(x, y, data_range=1.0, size_average=False)

    def by_torchmetrics(x, y):
        return torchmetrics.multiscale_structural_similarity_index_measure(y, x, data_range=1.0)

    def even(function):
        return lambda x, y: function(*(i[..., :272, :400] for i in (x, y)))

    row("MS-SSIM", "`pytorch-msssim`, sizes divisible by 16", even(ours), even(msssim))
    row("MS-SSIM", "`pytorch-msssim`, odd sizes: pads with black", ours, msssim)
    row("MS-SSIM", "torchmetrics: border, colour and odd rows", ours, by_torchmetrics)


def psnr_rows():
    """Compare the order of mean and logarithm."""
    ours = PSNR()

    def in_a_batch(x, y):
        """Average the errors of the pair and of a second, blurred one before the logarithm."""
        blurred = torch.nn.functional.avg_pool2d(x, 9, 1, 4, count_include_pad=False)
        batch = torch.cat([y, blurred]), torch.cat([x, x])
        return torchmetrics.peak_signal_noise_ratio(*batch, data_range=1.0)

    def mean_of_both(x, y):
        blurred = torch.nn.functional.avg_pool2d(x, 9, 1, 4, count_include_pad=False)
        return ours(x, torch.cat([y, blurred])).mean()

    row("PSNR", "torchmetrics, two images: PSNR of their mean error", mean_of_both, in_a_batch)


def distance_correlation_rows():
    """Compare with the constants that DeepDC adds, on the same VGG-16."""
    layers = ["conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3"]
    network = trunk("vgg16")
    ours = FeatureReadouts(
        "vgg16", {layer: ["distance_correlation"] for layer in layers}, trunk=network
    )

    def stabilised(response):
        """Return DeepDC's distances: divided by C², with 1e-5 added under the root."""
        values = response.flatten(2).double()
        products = values @ values.mT
        lengths = products.diagonal(dim1=1, dim2=2)
        squares = lengths.unsqueeze(1) + lengths.unsqueeze(2) - 2 * products
        distances = (squares.clamp(min=0) / values.shape[1] ** 2 + 1e-5).sqrt()
        rows = distances.mean(2, keepdim=True)
        return distances - rows - rows.mT + rows.mean(1, keepdim=True)

    def deepdc(x, y):
        found = []
        responses = [ours.extractor.responses(images, layers) for images in (x, y)]
        for layer in layers:
            a, b = (stabilised(of_image[layer]) for of_image in responses)
            scale = a.square().sum().sqrt() * b.square().sum().sqrt()
            found.append(1 - ((a * b).sum() + 1e-6) / (scale + 1e-6))
        return torch.stack(found).mean()

    def mean_of_layers(x, y):
        values = ours(x, y)
        return torch.stack([values[layer]["distance_correlation"] for layer in layers]).mean()

    row("DeepDC", "with the authors' constants in distances and quotient", mean_of_layers, deepdc)


def precision_rows():
    """Compare each metric that has a network in half precision with itself in float32."""
    made = {
        "default": lambda: create_metric("default"),
        **{
            f"lpips_{net}": lambda net=net, name=name: LPIPS(net, trunk=trunk(name))
            for net, name in BACKBONES.items()
        },
        "dists": lambda: DISTS(trunk=trunk("vgg16")),
        "perceptnet": lambda: PerceptNet(trunk=trunk("perceptnet")),
    }
    for name, make in made.items():
        for precision in ("bfloat16", "float16"):
            row(f"`{name}`", f"`{precision}`", make(), make().configure(precision=precision))


def main():
    """Print the tables."""
    print("| metric | compared with ours | smallest | median | largest |\n|---|---|---|---|---|")
    for rows in (lpips_rows, dists_rows, ssim_rows, ms_ssim_rows, psnr_rows):
        rows()
    distance_correlation_rows()
    print("\n| metric | precision | smallest | median | largest |\n|---|---|---|---|---|")
    precision_rows()


if __name__ == "__main__":
    main()
