"""The layout and the reader of each database."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from iqa_metrics.datasets.bapps import (
    COUNT_2AFC,
    FOLDER_2AFC,
    FOLDER_JND,
    pairs_2afc,
    pairs_jnd,
)
from iqa_metrics.datasets.files import (
    lines_of,
    matrices_of,
    number_in,
    rows_of,
    sheet_of,
    text_in,
)
from iqa_metrics.datasets.folders import Folder
from iqa_metrics.datasets.opinions import (
    HIGHER_IS,
    DatabaseFacts,
    DatasetError,
    HigherIs,
    OpinionDatabase,
    OpinionPair,
    Problem,
)

_BAPPS = "Zhang et al., CVPR 2018, arXiv:1801.03924"
_BAPPS_LICENCE = "see the authors' repository; not to be redistributed"
_RESEARCH = "free for research; not to be redistributed"


@dataclass(frozen=True)
class _Reader:
    """A database's facts, the markers of its folder, and the function that reads it."""

    facts: DatabaseFacts
    markers: tuple[str, ...]
    read: Callable[[Folder, DatabaseFacts, list[Problem]], Iterator[OpinionPair]]


# TID2008, TID2013 ---------------------------------------------------------------------------------

_TID2008_TYPES = (
    *("additive noise", "colour noise", "correlated noise", "masked noise"),
    *("high frequency noise", "impulse noise", "quantisation", "blur", "denoising", "jpeg"),
    *("jpeg2000", "jpeg transmission", "jpeg2000 transmission", "non-eccentricity"),
    *("local blocks", "mean shift", "contrast"),
)
_TID2013_TYPES = (
    *_TID2008_TYPES,
    *("saturation", "multiplicative noise", "comfort noise", "lossy noisy", "dithering"),
    *("chromatic aberration", "sparse sampling"),
)


def _tid(types: tuple[str, ...], levels: int) -> Callable[..., Iterator[OpinionPair]]:
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
    *("gaussian blur", "lens blur", "motion blur", "colour diffusion", "colour shift"),
    *("colour quantisation", "saturation 1", "saturation 2", "jpeg2000", "jpeg", "white noise"),
    *("white noise in colour component", "impulse noise", "multiplicative noise", "denoise"),
    *("brighten", "darken", "mean shift", "jitter", "non-eccentricity", "pixelate"),
    *("quantisation", "colour block", "high sharpen", "contrast"),
)


def _kadid(folder: Folder, facts: DatabaseFacts, problems: list[Problem]) -> Iterator[OpinionPair]:
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


def _csiq(folder: Folder, facts: DatabaseFacts, problems: list[Problem]) -> Iterator[OpinionPair]:
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


def _live(folder: Folder, facts: DatabaseFacts, problems: list[Problem]) -> Iterator[OpinionPair]:
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


def _pipal(folder: Folder, facts: DatabaseFacts, problems: list[Problem]) -> Iterator[OpinionPair]:
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


READERS: Mapping[str, _Reader] = {
    reader.facts.name: reader
    for reader in (
        _Reader(
            DatabaseFacts(
                name="tid2008",
                title="TID2008",
                higher_is="better",
                range=(0.0, 9.0),
                references=25,
                pairs=1700,
                source="Ponomarenko et al., Advances of Modern Radioelectronics 10, 2009",
                licence=_RESEARCH,
                layout="mos_with_names.txt, reference_images/, distorted_images/",
            ),
            ("mos_with_names.txt",),
            _tid(_TID2008_TYPES, 4),
        ),
        _Reader(
            DatabaseFacts(
                name="tid2013",
                title="TID2013",
                higher_is="better",
                range=(0.0, 9.0),
                references=25,
                pairs=3000,
                source="Ponomarenko et al., Signal Processing: Image Communication 30, 2015",
                licence=_RESEARCH,
                layout="mos_with_names.txt, reference_images/, distorted_images/",
            ),
            ("mos_with_names.txt",),
            _tid(_TID2013_TYPES, 5),
        ),
        _Reader(
            DatabaseFacts(
                name="kadid10k",
                title="KADID-10k",
                # Its column is called dmos, and yet 5 is best.
                higher_is="better",
                range=(1.0, 5.0),
                references=81,
                pairs=10125,
                source="Lin, Hosu and Saupe, QoMEX 2019",
                licence=_RESEARCH,
                layout="dmos.csv, images/",
            ),
            ("dmos.csv",),
            _kadid,
        ),
        _Reader(
            DatabaseFacts(
                name="csiq",
                title="CSIQ",
                higher_is="worse",
                range=(0.0, 1.0),
                references=30,
                pairs=866,
                source="Larson and Chandler, Journal of Electronic Imaging 19(1), 2010",
                licence=_RESEARCH,
                layout="csiq.DMOS.xlsx, src_imgs/, dst_imgs/",
            ),
            ("csiq.DMOS.xlsx",),
            _csiq,
        ),
        _Reader(
            DatabaseFacts(
                name="live",
                title="LIVE Release 2",
                higher_is="worse",
                range=(0.0, 100.0),
                references=29,
                pairs=779,
                source="Sheikh, Sabir and Bovik, IEEE TIP 15(11), 2006",
                licence="free with its notice, which must stay with the images",
                layout="dmos_realigned.mat, refnames_all.mat, refimgs/, jp2k/, jpeg/, wn/, gblur/, "
                "fastfading/",
            ),
            ("dmos_realigned.mat",),
            _live,
        ),
        _Reader(
            DatabaseFacts(
                name="pipal",
                title="PIPAL, training part",
                higher_is="better",
                range=(868.0, 1857.0),
                references=200,
                pairs=23200,
                source="Gu et al., ECCV 2020, arXiv:2007.12142",
                licence=_RESEARCH,
                layout="Train_Label/, Train_Ref/, Train_Dist/ or Distortion_1/ to Distortion_4/",
            ),
            ("Train_Label/",),
            _pipal,
        ),
        _Reader(
            DatabaseFacts(
                name="bapps_2afc",
                title="BAPPS 2AFC, validation part",
                higher_is="better",
                range=(0.0, 1.0),
                references=COUNT_2AFC,
                pairs=2 * COUNT_2AFC,
                source=_BAPPS,
                licence=_BAPPS_LICENCE,
                layout="2afc/val/PART/ref/, p0/, p1/, judge/",
                asked="2afc",
            ),
            (f"{FOLDER_2AFC}/",),
            pairs_2afc,
        ),
        _Reader(
            DatabaseFacts(
                name="bapps_jnd",
                title="BAPPS JND, validation part",
                higher_is="better",
                range=(0.0, 1.0),
                references=None,
                pairs=None,
                source=_BAPPS,
                licence=_BAPPS_LICENCE,
                layout="jnd/val/PART/p0/, p1/, same/",
                asked="jnd",
            ),
            (f"{FOLDER_JND}/",),
            pairs_jnd,
        ),
    )
}


def read_database(name: str, folder: str | Path, *, complete: bool = True) -> OpinionDatabase:
    """Read a database of opinions from the folder that its owners publish.

    Parameters
    ----------
    name
        ``tid2008``, ``tid2013``, ``kadid10k``, ``csiq``, ``live``, ``pipal``, ``bapps_2afc`` or
        ``bapps_jnd``.
    folder
        The folder as downloaded and unpacked, in whatever letter case.
    complete
        Refuse a database that is not whole; False takes what is there, and says what is not in
        ``problems``.

    Raises
    ------
    UnknownNameError
        If there is no such database.
    DatasetError
        If it can't be read, or is not whole; ``problems`` names all that is missing or wrong.
    """
    from iqa_metrics.names import lookup

    reader = lookup("database", name, READERS)
    files = Folder(Path(folder), reader.markers)
    problems: list[Problem] = []
    pairs = tuple(reader.read(files, reader.facts, problems))
    problems = [*dict.fromkeys(files.missing), *problems]
    if problems and complete:
        raise DatasetError(f"{reader.facts.title} in {files.path} is not complete", problems)
    return OpinionDatabase(reader.facts, pairs, tuple(problems))


def read_opinions(
    file: str | Path, higher_is: HigherIs, opinion: str = "opinion"
) -> OpinionDatabase:
    """Read a database from a CSV table of your own.

    Parameters
    ----------
    file
        The table, with the columns ``reference``, ``distorted``, the opinion, and optionally
        ``distortion`` and ``level``. Paths are relative to the file.
    higher_is
        Whether a higher opinion means a ``"better"`` or a ``"worse"`` looking image.
    opinion
        Name of the column of opinions.

    Raises
    ------
    PairsError
        If the table can't be read or lacks a column.
    DatasetError
        If rows can't be used; ``problems`` lists each of them.
    """
    from iqa_metrics.io.tables import PairsError, PairTable

    if higher_is not in HIGHER_IS:
        raise ValueError(f"higher_is: expected 'better' or 'worse', got {higher_is!r}")
    path = Path(file)
    table = PairTable.open(path)
    if opinion not in table.carried:
        raise PairsError(
            f"{path}: no column {opinion} of opinions; the columns beside reference and distorted "
            f"are {', '.join(table.carried) or 'none'}"
        )
    pairs, problems = [], []
    for number, row in enumerate(table, start=2):
        where = f"{path.name}, row {number}"
        value = number_in(row.carried[opinion])
        if row.problem:
            problems.append(Problem("opinion", where, row.problem))
        elif value is None:
            problems.append(Problem("opinion", where, f"got {row.carried[opinion]!r}"))
        else:
            reference, distorted = (row.folder / name for name in (row.reference, row.distorted))
            problems += [
                Problem("missing", str(image))
                for image in (reference, distorted)
                if not image.is_file()
            ]
            level = number_in(row.carried.get("level", ""))
            kind = row.carried.get("distortion", "")
            pairs.append(OpinionPair(reference, distorted, value, kind, level))
    problems = list(dict.fromkeys(problems))
    if problems:
        raise DatasetError(f"{path} can't be used as it is", problems)
    values = [pair.opinion for pair in pairs]
    facts = DatabaseFacts(
        name=path.stem,
        title=path.name,
        higher_is=higher_is,
        range=(min(values, default=0.0), max(values, default=0.0)),
        references=len({pair.reference for pair in pairs}),
        pairs=len(pairs),
        source="",
        licence="yours",
        layout="a CSV table",
    )
    return OpinionDatabase(facts, tuple(pairs))
