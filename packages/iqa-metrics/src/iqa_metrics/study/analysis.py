"""From the table of distances to every other table of a study."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from iqa_metrics.study.claims import claims
from iqa_metrics.study.comparisons import Comparer, compared
from iqa_metrics.study.concatenated import concatenated
from iqa_metrics.study.correlations import Judged, correlations
from iqa_metrics.study.description import DESCRIPTION, Description, DescriptionError
from iqa_metrics.study.distances import DISTANCES, Measured, read_distances
from iqa_metrics.study.judgements import judgements
from iqa_metrics.study.models import models
from iqa_metrics.study.rows import (
    FILES,
    POOLED,
    Claim,
    Compared,
    Correlation,
    Judgement,
    Model,
    write_rows,
)
from iqa_metrics.study.scopes import scopes


@dataclass(frozen=True)
class Analysis:
    """What a study found.

    Attributes
    ----------
    correlations, models, comparisons, claims
        The rows of the tables of these names.
    judgements
        Of databases in which people chose or compared; they are in no other table.
    left_out
        Databases to series that failed so often that they are in no comparison.
    """

    correlations: Sequence[Correlation]
    models: Sequence[Model]
    comparisons: Sequence[Compared]
    claims: Sequence[Claim]
    judgements: Sequence[Judgement] = ()
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)


def analyse(
    folder: str | Path,
    progress: Callable[[int, int], None] | None = None,
    *,
    higher_is: str | None = None,
) -> Analysis:
    """Compute a study's statistics from its distances, and write them beside these.

    Parameters
    ----------
    folder
        Where ``distances.parquet`` and ``study.json`` are; ``correlations.csv``, ``models.csv``,
        ``comparisons.csv`` and ``claims.csv`` are written, and ``judgements.csv`` where people
        chose or compared.
    progress
        Is told how many groups of series were correlated, and of how many.
    higher_is
        What a higher opinion means, ``better`` or ``worse``, where there is no ``study.json``: then
        one is written, of what the names of networks and metrics say.

    Raises
    ------
    DescriptionError, DistancesError
        If one of the two can't be used, or they do not belong together.
    """
    root = Path(folder)
    if higher_is is not None and not (root / DESCRIPTION).exists():
        # A table that was made elsewhere; what describes it knows networks, and so torch.
        from iqa_metrics.study.facts import description_of

        measured = read_distances(root / DISTANCES)
        description_of(measured, higher_is).write(root / DESCRIPTION)
    else:
        Description.read(root / DESCRIPTION)  # before what takes longer
        measured = read_distances(root / DISTANCES)
    description = Description.read(root / DESCRIPTION)
    known = {one.name: one.higher_is for one in description.databases}
    if POOLED in known:
        raise DescriptionError(f"{root / DESCRIPTION}: no database can be called {POOLED}")
    strange = [name for name in measured if name not in known]
    if strange:
        raise DescriptionError(
            f"{root / DESCRIPTION} describes {', '.join(known)}, and {DISTANCES} holds "
            f"{', '.join(strange)}"
        )
    settings = description.statistics
    described = {one.name: one for one in description.databases}
    whole = {
        name: concatenated(_with_depths(one, description), description.concatenations)
        for name, one in measured.items()
    }
    judged = {
        name: Judged(one, settings, settings.seed + at)
        for at, (name, one) in enumerate(whole.items())
        if described[name].asked == "score"
    }
    found = correlations(judged, known, progress)
    comparers = [Comparer(scope) for scope in scopes(judged, description)]
    analysis = Analysis(
        found,
        [row for one in comparers for row in models(one.scope)],
        [row for one in comparers for row in compared(one)],
        [row for one in comparers for row in claims(one)],
        [
            row
            for name, one in whole.items()
            if name not in judged
            for row in judgements(one, described[name], description)
        ],
        {
            one.scope.name: [series.name for series in one.scope.left_out]
            for one in comparers
            if one.scope.left_out
        },
    )
    write_rows(root, Correlation, analysis.correlations)
    write_rows(root, Model, analysis.models)
    write_rows(root, Compared, analysis.comparisons)
    write_rows(root, Claim, analysis.claims)
    if analysis.judgements:
        write_rows(root, Judgement, analysis.judgements)
    else:
        (root / FILES[Judgement]).unlink(missing_ok=True)
    return analysis


def _with_depths(measured: Measured, description: Description) -> Measured:
    """Take depths that a table from elsewhere lacks from the description."""
    depths = {
        (network.name, layer.name): layer.depth
        for network in description.backbones
        for layer in network.layers
    }
    series = tuple(
        replace(one, depth=depths.get((one.backbone, one.layer), one.depth))
        if one.depth != one.depth
        else one
        for one in measured.series
    )
    return replace(measured, series=series)
