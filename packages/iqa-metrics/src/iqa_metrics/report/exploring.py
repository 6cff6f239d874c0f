"""The interactive part of the page: the numbers and pictures that it chooses from."""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from iqa_metrics.report import depth, offered, ranking, wording
from iqa_metrics.report.offered import Offer, Rated
from iqa_metrics.report.tables import Study
from iqa_metrics.report.thumbnails import MOST_PAIRS as MOST_PICTURED
from iqa_metrics.report.thumbnails import Thumbnails, Wanted, thumbnails
from iqa_metrics.statistics import fit_logistic
from iqa_metrics.statistics.correlations import Floats
from iqa_metrics.study.description import DescribedDatabase

MOST_VALUES = 750_000
"""How many values of series the page holds: 2 MB as text."""
MOST_PAIRS = 3000
"""How many pairs of a database the page holds."""
_MISSING = 2**16 - 1
_FEWEST = 4


@dataclass(frozen=True)
class Exploring:
    """What the interactive part of the page needs.

    Attributes
    ----------
    data
        All of it, as JSON that is safe inside of HTML.
    notes
        What the page leaves out, in sentences.
    """

    data: str
    notes: tuple[str, ...]


def exploring(study: Study, metric: str | None, pictures: bool) -> Exploring | None:
    """Gather what can be explored; None if no database has a series to show.

    Parameters
    ----------
    study
        The tables.
    metric
        As for :func:`iqa_metrics.report.write_report`.
    pictures
        Whether thumbnails of the images are wanted.
    """
    there = {row.database for row in study.correlations if not row.distortion}
    databases = [one for one in study.databases if one.name in there]
    held = sum(min(one.pairs, MOST_PAIRS) for one in databases)
    # At least one series, and one more for a database whose number of pairs is wrongly given as 0.
    most = max(MOST_VALUES // max(held, 1), 1)
    notes: list[str] = []
    parts = [part for one in databases if (part := _part(study, one, metric, most, notes))]
    if not parts:
        return None
    made = _pictured(study, parts, notes) if pictures else Thumbnails()
    if not pictures:
        notes.append("The report was written without thumbnails.")
    facts = {
        "title": study.title,
        "plain": study.plain,
        "mediaType": made.media_type,
        "pictures": [base64.b64encode(one).decode() for one in made.images],
        "databases": [part.facts | {"pictured": part.pictured} for part in parts],
    }
    return Exploring(_json(facts), tuple(notes))


@dataclass
class _Part:
    """A database: its facts for the page, and where the pictures of its pairs are."""

    database: DescribedDatabase
    rated: Rated
    gaps: Floats
    facts: dict[str, Any]
    pictured: dict[str, tuple[int, int]] = field(default_factory=dict)


def _part(
    study: Study, database: DescribedDatabase, metric: str | None, most: int, notes: list[str]
) -> _Part | None:
    label = study.label(database.name)
    wanted = offered.offers(study, database.name, metric, most)
    rated = offered.read_rated(study, database.name, [one.series for one in wanted])
    wanted, rated = _with_values(wanted, rated)
    if not wanted:
        return None
    higher = [_higher_is_better(study, one) for one in wanted]
    gaps = offered.gaps(rated, database, higher)
    # Severities of different kinds can't be compared, so no curve goes through all of them.
    curves = [
        _curve(values, rated.opinion) if database.opinion else None for values in rated.values
    ]
    total = len(rated.opinion)
    if total > MOST_PAIRS:
        chosen = _chosen(gaps, total)
        rated, gaps = rated.at(chosen), gaps[:, chosen]
        notes.append(
            f"Of the {wording.counted(total, 'pair')} of {label}, {MOST_PAIRS:,} are here: those "
            "that series and scores disagree most on, and of the others a regular sample. The "
            "correlations and curves are those of all pairs."
        )
    references, kinds = (list(dict.fromkeys(one)) for one in (rated.references, rated.kinds))
    models = ranking.plain_models(study, database.name)
    facts = {
        "name": database.name,
        "label": label,
        "what": "opinion" if database.opinion else "severity",
        "rated": database.opinion,
        "higher": database.higher_is,
        "total": total,
        "ceiling": _ceiling(study, database.name),
        "references": references,
        "reference": [references.index(one) for one in rated.references],
        "distorted": list(rated.distorted),
        "kinds": kinds,
        "kind": [kinds.index(one) for one in rated.kinds],
        "opinion": _packed(rated.opinion),
        "series": [
            {
                "name": one.series.name,
                "of": one.series.backbone,
                "layer": one.series.layer,
                "readout": one.series.readout,
                "role": one.role,
                "higherIsBetter": is_better,
                "values": _packed(values),
                "curve": curve,
                "numbers": numbers,
            }
            for one, is_better, values, curve, numbers in zip(
                wanted,
                higher,
                rated.values,
                curves,
                _numbers(study, database.name, wanted),
                strict=True,
            )
        ],
        "depths": _depths(study, database.name),
        "heldOut": ranking.held_out(models),
        "models": [
            [
                row.backbone,
                *(_rounded(v) for v in (ranking.shown(row), row.held_out_low, row.held_out_high)),
                row.best_layer,
                study.is_baseline(row.backbone),
            ]
            for row in models
        ],
    }
    return _Part(database, rated, gaps, facts)


def _with_values(wanted: Sequence[Offer], rated: Rated) -> tuple[list[Offer], Rated]:
    """Leave out the series that have no values."""
    kept = [number for number, line in enumerate(rated.values) if np.isfinite(line).any()]
    values = rated.values[kept]
    return [wanted[number] for number in kept], Rated(
        rated.references, rated.distorted, rated.kinds, rated.opinion, values
    )


def _higher_is_better(study: Study, one: Offer) -> bool:
    return any(b.name == one.series.backbone and b.higher_is_better for b in study.baselines)


def _curve(values: Floats, opinion: Floats) -> list[float | None] | None:
    """Return the parameters of the fitted curve; None if there are too few pairs."""
    fine = np.isfinite(values)
    if fine.sum() < _FEWEST:
        return None
    fitted = fit_logistic(values[fine], opinion[fine])
    found = [fitted.low, fitted.high, fitted.centre, fitted.scale]
    return [_rounded(one, 6) for one in found] if np.isfinite(found).all() else None


def _chosen(gaps: Floats, total: int) -> np.ndarray[Any, np.dtype[np.intp]]:
    """Return pairs in their own order: the most disputed, and a regular sample of the others."""
    disputed = offered.most_disputed(gaps, MOST_PAIRS // 2)
    others = np.setdiff1d(np.arange(total), disputed)
    steps = np.linspace(0, len(others) - 1, MOST_PAIRS - len(disputed))
    return np.sort(np.concatenate([disputed, others[np.rint(steps).astype(np.intp)]])).astype(
        np.intp
    )


def _numbers(
    study: Study, database: str, wanted: Sequence[Offer]
) -> list[dict[str, list[float | int | None]]]:
    """Return the correlations of each series, by kind of distortion; "" stands for all pairs."""
    places = {one.series: number for number, one in enumerate(wanted)}
    found: list[dict[str, list[float | int | None]]] = [{} for _ in wanted]
    for row in study.correlations:
        if row.database == database:
            at = places.get(offered.series_of(row))
            if at is not None:
                numbers = (row.srocc, row.plcc_logistic, row.plcc, row.krocc, row.rmse)
                found[at][row.distortion] = [row.n, *(_rounded(one) for one in numbers)]
    return found


def _depths(study: Study, database: str) -> dict[str, list[list[Any]]]:
    """Return the agreement of each layer of each network with the plain readout."""
    found: dict[str, list[list[Any]]] = {}
    for row in depth.plain_rows(study, database):
        one = study.agreement(row)
        numbers = [_rounded(v) for v in (row.depth, one.value, one.low, one.high)]
        found.setdefault(row.backbone, []).append([row.layer, *numbers])
    return found


def _ceiling(study: Study, database: str) -> float | None:
    """Return the noise ceiling of SROCC, if it is known."""
    ceiling = study.ceiling(database)
    return None if ceiling is None else _rounded(ceiling.value)


def _pictured(study: Study, parts: Sequence[_Part], notes: list[str]) -> Thumbnails:
    """Choose the pairs to show pictures of, and make the thumbnails."""
    folders: dict[str, Path] = {}
    for part in parts:
        label = study.label(part.database.name)
        if not part.database.folder:
            notes.append(
                f"There are no pictures of {label}: the study does not say where its images are. "
                "Give the command that made the study again; what was measured is kept."
            )
            continue
        folder = study.folder / part.database.folder
        if folder.is_dir():
            folders[part.database.name] = folder
        else:
            notes.append(
                f"There are no pictures of {label}: its images are not in {part.database.folder}, "
                "seen from the study's folder."
            )
    there = [part for part in parts if part.database.name in folders]
    all_fit = sum(len(part.rated.opinion) for part in there) <= MOST_PICTURED
    wanted = []
    for part in there:
        pairs = len(part.rated.opinion)
        share = pairs if all_fit else MOST_PICTURED // len(there)
        disputed = offered.most_disputed(part.gaps, share)
        # Every pair of small databases, even those that nobody disagrees on.
        rest = set(range(pairs)) - set(disputed) if all_fit else set()
        wanted += [(part, pair) for pair in (*disputed, *sorted(rest))]
    made = thumbnails(
        [
            Wanted(folders[part.database.name], part.rated.references[i], part.rated.distorted[i])
            for part, i in wanted
        ]
    )
    for (part, i), both in zip(wanted, made.pairs, strict=True):
        if both is not None:
            part.pictured[str(i)] = both
    shown = sum(both is not None for both in made.pairs)
    total = sum(len(part.rated.opinion) for part in there)
    if 0 < shown < total:
        notes.append(
            f"The page has pictures of {shown:,} of {wording.counted(total, 'pair')}: those that "
            "the offered series and scores disagree most on."
        )
    if made.unreadable:
        notes.append(f"{wording.counted(made.unreadable, 'image')} could not be read.")
    return made


def _packed(values: Floats) -> list[Any]:
    """Return the lowest and the highest value, and all as base64 of 16-bit steps between them."""
    fine = np.isfinite(values)
    low, high = (float(one) for one in (values[fine].min(), values[fine].max()))
    steps = np.full(len(values), _MISSING, dtype="<u2")
    scale = (_MISSING - 1) / (high - low) if high > low else 0.0
    steps[fine] = np.rint((values[fine] - low) * scale).astype("<u2")
    return [low, high, base64.b64encode(steps.tobytes()).decode()]


def _rounded(value: float, digits: int = 4) -> float | None:
    """Return a number with a few significant digits, or None if there is none."""
    return float(f"{value:.{digits}g}") if np.isfinite(value) else None


def _json(facts: Mapping[str, Any] | Iterable[Any]) -> str:
    """Return JSON that is safe inside of a script element."""
    text = json.dumps(facts, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text
