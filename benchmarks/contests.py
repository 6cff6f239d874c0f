"""Contests: our ways, peers and the bare network, on the same images in one process."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from benchmarks import peers, photographs
from benchmarks.layers import by_hooks, every_layer
from benchmarks.timing import interleaved, summary, timed
from benchmarks.winograd import with_it, without_it
from iqa_metrics import DISTS, LPIPS, MSSSIM, PSNR, SSIM, create_metric
from iqa_metrics.metrics.contract import Metric

Run = Callable[[], Tensor]
Job = Mapping[str, Any]


@dataclass
class Contest:
    """The contenders, which take turns.

    Attributes
    ----------
    ours, peers, information
        The functions that are timed, by name, or the reason why a peer is not available. No target
        refers to the peers in ``information``.
    floor, floor_factor
        The bare network, and how many of its runs are needed.
    metrics
        Our metrics, by the names in ``ours``.
    exact
        The same in float64, to show which side a deviation comes from.
    notes
        Other notes.
    """

    ours: dict[str, Run]
    peers: dict[str, Run | str]
    information: dict[str, Run | str] = field(default_factory=dict)
    floor: Run | None = None
    floor_factor: float = 1.0
    metrics: dict[str, Metric] = field(default_factory=dict)
    exact: Run | None = None
    notes: list[str] = field(default_factory=list)


def measure(contest: Contest, job: Job) -> dict[str, Any]:
    """Run a contest and return its figures."""
    others = {**contest.peers, **contest.information}
    absent = {name: run for name, run in others.items() if isinstance(run, str)}
    contenders: dict[str, Run] = {f"ours: {name}": run for name, run in contest.ours.items()}
    contenders |= {name: run for name, run in others.items() if not isinstance(run, str)}
    if contest.floor is not None:
        contenders["floor"] = contest.floor
    compiled = [name for name in contenders if name.endswith(" compiled")]
    with torch.inference_mode():
        values, times = interleaved(
            contenders,
            seconds=job["seconds"],
            rounds=job["rounds"],
            compiled=compiled,
            wait=_wait(job["device"]),
        )
        exact = None if contest.exact is None else contest.exact()
    return {
        "ours": {name: summary(times[f"ours: {name}"]) for name in contest.ours},
        "peers": {name: summary(times[name]) for name in contest.peers if name in times},
        "information": {
            name: summary(times[name]) for name in contest.information if name in times
        },
        "floor": summary(times["floor"], contest.floor_factor) if contest.floor else None,
        "absent": absent,
        "deviations": {
            name: {
                peer: deviation(values[f"ours: {name}"], values[peer])
                for peer in others
                if peer in values
            }
            for name in contest.ours
        },
        "from_float64": {}
        if exact is None
        else {
            name.removeprefix("ours: "): deviation(values[name], exact)
            for name in contenders
            if name != "floor"
        },
        "warm_ups": {
            name: max(metric.compiled.warm_ups.values(), default=0.0)
            for name, metric in contest.metrics.items()
            if metric.compiled is not None
        },
        "notes": contest.notes,
    }


def deviation(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest deviation of a value, relative to the peer's value."""
    a, b = (values.detach().cpu().double().flatten() for values in (ours, theirs))
    if a.shape != b.shape:
        raise ValueError(f"our values are {list(a.shape)}, the peer's are {list(b.shape)}")
    return float(((a - b).abs() / b.abs()).max())


def lpips(job: Job) -> Contest:
    """LPIPS of pairs, or of one reference and many distorted images."""
    options, device = job["options"], job["device"]
    net, count, shared = options["net"], options["count"], options.get("shared", False)
    x, y = _images(job)
    network = peers.bare(net, device)
    ways = {way: LPIPS(net, trunk=network) for way in _ways(job)}
    metrics = _configured(ways, device)
    authors = peers.made(peers.lpips, net, device)
    contest = Contest({n: _bound(m, x, y) for n, m in metrics.items()}, {}, metrics=metrics)
    if shared:
        contest.floor, contest.floor_factor = (lambda: network(x)), count + 1
        contest.peers["lpips"] = authors
        if not isinstance(authors, str):
            contest.peers["lpips"], route = _faster_route(authors, x, y)
            contest.notes.append(f"lpips {route}")
            if options.get("information") and job["first"]:
                contest.information["lpips given the reference once for 8"] = lambda: torch.cat(
                    [authors(x, part) for part in y.split(8)]
                )
        return contest
    contest.floor = lambda: (network(x), network(y))[1]
    contest.peers["lpips"] = _bound(authors, x, y)
    if options.get("information") and job["first"]:
        exact = LPIPS(net, trunk=network).double()
        contest.exact = lambda: exact(x.double(), y.double())
        makers = {
            "torchmetrics": peers.torchmetrics_lpips,
            "pyiqa": peers.pyiqa_lpips,
            **({"piq": peers.piq_lpips} if net == "vgg" else {}),
        }
        for name, make in makers.items():
            contest.information[name] = _bound(peers.made(make, net, device), x, y)
    return contest


def dists(job: Job) -> Contest:
    """DISTS at full size."""
    device = job["device"]
    x, y = _images(job)
    network = peers.bare("vgg", device)
    metrics = _configured({way: DISTS(trunk=network) for way in _ways(job)}, device)
    exact = DISTS(trunk=network).double()
    return Contest(
        {name: _bound(metric, x, y) for name, metric in metrics.items()},
        {
            "DISTS-pytorch": _bound(peers.made(peers.dists_pytorch, device), x, y),
            "pyiqa": _bound(peers.made(peers.pyiqa_dists, device), x, y),
        },
        floor=lambda: (network(x), network(y))[1],
        metrics=metrics,
        exact=(lambda: exact(x.double(), y.double())) if job["first"] else None,
    )


def dists_resized(job: Job) -> Contest:
    """DISTS of images that are shrunk first, as piq does."""
    device = job["device"]
    x, y = _images(job)
    ways = {way: DISTS(trunk=peers.bare("vgg"), resize=True) for way in _ways(job)}
    metrics = _configured(ways, device)
    return Contest(
        {name: _bound(metric, x, y) for name, metric in metrics.items()},
        {"piq": _bound(peers.made(peers.piq_dists, device), x, y)},
        metrics=metrics,
        notes=["piq shrinks without antialiasing: other values"],
    )


def ssim(job: Job) -> Contest:
    """SSIM with the paper's window."""
    x, y = _images(job)
    contest = _of_windows(job, SSIM, "SSIM", x, y)
    if job["device"] == "cpu":
        contest.peers["scikit-image"] = peers.made(peers.skimage_ssim, x, y)
    return contest


def ms_ssim(job: Job) -> Contest:
    """MS-SSIM, which scikit-image lacks."""
    return _of_windows(job, MSSSIM, "MS_SSIM", *_images(job))


def psnr(job: Job) -> Contest:
    """PSNR."""
    device, count = job["device"], job["options"]["count"]
    x, y = _images(job)
    metrics = _configured({way: PSNR() for way in _ways(job)}, device)
    contest = Contest(
        {name: _bound(metric, x, y) for name, metric in metrics.items()}, {}, metrics=metrics
    )
    for how in ("function", "class"):
        peer = peers.made(peers.torchmetrics_psnr, how, count, device)
        contest.peers[f"torchmetrics, {how}"] = _bound(peer, x, y)
    if job["first"]:
        contest.information["piq"] = _bound(peers.made(peers.piq_psnr), x, y)
    return contest


def layers(job: Job) -> Contest:
    """Every layer of VGG-16, streamed, and with hooks that keep all layers."""
    x, y = _images(job)
    network = peers.bare("vgg")
    ours, hooks = every_layer(network), by_hooks(network)
    exact = by_hooks(copy.deepcopy(network).double())
    return Contest(
        {"float32": lambda: ours(x, y)},
        {"hooks": lambda: hooks(x, y)},
        floor=lambda: (network(x), network(y))[1],
        exact=(lambda: exact(x.double(), y.double())) if job["first"] else None,
    )


def winograd(job: Job) -> Contest:
    """A metric with the Winograd convolution, and with torch's own in its place."""
    x, y = _images(job)
    metric = with_it(job["options"]["of"])
    return Contest(
        {"Winograd": _bound(metric, x, y)}, {"torch's own": _bound(without_it(metric), x, y)}
    )


def default(job: Job) -> Contest:
    """The default metric, compiled and not."""
    x, y = _images(job)
    metrics = _configured({way: create_metric("default") for way in _ways(job)}, job["device"])
    plain = create_metric("default").to(job["device"])
    return Contest(
        {name: _bound(metric, x, y) for name, metric in metrics.items()},
        {"uncompiled": _bound(plain, x, y)},
        metrics=metrics,
    )


def _images(job: Job) -> tuple[Tensor, Tensor]:
    options = job["options"]
    size = photographs.QUICK_SIZE if job["quick"] else tuple(options["size"])
    if options.get("shared"):
        found = photographs.one_to_many(size, options["count"])
    else:
        found = photographs.pairs(size, options["count"])
    x, y = (images.to(job["device"]) for images in found)
    return x, y


def _wait(device: str) -> Callable[[], None]:
    return torch.cuda.synchronize if device == "cuda" else (lambda: None)


def _ways(job: Job) -> list[str]:
    """Return the ways for which the case has rows."""
    return list(dict.fromkeys(job["ways"]))


def _configured(metrics: dict[str, Metric], device: str) -> dict[str, Metric]:
    for way, metric in metrics.items():
        precision, *compiled = way.split()
        metric.configure(precision=precision, compile=bool(compiled)).to(device)
    return metrics


def _bound(compare: peers.Compare | str, x: Tensor, y: Tensor) -> Run | str:
    return compare if isinstance(compare, str) else lambda: compare(x, y)


def _of_windows(job: Job, ours: Callable[[], Metric], theirs: str, x: Tensor, y: Tensor) -> Contest:
    device = job["device"]
    metrics = _configured({way: ours() for way in _ways(job)}, device)
    package = peers.made(peers.msssim_package, theirs, device)
    return Contest(
        {name: _bound(metric, x, y) for name, metric in metrics.items()},
        {"pytorch-msssim": _bound(package, x, y)},
        metrics=metrics,
    )


def _faster_route(authors: peers.Compare, x: Tensor, y: Tensor) -> tuple[Run, str]:
    """Return the faster way to call a peer that takes one reference per image.

    The ways are one by one and eight at a time, tried on the first eight images.
    """

    def one_by_one(images: Tensor) -> Tensor:
        return torch.cat([authors(x, image) for image in images.split(1)])

    def eight(images: Tensor) -> Tensor:
        parts = images.split(8)
        return torch.cat([authors(x.expand(len(part), -1, -1, -1), part) for part in parts])

    with torch.inference_mode():
        authors(x, y[:1])
        single, together = (
            timed(lambda route=route: route(y[:8]), _wait(y.device.type))[1]
            for route in (one_by_one, eight)
        )
    if single < together:
        return (lambda: one_by_one(y)), "one by one"
    return (lambda: eight(y)), "8 at a time"
