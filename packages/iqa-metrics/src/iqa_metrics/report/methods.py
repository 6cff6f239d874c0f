"""The methods text: what this run did, from its description, its tables and the code's names."""

from collections.abc import Sequence

from iqa_metrics.report import wording
from iqa_metrics.report.tables import Study
from iqa_metrics.study import procedures
from iqa_metrics.study.description import DescribedDatabase
from iqa_metrics.study.rows import NOT_TESTED, POOLED, SAME

_NAMED = 12
"""Networks that are named one by one; more are only counted."""


def paragraphs(study: Study) -> list[str]:
    """Return the methods text, ready for a paper."""
    return [
        " ".join(part for part in parts if part)
        for parts in (
            (_data(study), _networks(study), _baselines(study)),
            (_agreement(study), _selection(study), _intervals(study), _differences(study)),
            (_claims(study), _failures(study), _software(study)),
        )
    ]


def _data(study: Study) -> str:
    pairs, references = (
        sum(one.pairs for one in study.databases),
        sum(one.references for one in study.databases),
    )
    each = [
        f"{study.label(one.name)} ({wording.counted(one.pairs, 'pair')} of "
        f"{wording.counted(one.references, 'reference image')}; {_scores(one)})"
        for one in study.databases
    ]
    return (
        f"We measured {wording.counted(pairs, 'pair')} of distorted and reference images, with "
        f"{wording.counted(references, 'reference image')}, from {wording.listed(each)}."
    )


def _scores(one: DescribedDatabase) -> str:
    if one.asked == "2afc":
        return "2AFC judgements"
    if one.asked == "jnd":
        return "JND judgements"
    what = "human ratings" if one.opinion else "severities of distortions, no human ratings"
    return f"{what}, higher is {one.higher_is}"


def _networks(study: Study) -> str:
    if not study.backbones:
        return ""
    trained = [one for one in study.backbones if one.trained]
    controls = len(study.backbones) - len(trained)
    names = [one.name for one in trained]
    counts = sorted({len(one.layers) for one in study.backbones})
    layers = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    readouts = study.description.readouts
    concatenated = study.description.concatenations
    return (
        f"Distances were computed in {wording.counted(len(trained), 'trained network')}"
        + (f" ({', '.join(names)})" if 0 < len(names) <= _NAMED else "")
        + (
            f" and {wording.counted(controls, 'untrained control')} of the same architectures with "
            "random weights"
            if controls
            else ""
        )
        + f", at {layers} {'layer' if layers == '1' else 'layers'} each, with the "
        f"{'readout' if len(readouts) == 1 else 'readouts'} {wording.listed(readouts)}"
        + (
            f" and the {'concatenation' if len(concatenated) == 1 else 'concatenations'} "
            f"{wording.listed(concatenated)}"
            if concatenated
            else ""
        )
        + "."
    )


def _baselines(study: Study) -> str:
    def named(tuned: bool) -> str:
        return wording.listed([one.name for one in study.baselines if one.tuned == tuned])

    if not study.baselines:
        return "No baseline metrics were measured."
    parts = [
        *([f"{named(False)}, not tuned on human ratings"] if named(False) else []),
        *([f"{named(True)}, tuned on human ratings"] if named(True) else []),
    ]
    count = wording.counted(len(study.baselines), "baseline metric")
    return f"They were compared with {count}: {'; '.join(parts)}."


def _agreement(study: Study) -> str:
    severity = [study.label(one.name) for one in study.databases if not one.opinion]
    return (
        f"Agreement is {procedures.AGREEMENT.name} between a metric's values and the scores, with "
        "its sign chosen so that positive means agreement."
        + (
            f" On {wording.listed(severity)}, whose severities can't be compared between kinds of "
            "distortion, it is the mean of SROCC within each kind and reference image."
            if severity
            else ""
        )
    )


def _selection(study: Study) -> str:
    if not any(row.layers for row in study.models):
        return ""
    uncertain = [name for name in _scored(study) if study.uncertain(name)]
    several = any(row.database == POOLED for row in study.winners)
    if len(uncertain) == len(_scored(study)):
        return (
            "There were too few reference images to hold any out, so the best layers were chosen "
            "and judged on the same images."
        )
    return (
        f"The best of several layers was chosen by {procedures.HELD_OUT_REFERENCES}: each "
        "reference image was judged by the layer that agrees best on all other reference images. "
        "The best of all networks, layers and readouts was chosen in the same way. The held-out "
        "agreement is the mean over reference images of the contribution of each to the SROCC of "
        f"the series that was chosen without it, its {procedures.CONTRIBUTIONS}. Every bootstrap "
        "replicate chooses again."
        + (
            " For all databases together, whole databases were left out "
            f"({procedures.HELD_OUT_DATABASES})."
            if several
            else ""
        )
    )


def _intervals(study: Study) -> str:
    settings = study.settings
    without = [study.label(name) for name in _scored(study) if study.uncertain(name)]
    if without and len(without) == len(_scored(study)):
        return "No intervals were computed, for the same reason."
    return (
        f"{100 * settings.confidence:g} % intervals of agreement are {procedures.VALUES.name}: "
        f"{wording.counted(settings.draws, 'replicate')} (seed {settings.seed}"
        + (", one more for each further database" if len(study.databases) > 1 else "")
        + "), each of which "
        "resamples reference images with all of their pairs."
        + (
            f" There are none for {wording.listed(without)}, with too few reference images."
            if without
            else ""
        )
    )


def _differences(study: Study) -> str:
    if not study.comparisons:
        return ""
    if not any(row.p == row.p for row in study.comparisons):
        return "Differences in agreement were computed on the same pairs."
    settings = study.settings
    families: dict[tuple[str, str], int] = {}
    for row in study.comparisons:
        if row.p == row.p:
            key = (row.question, row.database)
            families[key] = families.get(key, 0) + 1
    sizes = sorted(families.values())
    size = "" if not sizes else f"{sizes[0]}" if sizes[0] == sizes[-1] else (
        f"{sizes[0]} to {sizes[-1]}"
    )  # fmt: skip
    pooled = any(row.database == POOLED for row in study.comparisons)
    return (
        "Differences in agreement were computed on the same pairs and replicates; the replicates "
        f"give the standard error, and {procedures.DIFFERENCES.name} "
        f"({procedures.DIFFERENCES.source}), gives the interval and the p-value."
        + (" For several databases together, R − 1 is the sum over them." if pooled else "")
        + (
            f" P-values were corrected by {procedures.FAMILIES.name} "
            f"({procedures.FAMILIES.source}) in "
            f"{wording.counted(len(families), 'family', 'families')}, one per question and "
            f"database, of {size} comparisons, at the level {1 - settings.confidence:.2g}."
            if families
            else ""
        )
        + f" Two agreements count as the {SAME} if the whole interval of their difference lies "
        f"within ±{settings.margin:g}."
        + (
            f" Agreements on several databases were averaged by {procedures.POOLING.name} "
            f"({procedures.POOLING.source})."
            if pooled
            else ""
        )
    )


def _claims(study: Study) -> str:
    main = study.main(study.claims)
    claims = [one for one in study.claims if one.database in main]
    if not claims:
        return ""
    without = sum(one.verdict == NOT_TESTED for one in claims)
    return (
        f"{wording.counted(len(claims), 'claim')} about such models "
        f"{'were' if len(claims) > 1 else 'was'} examined"
        + (f", of which {without} could not be tested on these data" if without else "")
        + "."
    )


def _failures(study: Study) -> str:
    failed = [
        f"{wording.counted(one.failed, 'pair')} of {study.label(one.name)}"
        for one in study.databases
        if one.failed
    ]
    left_out = _left_out(study)
    return (
        f"{wording.listed(failed)} failed in at least one network or metric and were left out "
        "where they have no value."
        if failed
        else "No pair failed."
    ) + (
        f" Left out of the comparisons, because they failed on many pairs or have no "
        f"correlation: {wording.listed(left_out)}."
        if left_out
        else ""
    )


def _left_out(study: Study) -> list[str]:
    """Return the series that were correlated and not compared, counted by network and readout."""
    there = {(row.database, row.backbone, row.readout): row.layers for row in study.models}
    measured: dict[tuple[str, str, str], int] = {}
    for row in study.correlations:
        layered = row.depth == row.depth and row.readout in study.description.readouts
        if not row.distortion and row.database != POOLED and (layered or not row.layer):
            key = (row.database, row.backbone, row.readout)
            measured[key] = measured.get(key, 0) + 1
    compared = {row.database for row in study.models}
    found = []
    for (database, backbone, readout), count in measured.items():
        if database not in compared:
            continue
        key = (database, backbone, readout)
        # A baseline has no layers.
        left = count - (max(there[key], 1 if not readout else 0) if key in there else 0)
        if left > 0:
            name = ":".join(part for part in (backbone, readout) if part)
            layers = f"{wording.counted(left, 'layer')} of " if readout else ""
            found.append(f"{layers}{name} on {study.label(database)}")
    return found


def _software(study: Study) -> str:
    versions = {name: said for name, said in study.made_with.items() if name != "device"}
    device = study.made_with.get("device", "")
    if not versions:
        return ""
    named = wording.listed([f"{name} {said}" for name, said in versions.items()])
    return f"Distances were computed with {named}{f' on the device {device}' if device else ''}."


def _scored(study: Study) -> Sequence[str]:
    """Return the databases with scores that anything was compared on."""
    there = {row.database for row in study.models}
    return [one.name for one in study.databases if one.name in there]
