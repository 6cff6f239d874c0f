"""The readouts that have names."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from iqa_metrics.readouts import differences, statistics
from iqa_metrics.readouts.concatenation import (
    Joint,
    mean_over_elements,
    root_of_mean_squares,
    root_of_squares,
)
from iqa_metrics.registry import Registry, expect


@dataclass(frozen=True, kw_only=True)
class Readout:
    """A readout and what can be done with it.

    Attributes
    ----------
    name
        What specs call it.
    function
        ``(reference, distorted) -> [N]``, given feature maps ``[N, C, ...]``. If ``weighted``, the
        channel weights ``[C]`` are the third argument.
    summary
        One line for listings.
    source
        Where it comes from.
    joint
        How the values of several layers give the value of their feature maps laid end to end. If
        None, several layers can only be summed.
    map
        Like ``function``, with one value per position, ``[N, 1, ...]``; None if there is no map.
    of_map
        How the map gives the value if positions are weighted: ``(map, weights) -> [N]``, where
        weights are ``[N, 1, ...]``; None if it takes no mask.
    weighted
        Whether it takes a weight for each channel.
    per_channel
        Whether it gives a value for each channel, ``[N, C]``, instead of ``[N]``. Such readouts
        can't be registered.
    weight_sets
        Leading shape of the channel weights: ``()`` for ``[C]``, ``(2,)`` for ``[2, C]``.
    descriptor
        Whether it compares statistics of the feature maps instead of their values at each position.
    symmetric
        Whether its value stays the same when the two feature maps are swapped.
    degree
        The power d for which multiplying both feature maps by k > 0 multiplies the value by k**d;
        None if there is no such power.

    Examples
    --------
    >>> import torch
    >>> from iqa_metrics import readout
    >>> record = readout("rmse")
    >>> record.function(torch.zeros(1, 2, 4, 4), torch.ones(1, 2, 4, 4))
    tensor([1.])
    >>> record.map is not None, record.descriptor, record.degree
    (True, False, 1)
    """

    name: str
    function: Callable[..., Tensor]
    summary: str
    source: str
    joint: Joint | None = None
    map: Callable[..., Tensor] | None = None
    of_map: Callable[[Tensor, Tensor], Tensor] | None = None
    weighted: bool = False
    per_channel: bool = False
    weight_sets: tuple[int, ...] = ()
    descriptor: bool = False
    symmetric: bool = True
    degree: float | None = None


_STUDY = "Hernández-Cámara et al., arXiv:2302.13345"
_LPIPS = "Zhang et al., CVPR 2018, arXiv:1801.03924"
_DISTS = "Ding et al., TPAMI 2022, arXiv:2004.07728"

READOUTS: tuple[Readout, ...] = (
    Readout(
        name="euclidean",
        function=differences.euclidean,
        summary="Euclidean distance over the whole response",
        source=_STUDY,
        joint=root_of_squares,
        map=differences.euclidean_map,
        of_map=differences.root_of_weighted_sum,
        degree=1,
    ),
    Readout(
        name="rmse",
        function=differences.rmse,
        summary="root-mean-square difference: Euclidean, free of the image's size",
        source=_STUDY,
        joint=root_of_mean_squares,
        map=differences.rmse_map,
        of_map=differences.root_of_weighted_mean,
        degree=1,
    ),
    Readout(
        name="mean_absolute",
        function=differences.mean_absolute,
        summary="mean absolute difference",
        source="classical",
        joint=mean_over_elements,
        map=differences.mean_absolute_map,
        of_map=differences.weighted_mean,
        degree=1,
    ),
    Readout(
        name="cosine",
        function=differences.cosine,
        summary="1 - cosine of the whole responses",
        source="classical",
        degree=0,
    ),
    Readout(
        name="position_cosine",
        function=differences.position_cosine,
        summary="1 - cosine of the channels at a position, mean over positions",
        source=_LPIPS,
        map=differences.position_cosine_map,
        of_map=differences.weighted_mean,
        degree=0,
    ),
    Readout(
        name="weighted_euclidean",
        function=differences.euclidean,
        summary="Euclidean distance with a weight for each channel",
        source=_STUDY,
        joint=root_of_squares,
        map=differences.euclidean_map,
        of_map=differences.root_of_weighted_sum,
        weighted=True,
        degree=1,
    ),
    Readout(
        name="lpips",
        function=differences.lpips,
        summary="squared difference of unit-length channel vectors, mean over positions",
        source=_LPIPS,
        map=differences.lpips_map,
        of_map=differences.weighted_mean,
        degree=0,
    ),
    Readout(
        name="weighted_lpips",
        function=differences.lpips,
        summary="the same with a weight for each channel: LPIPS",
        source=_LPIPS,
        map=differences.lpips_map,
        of_map=differences.weighted_mean,
        weighted=True,
        degree=0,
    ),
    Readout(
        name="gram",
        function=statistics.gram,
        summary="Frobenius distance of Gram matrices",
        source="Gatys et al., CVPR 2016",
        joint=root_of_squares,
        degree=2,
        descriptor=True,
    ),
    Readout(
        name="channel_mean",
        function=statistics.channel_mean,
        summary="Euclidean distance of the channels' means",
        source=_STUDY,
        joint=root_of_squares,
        degree=1,
        descriptor=True,
    ),
    Readout(
        name="channel_std",
        function=statistics.channel_std,
        summary="Euclidean distance of the channels' standard deviations",
        source=_STUDY,
        joint=root_of_squares,
        degree=1,
        descriptor=True,
    ),
    Readout(
        name="channel_mean_std",
        function=statistics.channel_mean_std,
        summary="Euclidean distance of the channels' means and standard deviations",
        source=_STUDY,
        joint=root_of_squares,
        degree=1,
        descriptor=True,
    ),
    Readout(
        name="channel_skewness",
        function=statistics.channel_skewness,
        summary="Euclidean distance of the channels' skewnesses",
        source=_STUDY,
        joint=root_of_squares,
        degree=0,
        descriptor=True,
    ),
    Readout(
        name="channel_kurtosis",
        function=statistics.channel_kurtosis,
        summary="Euclidean distance of the channels' excess kurtoses",
        source=_STUDY,
        joint=root_of_squares,
        degree=0,
        descriptor=True,
    ),
    Readout(
        name="channel_skewness_kurtosis",
        function=statistics.channel_skewness_kurtosis,
        summary="Euclidean distance of the channels' skewnesses and excess kurtoses",
        source=_STUDY,
        joint=root_of_squares,
        degree=0,
        descriptor=True,
    ),
    Readout(
        name="pooled",
        function=statistics.pooled,
        summary="Euclidean distance of the response averaged over a 4x4 grid",
        source=_STUDY,
        joint=root_of_squares,
        degree=1,
        descriptor=True,
    ),
    Readout(
        name="dists_texture",
        function=statistics.dists_texture,
        summary="1 - DISTS's similarity of the channels' means",
        source=_DISTS,
        descriptor=True,
    ),
    Readout(
        name="dists_structure",
        function=statistics.dists_structure,
        summary="1 - DISTS's correlation of the channels' patterns",
        source=_DISTS,
        descriptor=True,
    ),
    Readout(
        name="wasserstein",
        function=statistics.wasserstein,
        summary="Wasserstein distance of a channel's values, mean over channels",
        source="after DeepWSD, Liao et al., ACM MM 2022, arXiv:2208.03323",
        degree=1,
        descriptor=True,
    ),
    Readout(
        name="distance_correlation",
        function=statistics.distance_correlation,
        summary="1 - distance correlation of the channels",
        source="DeepDC, Zhu et al., arXiv:2211.04927",
        degree=0,
        descriptor=True,
    ),
)
"""The built-in readouts; :func:`all_readouts` returns those that are registered, too."""


def _check(record: Readout) -> None:
    """Raise PluginError unless a record can be used."""
    what = f"readout {record.name!r}"
    expect(callable(record.function), f"{what}: function", "a function", record.function)
    for name in ("joint", "map"):
        value = getattr(record, name)
        expect(value is None or callable(value), f"{what}: {name}", "a function or None", value)
    for name in ("summary", "source"):
        value = getattr(record, name)
        fine = isinstance(value, str) and bool(value.strip())
        expect(fine, f"{what}: {name}", "one line of text", value)
    for name in ("weighted", "descriptor", "symmetric"):
        value = getattr(record, name)
        expect(isinstance(value, bool), f"{what}: {name}", "True or False", value)
    expect(
        record.per_channel is False,
        f"{what}: per_channel",
        "False, since a spec names one value per pair",
        record.per_channel,
    )
    fine = record.degree is None or isinstance(record.degree, int | float)
    expect(fine, f"{what}: degree", "a number or None", record.degree)


REGISTRY: Registry[Readout] = Registry(
    "readout",
    Readout,
    READOUTS,
    name=lambda record: record.name,
    check=_check,
    # Quantities that a study reads beside readouts.
    reserved=("elements", "channel_squares"),
)


def all_readouts() -> tuple[Readout, ...]:
    """Return :data:`READOUTS` and the readouts that are registered."""
    return REGISTRY.all()


def named_otherwise(one: Readout) -> bool:
    """Say whether the catalogue has another readout of the same name."""
    known = REGISTRY.find(one.name)
    return known is not None and known != one


def readout(name: str | Readout) -> Readout:
    """Return the readout of that name, or raise ``UnknownNameError`` with the nearest names.

    A readout object is returned as it is.
    """
    return name if isinstance(name, Readout) else REGISTRY.get(name)
