"""A study's tables: read, checked, and questions about all of them together."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from iqa_metrics.report import wording
from iqa_metrics.study.agreement_rows import ByDistortion, Ceiling, Krasula, Significance
from iqa_metrics.study.description import (
    DESCRIPTION,
    DescribedBaseline,
    DescribedDatabase,
    DescribedNetwork,
    Description,
)
from iqa_metrics.study.rows import (
    FILES,
    POOLED,
    Claim,
    Compared,
    Correlation,
    Judgement,
    Model,
    Row,
    TableError,
    Winner,
    read_rows,
)
from iqa_metrics.study.settings import Statistics

ONE = "one observer"


class ReportError(TableError):
    """A study whose tables can't be read, or from which no report can be made."""


@dataclass(frozen=True)
class Agreement:
    """A correlation whose sign was chosen so that positive means agreement, and its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Study:
    """All tables of a study except for the distances, which are read one series at a time."""

    folder: Path
    description: Description
    correlations: tuple[Correlation, ...] = field(repr=False)
    models: tuple[Model, ...] = field(repr=False)
    comparisons: tuple[Compared, ...] = field(repr=False)
    claims: tuple[Claim, ...] = field(repr=False)
    judgements: tuple[Judgement, ...] = field(default=(), repr=False)
    winners: tuple[Winner, ...] = field(default=(), repr=False)
    ceilings: tuple[Ceiling, ...] = field(default=(), repr=False)
    by_distortion: tuple[ByDistortion, ...] = field(default=(), repr=False)
    significance: tuple[Significance, ...] = field(default=(), repr=False)
    krasula: tuple[Krasula, ...] = field(default=(), repr=False)

    @property
    def title(self) -> str:
        """The report's title."""
        return self.description.title

    @property
    def made_with(self) -> Mapping[str, str]:
        """The versions of the software that made the study."""
        return self.description.made_with

    @property
    def settings(self) -> Statistics:
        """The study's statistical settings."""
        return self.description.statistics

    @property
    def plain(self) -> str:
        """The readout that the others are compared with."""
        return self.description.plain

    @property
    def databases(self) -> tuple[DescribedDatabase, ...]:
        """The study's databases."""
        return self.description.databases

    @property
    def backbones(self) -> tuple[DescribedNetwork, ...]:
        """The study's backbones, including untrained controls."""
        return self.description.backbones

    @property
    def baselines(self) -> tuple[DescribedBaseline, ...]:
        """The metrics that the backbones are compared with."""
        return self.description.baselines

    def main(self, rows: Sequence[Correlation | Model | Compared | Claim | Winner]) -> list[str]:
        """Return the databases to report: the pooled one if there are rows of it, else all."""
        there = {row.database for row in rows}
        if POOLED in there:
            return [POOLED]
        return [one.name for one in self.databases if one.name in there]

    def file_name(self, database: str) -> str:
        """Return a database's part of a file name, which is unique among the databases."""
        names = [POOLED, *(one.name for one in self.databases)]
        plain = [re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-") for name in names]
        place = names.index(database)
        name = plain[place]
        return name if name and plain.index(name) == place else f"{name}.{place}"

    def label(self, database: str) -> str:
        """Return a database's name on the page."""
        if database == POOLED:
            return "all databases, pooled"
        titles = [one.title for one in self.databases]
        title = next((one.title for one in self.databases if one.name == database), database)
        return f"{title} ({database})" if titles.count(title) > 1 else title

    def heading(self, database: str) -> str:
        """Return a database's name for the beginning of a line."""
        label = self.label(database)
        return wording.capital(label) if database == POOLED else label

    def ceiling(self, database: str) -> Ceiling | None:
        """Return the noise ceiling of a database's SROCC, or None if it is unknown.

        It is how well one observer agrees with the mean opinion, as it is usually published or, if
        only that is known, how well the mean of several does.
        """
        known = [
            one
            for one in self.ceilings
            if (one.database, one.measure) == (database, "srocc") and math.isfinite(one.value)
        ]
        return next((one for one in known if one.what == ONE), next(iter(known), None))

    def uncertain(self, database: str) -> str:
        """Return why a database's values have no intervals; empty if they have."""
        rows = [row for row in self.models if row.database == database]
        if not rows or any(math.isfinite(row.last_low) for row in rows):
            return ""
        said = (row.why for row in self.winners if row.database == database and row.why)
        return next(said, "none could be computed")

    def is_baseline(self, name: str) -> bool:
        """Return whether a name in the column ``backbone`` is that of a baseline."""
        return any(one.name == name for one in self.baselines)

    def backbone(self, name: str) -> DescribedNetwork | None:
        """Return the record of a backbone, or None if study.json has none of that name."""
        return next((one for one in self.backbones if one.name == name), None)

    def agreement(self, row: Correlation) -> Agreement:
        """Return a row's SROCC with the sign chosen so that positive means agreement."""
        # In a pooled row, opinions were reversed where needed so that higher is worse.
        worse = row.database == POOLED or any(
            one.name == row.database and one.higher_is == "worse" for one in self.databases
        )
        better = any(one.name == row.backbone and one.higher_is_better for one in self.baselines)
        if worse != better:
            return Agreement(row.srocc, row.srocc_low, row.srocc_high)
        return Agreement(-row.srocc, -row.srocc_high, -row.srocc_low)


def read_study(folder: Path) -> Study:
    """Read and check the tables of a study.

    Parameters
    ----------
    folder
        The folder of study.json and the CSV files.

    Raises
    ------
    ReportError
        If a table is missing or invalid; the message names the file and the column.
    """
    try:
        return Study(
            folder=folder,
            description=Description.read(folder / DESCRIPTION),
            correlations=read_rows(folder, Correlation),
            models=read_rows(folder, Model),
            comparisons=read_rows(folder, Compared),
            claims=read_rows(folder, Claim),
            judgements=_optional(folder, Judgement),
            winners=_optional(folder, Winner),
            ceilings=_optional(folder, Ceiling),
            by_distortion=_optional(folder, ByDistortion),
            significance=_optional(folder, Significance),
            krasula=_optional(folder, Krasula),
        )
    except TableError as error:
        raise ReportError(str(error)) from error


def _optional(folder: Path, kind: type[Row]) -> tuple[Row, ...]:
    return read_rows(folder, kind) if (folder / FILES[kind]).exists() else ()
