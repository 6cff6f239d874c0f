"""A study's tables: read, checked, and what can be asked of all of them together."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from iqa_metrics.report import wording
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
    TableError,
    read_rows,
)
from iqa_metrics.study.settings import Statistics


class ReportError(TableError):
    """A study whose tables can't be read, or a report that can't be made from them."""


@dataclass(frozen=True)
class Agreement:
    """A correlation turned so that positive is agreement with people, and its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Study:
    """All tables of a study, but for the distances, of which only a series is ever read."""

    folder: Path
    description: Description
    correlations: tuple[Correlation, ...] = field(repr=False)
    models: tuple[Model, ...] = field(repr=False)
    comparisons: tuple[Compared, ...] = field(repr=False)
    claims: tuple[Claim, ...] = field(repr=False)
    judgements: tuple[Judgement, ...] = field(default=(), repr=False)

    @property
    def title(self) -> str:
        """What the report is called."""
        return self.description.title

    @property
    def made_with(self) -> Mapping[str, str]:
        """Releases of what made it."""
        return self.description.made_with

    @property
    def settings(self) -> Statistics:
        """How sure it was asked to be."""
        return self.description.statistics

    @property
    def plain(self) -> str:
        """The readout that others are compared with."""
        return self.description.plain

    @property
    def databases(self) -> tuple[DescribedDatabase, ...]:
        """Its databases."""
        return self.description.databases

    @property
    def backbones(self) -> tuple[DescribedNetwork, ...]:
        """Its networks."""
        return self.description.backbones

    @property
    def baselines(self) -> tuple[DescribedBaseline, ...]:
        """The metrics that they are compared with."""
        return self.description.baselines

    def main(self, rows: Sequence[Correlation | Model | Compared | Claim]) -> list[str]:
        """Return the databases to speak of: the pooled one where the rows have it, else each."""
        there = {row.database for row in rows}
        if POOLED in there:
            return [POOLED]
        return [one.name for one in self.databases if one.name in there]

    def file_name(self, database: str) -> str:
        """Return a database's part of a file's name, which no other database has."""
        names = [POOLED, *(one.name for one in self.databases)]
        plain = [re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-") for name in names]
        place = names.index(database)
        name = plain[place]
        return name if name and plain.index(name) == place else f"{name}.{place}"

    def label(self, database: str) -> str:
        """Return what the page calls a database."""
        if database == POOLED:
            return "all databases, pooled"
        titles = [one.title for one in self.databases]
        title = next((one.title for one in self.databases if one.name == database), database)
        return f"{title} ({database})" if titles.count(title) > 1 else title

    def heading(self, database: str) -> str:
        """Return the same to begin a line with."""
        label = self.label(database)
        return wording.capital(label) if database == POOLED else label

    def is_baseline(self, name: str) -> bool:
        """Return whether a name in a column ``backbone`` is a baseline's."""
        return any(one.name == name for one in self.baselines)

    def backbone(self, name: str) -> DescribedNetwork | None:
        """Return the record of a network, or None where study.json has none of that name."""
        return next((one for one in self.backbones if one.name == name), None)

    def agreement(self, row: Correlation) -> Agreement:
        """Turn a row's SROCC so that positive is agreement with people."""
        # A pooled row is of opinions that were turned so that higher is worse.
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
        Where study.json and the CSV files lie.

    Raises
    ------
    ReportError
        If a table is missing or is not what it should be; the message says which file and column.
    """
    try:
        return Study(
            folder,
            Description.read(folder / DESCRIPTION),
            *(read_rows(folder, Correlation), read_rows(folder, Model)),
            *(read_rows(folder, Compared), read_rows(folder, Claim)),
            read_rows(folder, Judgement) if (folder / FILES[Judgement]).exists() else (),
        )
    except TableError as error:
        raise ReportError(str(error)) from error
