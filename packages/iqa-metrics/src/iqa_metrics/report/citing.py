"""How to cite a study: BibTeX of the software, of the papers and of the databases that it used."""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from iqa_metrics.report import bibliography
from iqa_metrics.report.tables import Study


@dataclass(frozen=True)
class Citing:
    """What to cite.

    Attributes
    ----------
    bibtex
        The entries.
    without
        The databases of which no entry is known, each with the source that its record states.
    """

    bibtex: str
    without: tuple[tuple[str, str], ...]


def citing(study: Study) -> Citing:
    """Return the entries of a study, each once."""
    entries = [bibliography.software(_version(study)), *bibliography.PAPERS]
    without = []
    for one in study.databases:
        entry = bibliography.DATABASES.get(one.source)
        if entry is None:
            without.append((study.label(one.name), one.source))
        else:
            entries.append(entry)
    unique = {entry.key: entry.bibtex() for entry in entries}
    return Citing("\n\n".join(unique.values()) + "\n", tuple(without))


def _version(study: Study) -> str:
    """Return the version that made the study or, if it is unknown, the one that reports it."""
    made = study.made_with.get("iqa_metrics", "")
    if made:
        return made
    try:
        return version("iqa-metrics")
    except PackageNotFoundError:  # it was not installed, only put on the path
        return "unknown"
