"""PerceptNet."""

from pathlib import Path
from typing import ClassVar

from torch import nn

from iqa_metrics.compute.pair_module import Check
from iqa_metrics.metrics.deep import DeepDistance


class PerceptNet(DeepDistance):
    """PerceptNet: the root-mean-square difference in the last layer of a model of early vision.

    The network has four stages of divisive normalisation with convolutions between them, modelled
    on human vision from the retina to the primary visual cortex. It was trained on opinion scores
    of image quality. Range ``[0, inf)``; identical images give 0; symmetric.

    The authors publish their weights without a licence, so no package ships them. Put
    ``perceptnet.safetensors`` into a folder where weights are looked for, or give the authors' own
    file.

    Parameters
    ----------
    weights
        A file with the state dict, whose content the caller has checked, such as the authors'
        ``perceptnet_colour_tid2008.pth``.
    trunk
        Your own PerceptNet. It is copied.
    check
        As for :class:`Metric`.

    Raises
    ------
    ValueError
        If ``trunk`` has another architecture.
    WeightsError
        If the weights are missing or damaged.

    References
    ----------
    A. Hepburn, V. Laparra, J. Malo, R. McConville and R. Santos-Rodriguez, "PerceptNet: A Human
    Visual System Inspired Neural Network for Estimating Perceptual Distance", ICIP 2020,
    arXiv:1910.12548.
    """

    source: ClassVar[str] = "Hepburn et al., ICIP 2020, arXiv:1910.12548"

    def __init__(
        self,
        *,
        weights: str | Path | None = None,
        trunk: nn.Module | None = None,
        check: Check = "error",
    ) -> None:
        super().__init__("perceptnet", "gdn4", "rmse", weights=weights, trunk=trunk, check=check)
        self.name = "perceptnet"
