"""``by_distortion.csv``: each backbone and the best baseline, on each kind of distortion."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from iqa_metrics import statistics
from iqa_metrics.study.agreement_rows import ByDistortion
from iqa_metrics.study.comparisons import Comparer, verdict_of
from iqa_metrics.study.contenders import Contender, contenders
from iqa_metrics.study.correlations import Judged


def by_distortion(
    comparer: Comparer, judged: Mapping[str, Judged], higher_is: Mapping[str, str]
) -> list[ByDistortion]:
    """Return a row for each backbone and kind of distortion of a database.

    There are none for all databases together, where there is one kind only, or no baseline. Layers
    and the baseline are those that agree best on all of the database; per kind, nothing is
    selected.
    """
    scope, settings = comparer.scope, comparer.scope.description.statistics
    one = judged.get(scope.name)
    found = contenders(comparer)
    baselines = [c for c in found if not c.selected]
    backbones = [c for c in found if c.selected]
    if one is None or not baselines or not backbones:
        return []
    best = max(baselines, key=lambda c: float(c.agreement.value))
    labels = np.asarray(one.measured.pairs.distortions)
    kinds = [kind for kind in dict.fromkeys(labels.tolist()) if kind]
    if len(kinds) < 2:
        return []
    rows = []
    for kind in kinds:
        rows += _of_kind(kind, best, backbones, one, comparer, higher_is[scope.name])
    corrected = statistics.holm(row.p for row in rows).tolist()
    return [
        replace(
            row,
            p_corrected=p,
            verdict=verdict_of(row.difference, row.low, row.high, p, settings),
        )
        for row, p in zip(rows, corrected, strict=True)
    ]


def _of_kind(
    kind: str,
    best: Contender,
    backbones: list[Contender],
    judged: Judged,
    comparer: Comparer,
    higher_is: str,
) -> list[ByDistortion]:
    measured, settings = judged.measured, comparer.scope.description.statistics
    all_of_them = [best, *backbones]
    places = {one: at for at, one in enumerate(measured.series)}
    rows = [places[one.series] for one in all_of_them]
    pairs = judged.there[rows].all(axis=0) & (np.asarray(measured.pairs.distortions) == kind)
    drawn = judged.replicates(rows, pairs, keep=False)
    if drawn is None:
        return []
    worse = 1.0 if higher_is == "worse" else -1.0
    drawn = drawn * np.array([-worse if one.similar else worse for one in all_of_them])
    references = judged.references(pairs)
    found = []
    for at, backbone in enumerate(backbones, start=1):
        apart = drawn[at] - drawn[0]
        none = np.full_like(apart.value, np.nan)
        got = statistics.Interval(apart.value, none, none, none, 0)
        if references >= statistics.FEWEST_REFERENCES:
            got = apart.student_interval(references, settings.confidence)
        found.append(
            ByDistortion(
                database=comparer.scope.name,
                distortion=kind,
                backbone=backbone.name,
                layer=backbone.series.layer,
                readout=backbone.series.readout,
                baseline=best.name,
                n=int(pairs.sum()),
                references=references,
                difference=float(got.value),
                low=float(got.low),
                high=float(got.high),
                p=float(got.p),
                p_corrected=np.nan,
                verdict="",
            )
        )
    return found
