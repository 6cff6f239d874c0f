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


def tid(types: tuple[str, ...], levels: int, ratings: int) -> Callable[..., Iterator[OpinionPair]]:
    """Return the reader of TID2008 or TID2013, which differ in distortion types and levels.

    ``ratings`` is the mean number of ratings of an image. ``mos_std.txt`` has the standard error of
    each MOS, so the standard deviation of ratings is ``sqrt(ratings)`` times larger.
    """

    def read(
        folder: Folder, facts: DatabaseFacts, problems: list[Problem]
    ) -> Iterator[OpinionPair]:
        opinions: dict[str, tuple[float, float | None]] = {}
        path = folder.need("mos_with_names.txt")
        lines = list(lines_of(path))
        errors = _tid_errors(folder, len(lines), problems)
        for number, line in enumerate(lines, start=1):
            fields = line.split()
            value = number_in(fields[0]) if len(fields) == 2 else None
            if value is None:
                problems.append(Problem("opinion", f"{path.name}, line {number}", f"got {line!r}"))
            else:
                error = errors[number - 1]
                spread = None if error is None else error * math.sqrt(ratings)
                opinions[fields[1].lower()] = value, spread
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
                        value, spread = opinion
                        yield OpinionPair(
                            *(reference, distorted, value, distortion, level),
                            opinion_sd=spread,
                            ratings=None if spread is None else ratings,
                        )
        problems += [Problem("unexpected", name, f"in {path.name}") for name in opinions]

    return read


def _tid_errors(folder: Folder, count: int, problems: list[Problem]) -> list[float | None]:
    """Return the standard error of each MOS, in the order of ``mos_with_names.txt``.

    Copies without ``mos_std.txt`` have none.
    """
    path = folder.optional("mos_std.txt")
    if path is None:
        return [None] * count
    found = [number_in(line) for line in lines_of(path)]
    if len(found) != count:
        why = f"expected {count} lines, as in mos_with_names.txt, got {len(found)}"
        problems.append(Problem("opinion", path.name, why))
        return [None] * count
    for number, value in enumerate(found, start=1):
        if value is None or value < 0:
            why = "expected a standard error of at least 0"
            problems.append(Problem("opinion", f"{path.name}, line {number}", why))
    return [None if value is None or value < 0 else value for value in found]


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

_KADID_RATINGS = 30
"""Ratings per image, from the database's paper."""


def kadid(folder: Folder, facts: DatabaseFacts, problems: list[Problem]) -> Iterator[OpinionPair]:
    """Yield the pairs of KADID-10k.

    Its column ``var`` has the standard deviation of the ratings, not their variance: 30 ratings of
    1 to 5 with the means of its first rows, 4.57 and 4.33, can't have variances of 0.496 and 0.869,
    but they can have these standard deviations.
    """
    path = folder.need("dmos.csv")
    rows: dict[str, tuple[float, float | None]] = {}
    for number, row in rows_of(path, ("dist_img", "ref_img", "dmos")):
        value, spread = number_in(row["dmos"]), number_in(row.get("var"))
        if value is None:
            problems.append(
                Problem("opinion", f"{path.name}, line {number}", f"got {row['dmos']!r}")
            )
        else:
            known = spread is not None and spread >= 0
            rows[row["dist_img"].lower()] = value, spread if known else None
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
                    value, spread = opinion
                    yield OpinionPair(
                        *(reference, distorted, value, distortion, level),
                        opinion_sd=spread,
                        ratings=None if spread is None else _KADID_RATINGS,
                    )
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
    columns = ("image", "dst_type", "dst_lev", "dmos")
    for number, row in sheet_of(path, "all_by_image", columns, optional=("dmos_std",)):
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
            # The standard deviation over observers; how many saw an image is not published.
            spread = number_in(row.get("dmos_std"))
            yield OpinionPair(reference, distorted, opinion, below, level, opinion_sd=spread)
    if count != facts.pairs:
        problems.append(Problem("opinion", path.name, f"expected {facts.pairs} rows, got {count}"))


# LIVE Release 2 -----------------------------------------------------------------------------------

_LIVE_PARTS = (("jp2k", 227), ("jpeg", 233), ("wn", 174), ("gblur", 174), ("fastfading", 174))


def live(folder: Folder, facts: DatabaseFacts, problems: list[Problem]) -> Iterator[OpinionPair]:
    """Yield the pairs of LIVE Release 2."""
    opinions = matrices_of(
        folder.need("dmos_realigned.mat"), ("dmos_new", "orgs"), optional=("dmos_std",)
    )
    names = matrices_of(folder.need("refnames_all.mat"), ("refnames_all",))["refnames_all"]
    values, originals = opinions["dmos_new"].ravel(), opinions["orgs"].ravel()
    total = sum(count for _, count in _LIVE_PARTS)
    for what, found in (("dmos_new", values), ("orgs", originals), ("refnames_all", names)):
        if found.size != total:
            why = f"expected {total} entries, got {found.size}"
            raise DatasetError(
                f"{folder.path} is not {facts.title}", [Problem("opinion", what, why)]
            )
    spreads = opinions["dmos_std"].ravel() if "dmos_std" in opinions else None
    if spreads is not None and spreads.size != total:
        why = f"expected {total} entries, got {spreads.size}"
        problems.append(Problem("opinion", "dmos_std", why))
        spreads = None
    entry = 0
    for part, count in _LIVE_PARTS:
        for number in range(1, count + 1):
            original, opinion = bool(originals[entry]), float(values[entry])
            name = str(
                names.ravel()[entry].item() if names.dtype == object else names.ravel()[entry]
            )
            spread = None if spreads is None else number_in(spreads[entry])
            entry += 1
            if original:
                continue
            reference = folder.find(f"refimgs/{name}")
            distorted = folder.find(f"{part}/img{number}.bmp")
            if not math.isfinite(opinion):
                problems.append(Problem("opinion", f"{part}/img{number}.bmp", f"got {opinion}"))
            elif reference and distorted:
                yield OpinionPair(reference, distorted, opinion, part, opinion_sd=spread)


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
