"""The readable databases, and the functions that read them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from iqa_metrics.datasets.bapps import (
    COUNT_2AFC,
    FOLDER_2AFC,
    FOLDER_JND,
    pairs_2afc,
    pairs_jnd,
)
from iqa_metrics.datasets.files import number_in
from iqa_metrics.datasets.folders import Folder
from iqa_metrics.datasets.layouts import (
    TID2008_TYPES,
    TID2013_TYPES,
    csiq,
    kadid,
    live,
    pipal,
    tid,
)
from iqa_metrics.datasets.nights import TABLE, pairs_nights
from iqa_metrics.datasets.noise import noise_of
from iqa_metrics.datasets.opinions import (
    HIGHER_IS,
    Asked,
    DatabaseFacts,
    DatasetError,
    HigherIs,
    OpinionDatabase,
    OpinionPair,
    Problem,
)
from iqa_metrics.registry import Registry, expect

_BAPPS = "Zhang et al., CVPR 2018, arXiv:1801.03924"
_BAPPS_LICENCE = "see the authors' repository; not to be redistributed"
_RESEARCH = "free for research; not to be redistributed"


@dataclass(frozen=True, kw_only=True)
class DatabaseReader:
    """A database, and how to read it.

    Attributes
    ----------
    facts
        What is known about the database; ``facts.name`` is its name in commands.
    markers
        Files, and folders ending in ``/``, at least one of which is in the database's folder. By
        these the folder is found below the one that the user passes, in any letter case.
    read
        ``(folder, facts, problems) -> pairs``: a function that yields the pairs in the database's
        own order, and appends to ``problems`` whatever differs from the published database. Files
        that :meth:`Folder.find` does not find are recorded automatically.
    """

    facts: DatabaseFacts
    markers: tuple[str, ...]
    read: Callable[[Folder, DatabaseFacts, list[Problem]], Iterable[OpinionPair]]

    @property
    def name(self) -> str:
        """The database's name in commands."""
        return self.facts.name


READERS: tuple[DatabaseReader, ...] = (
    DatabaseReader(
        facts=DatabaseFacts(
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
        markers=("mos_with_names.txt",),
        read=tid(TID2008_TYPES, levels=4, ratings=33),
    ),
    DatabaseReader(
        facts=DatabaseFacts(
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
        markers=("mos_with_names.txt",),
        read=tid(TID2013_TYPES, levels=5, ratings=36),
    ),
    DatabaseReader(
        facts=DatabaseFacts(
            name="kadid10k",
            title="KADID-10k",
            higher_is="better",  # its column is called dmos, and yet 5 is best
            range=(1.0, 5.0),
            references=81,
            pairs=10125,
            source="Lin, Hosu and Saupe, QoMEX 2019",
            licence=_RESEARCH,
            layout="dmos.csv, images/",
        ),
        markers=("dmos.csv",),
        read=kadid,
    ),
    DatabaseReader(
        facts=DatabaseFacts(
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
        markers=("csiq.DMOS.xlsx",),
        read=csiq,
    ),
    DatabaseReader(
        facts=DatabaseFacts(
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
        markers=("dmos_realigned.mat",),
        read=live,
    ),
    DatabaseReader(
        facts=DatabaseFacts(
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
        markers=("Train_Label/",),
        read=pipal,
    ),
    DatabaseReader(
        facts=DatabaseFacts(
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
        markers=(f"{FOLDER_2AFC}/",),
        read=pairs_2afc,
    ),
    DatabaseReader(
        facts=DatabaseFacts(
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
        markers=(f"{FOLDER_JND}/",),
        read=pairs_jnd,
    ),
    DatabaseReader(
        facts=DatabaseFacts(
            name="nights",
            title="NIGHTS, test part",
            higher_is="better",
            range=(0.0, 1.0),
            references=None,
            pairs=None,
            source="Fu et al., NeurIPS 2023, arXiv:2306.09344",
            licence="see the authors' repository; not to be redistributed",
            layout="data.csv, ref/, distort/",
            asked="2afc",
        ),
        markers=(TABLE,),
        read=pairs_nights,
    ),
)
"""The built-in databases; :func:`all_databases` also has registered ones."""


def _check(reader: DatabaseReader) -> None:
    """Raise PluginError unless a record can be used."""
    what = f"database {reader.name!r}"
    facts = reader.facts
    expect(facts.higher_is in HIGHER_IS, f"{what}: higher_is", "better or worse", facts.higher_is)
    expect(facts.asked in get_args(Asked), f"{what}: asked", "score, 2afc or jnd", facts.asked)
    fine = isinstance(facts.range, tuple) and len(facts.range) == 2
    fine = fine and all(isinstance(bound, int | float) for bound in facts.range)
    expect(fine, f"{what}: range", "(lowest, highest), two numbers", facts.range)
    for name in ("references", "pairs"):
        count = getattr(facts, name)
        expect(
            count is None or isinstance(count, int), f"{what}: {name}", "a number or None", count
        )
    for name in ("title", "source", "licence", "layout"):
        text = getattr(facts, name)
        expect(isinstance(text, str) and bool(text), f"{what}: {name}", "text", text)
    fine = isinstance(reader.markers, tuple) and bool(reader.markers)
    fine = fine and all(isinstance(marker, str) and marker for marker in reader.markers)
    expect(fine, f"{what}: markers", "a tuple of at least one path", reader.markers)
    expect(callable(reader.read), f"{what}: read", "a function", reader.read)


def _name(reader: DatabaseReader) -> str:
    expect(
        isinstance(reader.facts, DatabaseFacts), "database: facts", "DatabaseFacts", reader.facts
    )
    return reader.facts.name


REGISTRY: Registry[DatabaseReader] = Registry(
    "database",
    DatabaseReader,
    READERS,
    name=_name,
    check=_check,
    # The built-in ladder, and the name of all databases together in a study.
    reserved=("ladder", "pooled"),
)


def all_databases() -> tuple[DatabaseReader, ...]:
    """Return :data:`READERS` and the databases registered by plug-ins and by the user."""
    return REGISTRY.all()


def read_database(name: str, folder: str | Path, *, complete: bool = True) -> OpinionDatabase:
    """Read an opinion database from the folder that its owners publish.

    Parameters
    ----------
    name
        ``tid2008``, ``tid2013``, ``kadid10k``, ``csiq``, ``live``, ``pipal``, ``bapps_2afc``,
        ``bapps_jnd``, ``nights``, or a registered name; see :func:`all_databases`.
    folder
        The folder as downloaded and unpacked, with names in any letter case.
    complete
        Whether to refuse an incomplete database. If False, what is there is read, and ``problems``
        lists what is missing.

    Raises
    ------
    UnknownNameError
        If there is no such database.
    DatasetError
        If the database can't be read, or is incomplete; ``problems`` lists everything that is
        missing or wrong.
    """
    reader = REGISTRY.get(name)
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
        ``distortion``, ``level``, and how certain the opinion is: ``opinion_sd``, the standard
        deviation of its ratings, or ``opinion_se``, its standard error, and ``ratings``, how many
        there are. Paths are relative to the file.
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
            f"{path}: no column {opinion} of opinions; the columns besides reference and distorted "
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
            noise = noise_of({name: row.carried[name] for name in row.carried if name != opinion})
            if isinstance(noise, str):
                problems.append(Problem("opinion", where, noise))
            else:
                pairs.append(OpinionPair(reference, distorted, value, kind, level, *noise))
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
