"""Metrics as functions: ``(reference, distorted, **options) -> [N]``.

Each function calls the metric class of the same name: values, checks and gradients are the same.
The metric is built at the first call, on the device of the images, and kept for later calls. The
eight most recently used metrics are kept, until :func:`clear_cache`. To choose weights or
precision, or to share a reference among many images, use :func:`iqa_metrics.create_metric` or the
classes.

Images are RGB in [0, 1], ``[N, 3, H, W]``. One reference may be compared with N distorted images.

>>> import torch
>>> from iqa_metrics.functional import psnr, ssim
>>> grey = torch.full((2, 3, 32, 32), 0.5)
>>> psnr(grey, grey + 0.1)
tensor([20.0000, 20.0000])
>>> from iqa_metrics import Conventions
>>> psnr(255 * grey, 255 * grey + 25.5, conventions=Conventions(peak=255))
tensor([20.0000, 20.0000])
"""

from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from iqa_metrics.backbones import Backbone
from iqa_metrics.compute.pair_module import Check
from iqa_metrics.io.conventions import AS_GIVEN, Conventions
from iqa_metrics.metrics import (
    DISTS,
    LPIPS,
    MSE,
    MSSSIM,
    PSNR,
    SSIM,
    DeepDistance,
    Metric,
    PerceptNet,
)
from iqa_metrics.metrics.catalogue import DEFAULT
from iqa_metrics.metrics.lpips import Net
from iqa_metrics.metrics.pixel import Window
from iqa_metrics.readouts import Readout
from iqa_metrics.registry import replaced

__all__ = [
    "clear_cache",
    "deep_distance",
    "dists",
    "lpips",
    "ms_ssim",
    "mse",
    "perceptnet",
    "psnr",
    "ssim",
]


def mse(
    reference: Tensor,
    distorted: Tensor,
    *,
    map: bool = False,
    mask: Tensor | None = None,
    conventions: Conventions = AS_GIVEN,
    check: Check = "error",
) -> Tensor:
    """Return the mean squared error of each pair; lower is better.

    Parameters
    ----------
    reference, distorted
        RGB in [0, 1], ``[N, 3, H, W]``. The reference may be one image.
    map
        Return the error at each position instead, ``[N, 1, H, W]``.
    mask
        Weights of the pixels, from 0 on: ``[H, W]``, ``[N, H, W]`` or ``[N, 1, H, W]``.
    conventions
        What is compared of the images: luma, without a border, with another white.
    check
        ``"error"`` refuses values outside [0, 1]; ``"off"`` trusts them.

    Returns
    -------
    Tensor
        ``[N]``, in [0, 1]. See :class:`iqa_metrics.MSE`.

    Raises
    ------
    ImageError
        If the images can't be compared.

    Examples
    --------
    >>> grey = torch.full((1, 3, 8, 8), 0.5)
    >>> mse(grey, grey + 0.25)
    tensor([0.0625])
    """
    return _value(MSE, reference, distorted, map, mask=mask, conventions=conventions, check=check)


def psnr(
    reference: Tensor,
    distorted: Tensor,
    *,
    mask: Tensor | None = None,
    conventions: Conventions = AS_GIVEN,
    check: Check = "error",
) -> Tensor:
    """Return the peak signal-to-noise ratio of each pair, in decibels; higher is better.

    Parameters
    ----------
    reference, distorted, mask, conventions, check
        As for :func:`mse`.

    Returns
    -------
    Tensor
        ``[N]``, in [0, inf]; identical images give ``inf``. See :class:`iqa_metrics.PSNR`.

    Raises
    ------
    ImageError
        If the images can't be compared.

    Examples
    --------
    >>> grey = torch.full((1, 3, 8, 8), 0.5)
    >>> psnr(grey, grey + 0.1)
    tensor([20.0000])
    """
    return _value(
        PSNR, reference, distorted, False, mask=mask, conventions=conventions, check=check
    )


def ssim(
    reference: Tensor,
    distorted: Tensor,
    *,
    window: Window = "gaussian",
    map: bool = False,
    mask: Tensor | None = None,
    conventions: Conventions = AS_GIVEN,
    check: Check = "error",
) -> Tensor:
    """Return the structural similarity of each pair; higher is better.

    Parameters
    ----------
    reference, distorted, mask, conventions, check
        As for :func:`mse`; at least 11 pixels each way (7 with the uniform window).
    window
        ``"gaussian"`` is the paper's, ``"uniform"`` scikit-image's default.
    map
        Return the similarity at each position instead, ``[N, 1, H, W]``.

    Returns
    -------
    Tensor
        ``[N]``, in (-1, 1]; identical images give 1. See :class:`iqa_metrics.SSIM`.

    Raises
    ------
    ImageError
        If the images can't be compared.
    ValueError
        If the window is unknown.

    Examples
    --------
    >>> grey = torch.full((1, 3, 16, 16), 0.5)
    >>> ssim(grey, grey)
    tensor([1.])
    >>> ssim(grey, grey, map=True).shape
    torch.Size([1, 1, 16, 16])
    """
    return _value(
        SSIM,
        reference,
        distorted,
        map,
        window=window,
        mask=mask,
        conventions=conventions,
        check=check,
    )


def ms_ssim(
    reference: Tensor,
    distorted: Tensor,
    *,
    conventions: Conventions = AS_GIVEN,
    check: Check = "error",
) -> Tensor:
    """Return the multi-scale structural similarity of each pair; higher is better.

    Parameters
    ----------
    reference, distorted, conventions, check
        As for :func:`mse`; at least 161 pixels each way.

    Returns
    -------
    Tensor
        ``[N]``, in [0, 1]; identical images give 1. See :class:`iqa_metrics.MSSSIM`.

    Raises
    ------
    ImageError
        If the images can't be compared.

    Examples
    --------
    >>> grey = torch.full((1, 3, 176, 176), 0.5)
    >>> ms_ssim(grey, grey)
    tensor([1.])
    """
    return _value(MSSSIM, reference, distorted, False, conventions=conventions, check=check)


def lpips(
    reference: Tensor,
    distorted: Tensor,
    *,
    net: Net = "alex",
    calibrated: bool = True,
    map: bool = False,
    mask: Tensor | None = None,
    conventions: Conventions = AS_GIVEN,
    check: Check = "error",
) -> Tensor:
    """Return LPIPS v0.1 of each pair; lower is better.

    The network and the calibration must be on this machine: ``iqa weights fetch lpips_alex``.

    Parameters
    ----------
    reference, distorted, mask, conventions, check
        As for :func:`mse`. In [0, 1], where the authors' own code takes [-1, 1].
    net
        ``"alex"``, ``"vgg"`` or ``"squeeze"``.
    calibrated
        Weight the channels as calibrated on human judgements. False gives the paper's baseline.
    map
        Return the distance at each position instead, ``[N, 1, H, W]``.

    Returns
    -------
    Tensor
        ``[N]``, in [0, inf); identical images give 0. See :class:`iqa_metrics.LPIPS`.

    Raises
    ------
    ImageError
        If the images can't be compared.
    ValueError
        If the net is unknown.
    WeightsError
        If the network's weights or the calibration are missing or damaged.

    Examples
    --------
    >>> grey = torch.full((1, 3, 64, 64), 0.5)
    >>> lpips(grey, grey)  # doctest: +SKIP
    tensor([0.])
    """
    return _value(
        LPIPS,
        reference,
        distorted,
        map,
        net=net,
        calibrated=calibrated,
        mask=mask,
        conventions=conventions,
        check=check,
    )


def dists(
    reference: Tensor,
    distorted: Tensor,
    *,
    resize: bool = False,
    conventions: Conventions = AS_GIVEN,
    check: Check = "error",
) -> Tensor:
    """Return DISTS of each pair; lower is better.

    The network and the calibration must be on this machine: ``iqa weights fetch dists``.

    Parameters
    ----------
    reference, distorted, conventions, check
        As for :func:`mse`; at least 16 pixels each way.
    resize
        Bring the shorter side to 256 pixels first, where it is longer.

    Returns
    -------
    Tensor
        ``[N]``, in [0, 2); identical images give 0. See :class:`iqa_metrics.DISTS`.

    Raises
    ------
    ImageError
        If the images can't be compared.
    WeightsError
        If the network's weights or the calibration are missing or damaged.

    Examples
    --------
    >>> grey = torch.full((1, 3, 64, 64), 0.5)
    >>> dists(grey, grey)  # doctest: +SKIP
    tensor([0.])
    """
    return _value(
        DISTS, reference, distorted, False, resize=resize, conventions=conventions, check=check
    )


def perceptnet(
    reference: Tensor,
    distorted: Tensor,
    *,
    map: bool = False,
    mask: Tensor | None = None,
    conventions: Conventions = AS_GIVEN,
    check: Check = "error",
) -> Tensor:
    """Return PerceptNet's distance of each pair; lower is better.

    The weights must be on this machine. They are published without a licence and can't be fetched:
    ``iqa weights where perceptnet`` says how to get them.

    Parameters
    ----------
    reference, distorted, mask, conventions, check
        As for :func:`mse`.
    map
        Return the distance at each position instead, ``[N, 1, H, W]``.

    Returns
    -------
    Tensor
        ``[N]``, in [0, inf); identical images give 0. See :class:`iqa_metrics.PerceptNet`.

    Raises
    ------
    ImageError
        If the images can't be compared.
    WeightsError
        If the network's weights are missing or damaged.

    Examples
    --------
    >>> grey = torch.full((1, 3, 64, 64), 0.5)
    >>> perceptnet(grey, grey)  # doctest: +SKIP
    tensor([0.])
    """
    return _value(
        PerceptNet, reference, distorted, map, mask=mask, conventions=conventions, check=check
    )


def deep_distance(
    reference: Tensor,
    distorted: Tensor,
    backbone: Backbone | str = DEFAULT.backbone,
    layers: str | Sequence[str] = DEFAULT.layers,
    readout: str | Readout = DEFAULT.readout,
    *,
    concatenation: str | None = None,
    layer_weights: Sequence[float] | None = None,
    map: bool = False,
    mask: Tensor | None = None,
    conventions: Conventions = AS_GIVEN,
    check: Check = "error",
) -> Tensor:
    """Return the distance of each pair inside a pretrained network; lower is better.

    Called with the images alone, it computes the ``default`` metric.

    Parameters
    ----------
    reference, distorted, mask, conventions, check
        As for :func:`mse`.
    backbone
        Name of a backbone, or its record.
    layers
        Name of one layer, or of several in any order.
    readout
        Name of a readout, or its record.
    concatenation
        How several layers make one distance: ``"joint"`` (the default where the readout has it),
        ``"sum"`` or ``"sum_per_element"``.
    layer_weights
        The layers' weights in a sum, in the order of ``layers``; by default 1.
    map
        Return the distance at each position instead, ``[N, 1, H, W]``.

    Returns
    -------
    Tensor
        ``[N]``, in [0, inf); identical images give 0. See :class:`iqa_metrics.DeepDistance`.

    Raises
    ------
    ImageError
        If the images can't be compared.
    UnknownNameError
        If the backbone, a layer, the readout or the concatenation is unknown.
    ValueError
        If the layers can't be concatenated, weights do not fit, or the readout has no map.
    WeightsError
        If the network's weights are missing or damaged.

    Examples
    --------
    >>> grey = torch.full((1, 3, 64, 64), 0.5)
    >>> deep_distance(grey, grey)
    tensor([0.])
    >>> layers = ["stem", "block3"]
    >>> two = deep_distance(grey, 0.5 * grey, layers=layers, readout="cosine", concatenation="sum")
    >>> two.shape, bool(two > 0)
    (torch.Size([1]), True)
    """
    return _value(
        DeepDistance,
        reference,
        distorted,
        map,
        backbone=backbone,
        layers=layers if isinstance(layers, str) else tuple(layers),
        readout=readout,
        concatenation=concatenation,
        layer_weights=None if layer_weights is None else tuple(layer_weights),
        mask=mask,
        conventions=conventions,
        check=check,
    )


def clear_cache() -> None:
    """Drop the metrics that were built, and free the memory of their networks."""
    _kept.cache_clear()


def _value(
    kind: Callable[..., Metric],
    reference: Tensor,
    distorted: Tensor,
    map: bool,
    *,
    mask: Tensor | None = None,
    conventions: Conventions,
    **options: Hashable,
) -> Tensor:
    """Call the metric of that class and those options, on the images' device."""
    # The metric itself refuses what is not a tensor.
    device = str(distorted.device) if isinstance(distorted, Tensor) else "cpu"
    metric = _kept(kind, tuple(options.items()), device, replaced())
    values: Tensor = metric.under(conventions)(reference, distorted, map=map, mask=mask)
    return values


@lru_cache(maxsize=8)
def _kept(
    kind: Callable[..., Metric],
    options: tuple[tuple[str, Hashable], ...],
    device: str,
    replaced: int,
) -> Metric:
    # A later call may need gradients, which tensors made in inference mode do not support.
    with torch.inference_mode(False):
        return kind(**dict(options)).to(device)
