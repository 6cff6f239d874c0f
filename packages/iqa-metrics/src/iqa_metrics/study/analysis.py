"""Compute all other tables of a study from its table of distances."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from iqa_metrics.study.agreement_rows import ByDistortion, Ceiling, Krasula, Significance
from iqa_metrics.study.by_distortion import by_distortion
from iqa_metrics.study.ceilings import ceilings
from iqa_metrics.study.claims import claims
from iqa_metrics.study.comparisons import Comparer, compared
from iqa_metrics.study.concatenated import concatenated
from iqa_metrics.study.correlations import Judged, correlations
from iqa_metrics.study.description import DESCRIPTION, Description, DescriptionError
from iqa_metrics.study.distances import DISTANCES, Measured, read_distances
from iqa_metrics.study.judgements import judgements
from iqa_metrics.study.krasula import krasula
from iqa_metrics.study.models import models, winners
from iqa_metrics.study.rows import (
    FILES,
    POOLED,
    Claim,
    Compared,
    Correlation,
    Judgement,
    Model,
    Winner,
    write_rows,
)
from iqa_metrics.study.scopes import scopes
from iqa_metrics.study.significance import significance


@dataclass(frozen=True)
class Analysis:
    """The results of a study.

    Attributes
    ----------
    correlations, models, comparisons, claims, winners
        The rows of the tables with these names.
    judgements
        The rows for databases with 2AFC or JND judgements, which are in no other table.
    ceilings, by_distortion, significance, krasula
        The rows of the tables with these names.
    left_out
        For each database, the series that failed too often to be compared.
    """

    correlations: Sequence[Correlation]
    models: Sequence[Model]
    comparisons: Sequence[Compared]
    claims: Sequence[Claim]
    winners: Sequence[Winner] = ()
    judgements: Sequence[Judgement] = ()
    ceilings: Sequence[Ceiling] = ()
    by_distortion: Sequence[ByDistortion] = ()
    significance: Sequence[Significance] = ()
    krasula: Sequence[Krasula] = ()
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)


def analyse(
    folder: str | Path,
    progress: Callable[[int, int], None] | None = None,
    *,
    higher_is: str | None = None,
) -> Analysis:
    """Compute a study's statistics from its distances, and write them to the same folder.

    Parameters
    ----------
    folder
        The folder with ``distances.parquet`` and ``study.json``. ``correlations.csv``,
        ``models.csv``, ``comparisons.csv``, ``claims.csv``, ``winners.csv``, ``ceilings.csv``,
        ``by_distortion.csv``, ``significance.csv`` and ``krasula.csv`` are written to it, and
        ``judgements.csv`` if a database has 2AFC or JND judgements.
    progress
        Called with the number of groups of series that have been correlated, and the total.
    higher_is
        Whether a higher opinion score means a ``better`` or ``worse`` image. It is needed only if
        there is no ``study.json``; one is then written with what the names of backbones and metrics
        imply.

    Raises
    ------
    DescriptionError, DistancesError
        If one of the two files can't be used, or if they do not belong together.
    """
    root = Path(folder)
    if higher_is is not None and not (root / DESCRIPTION).exists():
        # The table was made elsewhere. Describing it looks up backbones, which imports torch.
        from iqa_metrics.study.facts import description_of

        measured = read_distances(root / DISTANCES)
        description_of(measured, higher_is).write(root / DESCRIPTION)
    else:
        Description.read(root / DESCRIPTION)  # fail early: the distances take longer to read
        measured = read_distances(root / DISTANCES)
    description = Description.read(root / DESCRIPTION)
    known = {one.name: one.higher_is for one in description.databases}
    if POOLED in known:
        raise DescriptionError(
            f"{root / DESCRIPTION}: a database can't be called {POOLED!r}, which stands for all "
            "databases together"
        )
    unknown = [name for name in measured if name not in known]
    if unknown:
        raise DescriptionError(
            f"{root / DESCRIPTION} describes {', '.join(known)}, but {DISTANCES} also holds "
            f"{', '.join(unknown)}"
        )
    settings = description.statistics
    described = {one.name: one for one in description.databases}
    whole = {
        name: concatenated(_with_depths(one, description), description.concatenations)
        for name, one in measured.items()
    }
    judged = {
        name: Judged(one, settings, settings.seed + at, opinion=described[name].opinion)
        for at, (name, one) in enumerate(whole.items())
        if described[name].asked == "score"
    }
    found = correlations(judged, known, progress)
    comparers = [Comparer(scope) for scope in scopes(judged, description)]
    analysis = Analysis(
        correlations=found,
        models=[row for one in comparers for row in models(one.scope, one.best)],
        comparisons=[row for one in comparers for row in compared(one)],
        claims=[row for one in comparers for row in claims(one)],
        winners=[row for one in comparers for row in winners(one.scope)],
        judgements=[
            row
            for name, one in whole.items()
            if name not in judged
            for row in judgements(one, described[name], description)
        ],
        ceilings=[
            row for name, one in judged.items() if one.opinion for row in ceilings(name, one)
        ],
        by_distortion=[row for one in comparers for row in by_distortion(one, judged, known)],
        significance=[row for one in comparers for row in significance(one, judged, known)],
        krasula=[row for one in comparers for row in krasula(one, judged, known)],
        left_out={
            one.scope.name: [series.name for series in one.scope.left_out]
            for one in comparers
            if one.scope.left_out
        },
    )
    write_rows(root, Correlation, analysis.correlations)
    write_rows(root, Model, analysis.models)
    write_rows(root, Compared, analysis.comparisons)
    write_rows(root, Claim, analysis.claims)
    write_rows(root, Winner, analysis.winners)
    write_rows(root, Ceiling, analysis.ceilings)
    write_rows(root, ByDistortion, analysis.by_distortion)
    write_rows(root, Significance, analysis.significance)
    write_rows(root, Krasula, analysis.krasula)
    if analysis.judgements:
        write_rows(root, Judgement, analysis.judgements)
    else:
        (root / FILES[Judgement]).unlink(missing_ok=True)
    return analysis


def _with_depths(measured: Measured, description: Description) -> Measured:
    """Fill in missing depths from the description, for a table that was made elsewhere."""
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
