"""The page's first sentences: what was measured, what did best, and what to beware of."""

import math
from collections.abc import Sequence

from iqa_metrics.report import wording
from iqa_metrics.report.ranking import SAME_IMAGES
from iqa_metrics.report.tables import Study
from iqa_metrics.study.rows import (
    CONTRADICTED,
    NOT_TESTED,
    POOLED,
    SUPPORTED,
    UNDECIDED,
    Winner,
)

VERDICTS = (SUPPORTED, CONTRADICTED, UNDECIDED, NOT_TESTED)
FEW_REFERENCES = 10
_GROUPS = {
    "backbones": (
        "series of an untuned backbone, a layer and a readout",
        "series of untuned backbones, layers and readouts",
    ),
    "baselines": ("baseline that was not tuned", "baselines that were not tuned"),
    "tuned": (
        "series that was tuned on human ratings or learned from the scores",
        "series that were tuned on human ratings or learned from the scores",
    ),
}


def warnings(study: Study) -> list[str]:
    """Return what a reader must know before believing any number."""
    found = []
    severity = [one for one in study.databases if not one.opinion]
    if severity:
        names = wording.listed([study.label(one.name) for one in severity])
        found.append(
            f"There are no human ratings for {names}: the scores state how severe a distortion was "
            "made, not what people saw. Agreement with them shows how well a metric ranks the "
            "severities of one kind of distortion. It shows nothing about how people weigh one "
            "kind against another."
        )
    for one in study.databases:
        images = wording.counted(one.references, "reference image")
        if why := study.uncertain(one.name):
            found.append(f"{study.label(one.name)} has no intervals: {why}.")
        elif one.references < FEW_REFERENCES:
            found.append(f"{study.label(one.name)} has only {images}: its intervals are rough.")
    return found


def summary(study: Study) -> list[str]:
    """Return a few sentences about what was measured and what was found."""
    trained = [one for one in study.backbones if one.trained]
    controls = len(study.backbones) - len(trained)
    layers = sum(len(one.layers) for one in trained)
    pairs, references = (
        sum(one.pairs for one in study.databases),
        sum(one.references for one in study.databases),
    )
    return [
        f"{wording.counted(len(trained), 'trained backbone')} with "
        f"{wording.counted(layers, 'layer')}"
        + (f", {wording.counted(controls, 'untrained control')}" if controls else "")
        + f" and {wording.counted(len(study.baselines), 'baseline')} were measured on "
        f"{wording.counted(pairs, 'pair')} of {wording.counted(references, 'reference image')} in "
        f"{wording.counted(len(study.databases), 'database')}.",
        *_won(study),
        *_judged(study),
        *_claimed(study),
    ]


def _won(study: Study) -> list[str]:
    """Return the sentences about the best of each group, for each main database."""
    if study.models and not study.winners:
        return [
            "What does best was not determined: this study has no winners.csv. Run 'iqa study "
            "analyse' on its folder."
        ]
    found = []
    for database in study.main(study.winners):
        rows = {row.among: row for row in study.winners if row.database == database}
        there = [rows[among] for among in _GROUPS if among in rows]
        sentences = [_best(study, row, row is there[0]) for row in there]
        if "backbones" in rows and not study.baselines:
            sentences.append("No baselines were measured.")
        found.append(f"On {study.label(database)}, {' '.join(sentences)}")
    return found


def _best(study: Study, row: Winner, first: bool) -> str:
    one, many = _GROUPS[row.among]
    name = ":".join(part for part in (row.backbone, row.layer, row.readout) if part)
    if row.candidates == 1:
        # Nothing was chosen.
        value = f"{wording.number(row.best)}{wording.bracketed(row.low, row.high)}"
        return f"{'the' if first else 'The'} only {one}, {name}, reaches {value}."
    among = f"{'the' if first else 'The'} best of {wording.counted(row.candidates, one, many)}"
    if not math.isfinite(row.held_out):
        if not first:
            return f"{among}, {name}, reaches {wording.number(row.best)}, judged in the same way."
        why = f", because {row.why}" if row.why else ""
        return f"{among} is {name} with {wording.number(row.best)}, {SAME_IMAGES}{why}."
    value = f"{wording.number(row.held_out)}{wording.bracketed(row.low, row.high)}"
    if row.why:
        value += f" (no interval: {row.why})"
    if not first:
        return f"{among}, {name}, reaches {value}, judged in the same way."
    part = "database" if row.database == POOLED else "reference image"
    return (
        f"{among} is {name}; judged on {part}s that the choice did not see, the agreement "
        f"is {value}." + _stable(row, part)
    )


def _stable(row: Winner, part: str) -> str:
    if not math.isfinite(row.stability):
        return ""
    if row.stability == 1:
        return f" Whichever {part} is left out, the choice is the same."
    return f" It is the choice for {100 * row.stability:.0f} % of the {part}s that are left out."


def _claimed(study: Study) -> list[str]:
    found = []
    told = study.main(study.claims)
    for database in told:
        of = [one for one in study.claims if one.database == database]
        counts = [(sum(one.verdict == verdict for one in of), verdict) for verdict in VERDICTS]
        where = f" on {study.label(database)}" if len(told) > 1 or database == POOLED else ""
        found.append(
            f"Of {wording.counted(len(of), 'claim')}{where}, {wording.listed(_tallied(counts))}."
        )
    return found


def _tallied(counts: Sequence[tuple[int, str]]) -> list[str]:
    """Return how many claims have each verdict, in words; all may have been tested."""
    found = []
    for many, verdict in counts:
        if verdict != NOT_TESTED:
            found.append(f"{many or 'none'} {'are' if many > 1 else 'is'} {verdict}")
        elif many:
            found.append(f"{many} {'were' if many > 1 else 'was'} {verdict}")
    return found


def _judged(study: Study) -> list[str]:
    """Return a sentence per database of 2AFC or JND judgements about what does best there."""
    found = []
    for database in dict.fromkeys(row.database for row in study.judgements):
        best = max(
            (row for row in study.judgements if row.database == database and not row.distortion),
            key=lambda row: -1.0 if row.agreement != row.agreement else row.agreement,
        )
        what = "share of observers agreed with" if best.measure == "2afc" else "average precision"
        name = ":".join(part for part in (best.backbone, best.layer, best.readout) if part)
        found.append(
            f"On {study.label(database)}, {name} does best, {SAME_IMAGES}: {what} "
            f"{wording.number(best.agreement)}{wording.bracketed(best.low, best.high)}."
        )
    return found
