"""The cases that are measured, each in separate processes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks import targets

SIZE, LARGE = (512, 384), (1920, 1080)
DISTORTED = 24
NETS = ("alex", "squeeze", "vgg")
PLAIN = ("float32", "float32 compiled", "bfloat16 compiled")


@dataclass(frozen=True)
class Row:
    """A row of the table: one way of computing ours, and its targets.

    Attributes
    ----------
    ours
        Name of the way.
    at_most, at_least
        Bounds of the ratio, or of the value if there is no peer; or None.
    deviation_at_most
        Bound of the largest relative deviation from the peer, or None if it is only reported.
    against
        Names of the peers, of which the fastest counts; by default all peers of the case.
    stretch
        A more ambitious target.
    """

    ours: str
    at_most: float | None = None
    deviation_at_most: float | None = None
    against: tuple[str, ...] = ()
    stretch: float | None = None
    at_least: float | None = None


@dataclass(frozen=True)
class Case:
    """What a child process measures together.

    Attributes
    ----------
    name
        A unique name, with which the labels of its rows begin.
    group
        The name of its group for ``--only``.
    kind
        Which of :data:`benchmarks.child.KINDS` measures it.
    options
        Options for that kind.
    rows
        The resulting rows.
    sides
        Names of the parts that must not share a process.
    seconds
        Time for the timed rounds in one process; each contender runs at least once.
    processes
        Largest number of processes in which it is repeated.
    quick
        Whether a smoke run includes it.
    """

    name: str
    group: str
    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    rows: tuple[Row, ...] = ()
    sides: tuple[str, ...] = ("all",)
    seconds: float = 5.0
    processes: int = 3
    quick: bool = True


def deviation(way: str) -> float:
    """Return how much values computed in that way may deviate from the peer's."""
    low = way.startswith("bfloat16")
    return targets.BFLOAT16_DEVIATION if low else targets.FLOAT32_DEVIATION


def _lpips(net: str) -> list[Case]:
    vgg = net == "vgg"
    plain = tuple(
        Row(
            way,
            targets.LPIPS[way][net],
            deviation(way),
            stretch=targets.STRETCH.get((net, way)),
        )
        for way in PLAIN
    )
    # Fewer ways for VGG-16, whose passes take seconds.
    ways = ("float32", "float32 compiled", "bfloat16", "bfloat16 compiled")
    shared = tuple(
        Row(way, targets.LPIPS_SHARED[way.split()[0]][net], deviation(way))
        for way in ways
        if not (vgg and way in ("float32 compiled", "bfloat16"))
    )
    name, group = f"LPIPS {net}", "lpips"
    return [
        Case(
            f"{name}, {_pixels(SIZE)}, batch 1",
            group,
            "lpips",
            {"net": net, "size": SIZE, "count": 1, "information": True},
            plain,
            seconds=15 if vgg else 5,
            processes=2 if vgg else 3,
        ),
        Case(
            f"{name}, {_pixels(SIZE)}, batch 8",
            group,
            "lpips",
            {"net": net, "size": SIZE, "count": 8},
            plain,
            seconds=20 if vgg else 8,
            processes=1 if vgg else 2,
            quick=net == "alex",
        ),
        Case(
            f"{name}, {_pixels(SIZE)}, 1 reference x {DISTORTED}",
            group,
            "lpips",
            {"net": net, "size": SIZE, "count": DISTORTED, "shared": True, "information": not vgg},
            shared,
            seconds=20 if vgg else 10,
            processes=1 if vgg else 2,
            quick=net == "alex",
        ),
        Case(
            f"{name}, {_pixels(LARGE)}, batch 1",
            group,
            "lpips",
            {"net": net, "size": LARGE, "count": 1},
            tuple(row for row in plain if row.ours != "float32 compiled"),
            seconds=20 if vgg else 8,
            processes=1 if vgg else 2,
            quick=False,
        ),
    ]


def _windows(name: str, kind: str, count: int) -> Case:
    return Case(
        f"{name}, {_pixels(SIZE)}, batch {count}",
        kind,
        kind,
        {"size": SIZE, "count": count},
        (
            Row("float32", targets.WINDOWS),
            Row("float32 compiled", targets.WINDOWS_COMPILED),
        ),
        seconds=4,
        quick=count == 1,
    )


def _psnr(count: int) -> Case:
    ways = ("torchmetrics, function", "torchmetrics, class")
    return Case(
        f"PSNR, {_pixels(SIZE)}, batch {count}",
        "psnr",
        "psnr",
        {"size": SIZE, "count": count},
        tuple(Row("float32", targets.PSNR, against=(way,)) for way in ways),
        seconds=2,
        quick=count == 1,
    )


def _pixels(size: tuple[int, int]) -> str:
    return "{}x{}".format(*size)


CASES: tuple[Case, ...] = (
    *(case for net in NETS for case in _lpips(net)),
    Case(
        f"DISTS, {_pixels(SIZE)}, batch 1",
        "dists",
        "dists",
        {"size": SIZE, "count": 1},
        (Row("float32", targets.DISTS),),
        seconds=15,
    ),
    Case(
        f"DISTS, {_pixels(SIZE)} brought to 256, batch 1",
        "dists",
        "dists_resized",
        {"size": SIZE, "count": 1},
        (Row("float32"),),
        seconds=6,
        processes=2,
        quick=False,
    ),
    *(_windows("SSIM", "ssim", count) for count in (1, 8)),
    *(_windows("MS-SSIM", "ms_ssim", count) for count in (1, 8)),
    *(_psnr(count) for count in (1, 8)),
    Case(
        f"memory above weights: LPIPS vgg, {_pixels(SIZE)}, batch 8",
        "memory",
        "memory",
        {"of": "lpips", "net": "vgg", "size": SIZE, "count": 8},
        (Row("ours", targets.LPIPS_MEMORY, against=("lpips",)),),
        sides=("ours", "lpips"),
        processes=2,
    ),
    Case(
        f"memory above weights: every layer of VGG16, 16 pairs of {_pixels(SIZE)}",
        "memory",
        "memory",
        {"of": "layers", "size": SIZE, "count": 16},
        (Row("ours", targets.EVERY_LAYER_MIB),),
        sides=("ours", "ours, 2 pairs", "hooks, 2 pairs"),
        processes=1,
    ),
    Case(
        f"every layer of VGG16, 2 pairs of {_pixels(SIZE)}",
        "layers",
        "layers",
        {"size": SIZE, "count": 2},
        (Row("float32", targets.EVERY_LAYER_TIME, targets.FLOAT32_DEVIATION),),
        seconds=15,
        processes=2,
    ),
    *(
        Case(
            f"Winograd convolution in {name}, {_pixels(SIZE)}, batch {count}",
            "winograd",
            "winograd",
            {"of": of, "size": SIZE, "count": count},
            (Row("Winograd", targets.WINOGRAD),),
            seconds=20,
            processes=2,
            quick=of == "alex" and count == 1,
        )
        for of, name, count in (
            ("alex", "LPIPS alex", 1),
            ("alex", "LPIPS alex", 8),
            ("vgg", "LPIPS vgg", 1),
            ("dists", "DISTS", 1),
        )
    ),
    Case(
        "training step, LPIPS vgg, 4 x 256x256",
        "training",
        "training",
        {"net": "vgg", "size": (256, 256), "count": 4},
        tuple(
            Row(f"{quantity}{way}", targets.TRAINING)
            for way in ("", ", compiled")
            for quantity in ("kept memory", "peak memory", "time")
        ),
        sides=(
            *("ours", "lpips", "ours compiled", "lpips compiled"),
            *("time", "time compiled"),
        ),
        processes=3,
        quick=False,
    ),
    *(
        Case(
            f"default, {_pixels(SIZE)}, batch {count}",
            "default",
            "default",
            {"size": SIZE, "count": count},
            (Row("float32 compiled", targets.DEFAULT_COMPILED),),
            seconds=8,
            quick=False,
        )
        for count in (1, 8)
    ),
    Case(
        "iqa score --pairs, 2000 pairs of mixed sizes",
        "table",
        "table",
        {"pairs": 2000},
        (
            Row("network busy", at_least=targets.NETWORK_BUSY),
            Row("memory growth", at_most=targets.MEMORY_GROWTH),
        ),
        processes=1,
    ),
    Case(
        "a study's statistics",
        "study",
        "study",
        {"networks": 46},
        (
            Row("46 networks x 20 layers x 3000 pairs, 1000 draws", targets.STUDY_SECONDS),
            Row("its memory", targets.STUDY_MIB),
            Row("its memory with all concatenations", targets.STUDY_MIB),
            Row("intervals of 8 series"),
            Row("weights of 320 channels"),
        ),
        processes=1,
    ),
    Case(
        "import",
        "import",
        "imports",
        {"rounds": 10},
        (Row("import iqa_metrics", targets.IMPORT), Row("from iqa_metrics import create_metric")),
        processes=1,
    ),
    Case(
        "bfloat16 and people's opinion, LIVE",
        "opinions",
        "opinions",
        {},
        (Row("SROCC", at_most=targets.SROCC_DIFFERENCE),),
        processes=1,
        quick=False,
    ),
)
GROUPS: tuple[str, ...] = tuple(dict.fromkeys(case.group for case in CASES))
ON_CUDA = ("lpips", "dists", "ssim", "ms_ssim", "psnr")
"""Groups that are measured on a GPU."""


def case(name: str) -> Case:
    """Return the case with that name."""
    return next(c for c in CASES if c.name == name)
