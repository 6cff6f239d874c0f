"""Other implementations, made as their users do, with the seeded networks of tests/seeded.py.

Each package downloads a pretrained network when its metric is made. It gets the seeded network
instead, and the calibration that the authors published; nothing else is changed.
"""

import contextlib
import io
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from seeded import trunk
from torch import Tensor

from iqa_metrics.metrics.dists import CALIBRATION
from iqa_metrics.metrics.lpips import BACKBONES, CALIBRATIONS

Compare = Callable[[Tensor, Tensor], Tensor]
"""A function from references and distorted images in [0, 1], ``[N, 3, H, W]``, to ``[N]``."""


def made(make: Callable[..., Compare], *arguments: Any) -> Compare | str:
    """Return a peer or, since packages break in many ways, the reason why it is not available."""
    try:
        with _quiet():
            return make(*arguments)
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]


def lpips(net: str, device: str = "cpu") -> Compare:
    """The authors' package."""
    import lpips as package

    with mock.patch.object(package.pretrained_networks, "tv", _models()):
        metric = package.LPIPS(net=net, verbose=False).to(device)
    return lambda x, y: metric(x, y, normalize=True).flatten()


def torchmetrics_lpips(net: str, device: str = "cpu") -> Compare:
    """Torchmetrics' class."""
    from torchmetrics.functional.image import lpips as module
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    with mock.patch.object(module, "_get_tv_model_features", lambda name, pretrained: trunk(name)):
        metric = LearnedPerceptualImagePatchSimilarity(net, reduction="none", normalize=True)
    metric = metric.to(device)
    return lambda x, y: metric(x, y).flatten()


def pyiqa_lpips(net: str, device: str = "cpu") -> Compare:
    """The class under ``pyiqa.create_metric("lpips")``."""
    from pyiqa.archs import lpips_arch

    with mock.patch.object(lpips_arch, "models", _models()):
        metric = lpips_arch.LPIPS(net=net, pretrained_model_path=str(CALIBRATIONS[net].verified()))
    metric = metric.eval().to(device)
    return lambda x, y: metric(x, y).flatten()


def piq_lpips(net: str, device: str = "cpu") -> Compare:
    """Piq's class, which only supports VGG-16."""
    from piq import LPIPS

    if net != "vgg":
        raise NotImplementedError("piq has LPIPS only with VGG-16")
    path = CALIBRATIONS["vgg"].verified()
    state = torch.load(path, map_location="cpu", weights_only=True)
    with _piq_weights(list(state.values())):
        metric = LPIPS(reduction="none").to(device)
    return lambda x, y: metric(x, y).flatten()


def dists_pytorch(device: str = "cpu") -> Compare:
    """The authors' package of DISTS."""
    from DISTS_pytorch import DISTS_pt

    with mock.patch.object(DISTS_pt, "models", _models()):
        metric = DISTS_pt.DISTS(load_weights=False)
    weights = _dists_weights()
    metric.alpha.data, metric.beta.data = weights["alpha"], weights["beta"]
    metric = metric.eval().to(device)
    return lambda x, y: metric(x, y).reshape(-1)


def pyiqa_dists(device: str = "cpu") -> Compare:
    """The class under ``pyiqa.create_metric("dists")``."""
    from pyiqa.archs import dists_arch

    with mock.patch.object(dists_arch, "models", _models()):
        metric = dists_arch.DISTS(pretrained_model_path=str(CALIBRATION.verified()))
    metric = metric.eval().to(device)
    return lambda x, y: metric(x, y).flatten()


def piq_dists(device: str = "cpu") -> Compare:
    """Piq's class, which shrinks the shorter side to 256 pixels."""
    from piq import DISTS

    with _piq_weights(_dists_weights()):
        metric = DISTS(reduction="none").to(device)
    return lambda x, y: metric(x, y).flatten()


def msssim_package(name: str, device: str = "cpu") -> Compare:
    """The classes of pytorch-msssim, ``SSIM`` or ``MS_SSIM``, which keep their window."""
    import pytorch_msssim

    metric = getattr(pytorch_msssim, name)(data_range=1.0, size_average=False, channel=3)
    return metric.to(device)


def skimage_ssim(x: Tensor, y: Tensor) -> Callable[[], Tensor]:
    """Scikit-image's function with the paper's window, on arrays."""
    from skimage.metrics import structural_similarity

    arrays = [images.permute(0, 2, 3, 1).contiguous().numpy() for images in (x, y)]
    options = {"channel_axis": 2, "data_range": 1.0, "gaussian_weights": True}

    def run() -> Tensor:
        return torch.tensor(
            [
                structural_similarity(a, b, sigma=1.5, use_sample_covariance=False, **options)
                for a, b in zip(*arrays, strict=True)
            ]
        )

    return run


def torchmetrics_psnr(how: str, count: int, device: str = "cpu") -> Compare:
    """Torchmetrics' function or class, for one image or for each image of a batch."""
    from torchmetrics.functional.image import peak_signal_noise_ratio
    from torchmetrics.image import PeakSignalNoiseRatio

    each = {"dim": (1, 2, 3), "reduction": "none"} if count > 1 else {}
    if how == "class":
        metric = PeakSignalNoiseRatio(data_range=1.0, **each).to(device)
        return lambda x, y: metric(y, x).reshape(-1)
    return lambda x, y: peak_signal_noise_ratio(y, x, data_range=1.0, **each).reshape(-1)


def piq_psnr() -> Compare:
    """Piq's function."""
    from piq import psnr

    return lambda x, y: psnr(x, y, data_range=1.0, reduction="none")


def bare(net: str, device: str = "cpu") -> torch.nn.Module:
    """The network alone, in torch's default layout."""
    return trunk(BACKBONES.get(net, net)).to(device)


def _models() -> SimpleNamespace:
    """Stand in for ``torchvision.models``."""
    return SimpleNamespace(
        **{
            name: lambda *_, _name=name, **__: SimpleNamespace(features=trunk(_name))
            for name in BACKBONES.values()
        }
    )


def _dists_weights() -> dict[str, Tensor]:
    return torch.load(CALIBRATION.verified(), map_location="cpu", weights_only=True)


@contextlib.contextmanager
def _piq_weights(weights: Any) -> Iterator[None]:
    from piq import perceptual

    with (
        mock.patch.object(torch.hub, "load_state_dict_from_url", return_value=weights),
        mock.patch.object(perceptual, "vgg16", _models().vgg16),
    ):
        yield


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide what packages print while they load, so that it does not end up in the table."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
