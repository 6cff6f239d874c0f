"""The readouts that have names."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from iqa_metrics.names import lookup
from iqa_metrics.readouts import differences, statistics
from iqa_metrics.readouts.concatenation import (
    Joint,
    mean_over_elements,
    root_of_mean_squares,
    root_of_squares,
)


@dataclass(frozen=True)
class Readout:
    """A readout and what can be done with it.

    Attributes
    ----------
    name
        What specs call it.
    function
        ``(reference, distorted) -> [N]``, of responses ``[N, C, ...]``; with ``weighted``, the
        channels' weights ``[C]`` come third.
    summary
        One line for listings.
    source
        Where it comes from.
    joint
        How layers' values make the value of the layers laid end to end; None where they can't, and
        several layers have to be summed.
    map
        As ``function``, with one value a position, ``[N, 1, ...]``; None where there are none.
    weighted
        Whether it takes a weight for each channel.
    per_channel
        Whether it gives a value for each channel, ``[N, C]``, and not one, ``[N]``.
    """

    name: str
    function: Callable[..., Tensor]
    summary: str
    source: str
    joint: Joint | None = None
    map: Callable[..., Tensor] | None = None
    weighted: bool = False
    per_channel: bool = False


_STUDY = "Hernández-Cámara et al., arXiv:2302.13345"
_LPIPS = "Zhang et al., CVPR 2018, arXiv:1801.03924"
_DISTS = "Ding et al., TPAMI 2022, arXiv:2004.07728"

READOUTS: tuple[Readout, ...] = (
    Readout(
        "euclidean",
        differences.euclidean,
        "Euclidean distance over the whole response",
        _STUDY,
        joint=root_of_squares,
        map=differences.euclidean_map,
    ),
    Readout(
        "rmse",
        differences.rmse,
        "root-mean-square difference: Euclidean, free of the image's size",
        _STUDY,
        joint=root_of_mean_squares,
        map=differences.rmse_map,
    ),
    Readout(
        "mean_absolute",
        differences.mean_absolute,
        "mean absolute difference",
        "classical",
        joint=mean_over_elements,
        map=differences.mean_absolute_map,
    ),
    Readout(
        "cosine",
        differences.cosine,
        "1 - cosine of the whole responses",
        "classical",
    ),
    Readout(
        "position_cosine",
        differences.position_cosine,
        "1 - cosine of the channels at a position, mean over positions",
        _LPIPS,
        map=differences.position_cosine_map,
    ),
    Readout(
        "weighted_euclidean",
        differences.euclidean,
        "Euclidean distance with a weight for each channel",
        _STUDY,
        joint=root_of_squares,
        map=differences.euclidean_map,
        weighted=True,
    ),
    Readout(
        "lpips",
        differences.lpips,
        "squared difference of unit-length channel vectors, mean over positions",
        _LPIPS,
        map=differences.lpips_map,
    ),
    Readout(
        "weighted_lpips",
        differences.lpips,
        "the same with a weight for each channel: LPIPS",
        _LPIPS,
        map=differences.lpips_map,
        weighted=True,
    ),
    Readout(
        "gram",
        statistics.gram,
        "Frobenius distance of Gram matrices",
        "Gatys et al., CVPR 2016",
        joint=root_of_squares,
    ),
    Readout(
        "channel_mean",
        statistics.channel_mean,
        "Euclidean distance of the channels' means",
        _STUDY,
        joint=root_of_squares,
    ),
    Readout(
        "channel_std",
        statistics.channel_std,
        "Euclidean distance of the channels' standard deviations",
        _STUDY,
        joint=root_of_squares,
    ),
    Readout(
        "channel_mean_std",
        statistics.channel_mean_std,
        "Euclidean distance of the channels' means and standard deviations",
        _STUDY,
        joint=root_of_squares,
    ),
    Readout(
        "channel_skewness",
        statistics.channel_skewness,
        "Euclidean distance of the channels' skewnesses",
        _STUDY,
        joint=root_of_squares,
    ),
    Readout(
        "channel_kurtosis",
        statistics.channel_kurtosis,
        "Euclidean distance of the channels' excess kurtoses",
        _STUDY,
        joint=root_of_squares,
    ),
    Readout(
        "channel_skewness_kurtosis",
        statistics.channel_skewness_kurtosis,
        "Euclidean distance of the channels' skewnesses and excess kurtoses",
        _STUDY,
        joint=root_of_squares,
    ),
    Readout(
        "pooled",
        statistics.pooled,
        "Euclidean distance of the response averaged over a 4x4 grid",
        _STUDY,
        joint=root_of_squares,
    ),
    Readout(
        "dists_texture",
        statistics.dists_texture,
        "1 - DISTS's similarity of the channels' means",
        _DISTS,
    ),
    Readout(
        "dists_structure",
        statistics.dists_structure,
        "1 - DISTS's correlation of the channels' patterns",
        _DISTS,
    ),
    Readout(
        "wasserstein",
        statistics.wasserstein,
        "Wasserstein distance of a channel's values, mean over channels",
        "after DeepWSD, Liao et al., ACM MM 2022, arXiv:2208.03323",
    ),
    Readout(
        "distance_correlation",
        statistics.distance_correlation,
        "1 - distance correlation of the channels",
        "DeepDC, Zhu et al., arXiv:2211.04927",
    ),
)

_BY_NAME: Mapping[str, Readout] = {readout.name: readout for readout in READOUTS}


def readout(name: str | Readout) -> Readout:
    """Return the readout of that name, or raise ``UnknownNameError`` with the nearest names.

    A readout object is returned as it is.
    """
    return name if isinstance(name, Readout) else lookup("readout", name, _BY_NAME)
