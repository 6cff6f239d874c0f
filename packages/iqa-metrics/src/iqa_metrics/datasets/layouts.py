"""The published layout of each database: where its images and opinions are."""

import math
from collections.abc import Callable, Iterator

from iqa_metrics.datasets.files import (
    lines_of,
    matrices_of,
    number_in,
    rows_of,
    sheet_of,
    text_in,
)
from iqa_metrics.datasets.folders import Folder
from iqa_metrics.datasets.opinions import DatabaseFacts, DatasetError, OpinionPair, Problem

# TID2008, TID2013 ---------------------------------------------------------------------------------

TID2008_TYPES = (
    "additive noise",
    "colour noise",
    "correlated noise",
    "masked noise",
    "high frequency noise",
    "impulse noise",
    "quantisation",
    "blur",
    "denoising",
    "jpeg",
    "jpeg2000",
    "jpeg transmission",
    "jpeg2000 transmission",
    "non-eccentricity",
    "local blocks",
    "mean shift",
    "contrast",
)
TID2013_TYPES = (
    *TID2008_TYPES,
    "saturation",
    "multiplicative noise",
    "comfort noise",
    "lossy noisy",
    "dithering",
    "chromatic aberration",
    "sparse sampling",
)


def tid(types: tuple[str, ...], levels: int) -> Callable[..., Iterator[OpinionPair]]:
    """Return the reader of TID2008 or TID2013, which differ in distortion types and levels."""

    def read(
        folder: Folder, facts: DatabaseFacts, problems: list[Problem]
    ) -> Iterator[OpinionPair]:
        opinions = {}
        path = folder.need("mos_with_names.txt")
        for number, line in enumerate(lines_of(path), start=1):
            fields = line.split()
            value = number_in(fields[0]) if len(fields) == 2 else None
            if value is None:
                problems.append(Problem("opinion", f"{path.name}, line {number}", f"got {line!r}"))
            else:
                opinions[fields[1].lower()] = value
        for image in range(1, 26):
            reference = folder.find(
                f"reference_images/I{image:02}.BMP", f"reference_images/I{image:02}.png"
            )
            for kind, distortion in enumerate(types, start=1):
                for level in range(1, levels + 1):
                    name = f"i{image:02}_{kind:02}_{level}"
                    distorted = folder.find(
                        f"distorted_images/{name}.bmp", f"distorted_images/{name}.png"
                    )
                    opinion = opinions.pop(f"{name}.bmp", None)
                    if opinion is None:
                        problems.append(Problem("opinion", f"{name}.bmp", f"none in {path.name}"))
                    elif reference and distorted:
                        yield OpinionPair(reference, distorted, opinion, distortion, level)
        problems += [Problem("unexpected", name, f"in {path.name}") for name in opinions]

    return read


# KADID-10k ----------------------------------------------------------------------------------------

_KADID_TYPES = (
    "gaussian blur",
    "lens blur",
    "motion blur",
    "colour diffusion",
    "colour shift",
    "colour quantisation",
    "saturation 1",
    "saturation 2",
    "jpeg2000",
    "jpeg",
    "white noise",
    "white noise in colour component",
    "impulse noise",
    "multiplicative noise",
    "denoise",
    "brighten",
    "darken",
    "mean shift",
    "jitter",
    "non-eccentricity",
    "pixelate",
    "quantisation",
    "colour block",
    "high sharpen",
    "contrast",
)


def kadid(folder: Folder, facts: DatabaseFacts, problems: list[Problem]) -> Iterator[OpinionPair]:
    """Yield the pairs of KADID-10k."""
    path = folder.need("dmos.csv")
    rows = {}
    for number, row in rows_of(path, ("dist_img", "ref_img", "dmos")):
        value = number_in(row["dmos"])
        if value is None:
            problems.append(
                Problem("opinion", f"{path.name}, line {number}", f"got {row['dmos']!r}")
            )
        else:
            rows[row["dist_img"].lower()] = value
    for image in range(1, 82):
        reference = folder.find(f"images/I{image:02}.png")
        for kind, distortion in enumerate(_KADID_TYPES, start=1):
            for level in range(1, 6):
                name = f"I{image:02}_{kind:02}_{level:02}.png"
                distorted = folder.find(f"images/{name}")
                opinion = rows.pop(name.lower(), None)
                if opinion is None:
                    problems.append(Problem("opinion", name, f"none in {path.name}"))
                elif reference and distorted:
                    yield OpinionPair(reference, distorted, opinion, distortion, level)
    problems += [Problem("unexpected", name, f"in {path.name}") for name in rows]


# CSIQ ---------------------------------------------------------------------------------------------

_CSIQ_FILES = {
    # The sheet's name of a distortion: its folder, and the middle part of its file names.
    "noise": ("awgn", "AWGN"),
    "awgn": ("awgn", "AWGN"),
    "blur": ("blur", "BLUR"),
    "contrast": ("contrast", "contrast"),
    "fnoise": ("fnoise", "fnoise"),
    "jpeg": ("jpeg", "JPEG"),
    "jpeg 2000": ("jpeg2000", "jpeg2000"),
    "jpeg2000": ("jpeg2000", "jpeg2000"),
}


def csiq(folder: Folder, facts: DatabaseFacts, problems: list[Problem]) -> Iterator[OpinionPair]:
    """Yield the pairs of CSIQ."""
    path = folder.need("csiq.DMOS.xlsx", "csiq.dmos.xlsx")
    count = 0
    for number, row in sheet_of(path, "all_by_image", ("image", "dst_type", "dst_lev", "dmos")):
        image, kind = text_in(row["image"]), text_in(row["dst_type"]).lower()
        level, opinion = number_in(row["dst_lev"]), number_in(row["dmos"])
        if not image and not kind:
            continue
        count += 1
        if kind not in _CSIQ_FILES or level is None or opinion is None:
            problems.append(Problem("opinion", f"{path.name}, row {number}", f"got {row}"))
            continue
        below, middle = _CSIQ_FILES[kind]
        reference = folder.find(f"src_imgs/{image}.png")
        distorted = folder.find(f"dst_imgs/{below}/{image}.{middle}.{level:g}.png")
        if reference and distorted:
            yield OpinionPair(reference, distorted, opinion, below, level)
    if count != facts.pairs:
        problems.append(Problem("opinion", path.name, f"expected {facts.pairs} rows, got {count}"))


# LIVE Release 2 -----------------------------------------------------------------------------------

_LIVE_PARTS = (("jp2k", 227), ("jpeg", 233), ("wn", 174), ("gblur", 174), ("fastfading", 174))


def live(folder: Folder, facts: DatabaseFacts, problems: list[Problem]) -> Iterator[OpinionPair]:
    """Yield the pairs of LIVE Release 2."""
    opinions = matrices_of(folder.need("dmos_realigned.mat"), ("dmos_new", "orgs"))
    names = matrices_of(folder.need("refnames_all.mat"), ("refnames_all",))["refnames_all"]
    values, originals = opinions["dmos_new"].ravel(), opinions["orgs"].ravel()
    total = sum(count for _, count in _LIVE_PARTS)
    for what, found in (("dmos_new", values), ("orgs", originals), ("refnames_all", names)):
        if found.size != total:
            why = f"expected {total} entries, got {found.size}"
            raise DatasetError(
                f"{folder.path} is not {facts.title}", [Problem("opinion", what, why)]
            )
    entry = 0
    for part, count in _LIVE_PARTS:
        for number in range(1, count + 1):
            original, opinion = bool(originals[entry]), float(values[entry])
            name = str(
                names.ravel()[entry].item() if names.dtype == object else names.ravel()[entry]
            )
            entry += 1
            if original:
                continue
            reference = folder.find(f"refimgs/{name}")
            distorted = folder.find(f"{part}/img{number}.bmp")
            if not math.isfinite(opinion):
                problems.append(Problem("opinion", f"{part}/img{number}.bmp", f"got {opinion}"))
            elif reference and distorted:
                yield OpinionPair(reference, distorted, opinion, part)


# PIPAL --------------------------------------------------------------------------------------------


def pipal(folder: Folder, facts: DatabaseFacts, problems: list[Problem]) -> Iterator[OpinionPair]:
    """Yield the pairs of PIPAL's training part."""
    labels = folder.under("Train_Label", ".txt")
    if len(labels) != facts.references:
        why = f"expected {facts.references} files, got {len(labels)}"
        problems.append(Problem("missing", "Train_Label/*.txt", why))
    count = 0
    for label in labels:
        path = folder.need(label)
        reference = folder.find(f"Train_Ref/{path.stem}.bmp", f"Train_Ref/{path.stem}.png")
        for number, line in enumerate(lines_of(path), start=1):
            name, _, text = line.partition(",")
            opinion = number_in(text)
            count += 1
            if opinion is None:
                problems.append(Problem("opinion", f"{path.name}, line {number}", f"got {line!r}"))
                continue
            places = [f"Train_Dist/{name}", *(f"Distortion_{i}/{name}" for i in range(1, 5))]
            distorted = folder.find(*places)
            if reference and distorted:
                kind = name.split("_")[1] if name.count("_") == 2 else ""
                yield OpinionPair(reference, distorted, opinion, kind)
    if count != facts.pairs:
        why = f"expected {facts.pairs} in all, got {count}"
        problems.append(Problem("opinion", "Train_Label", why))
