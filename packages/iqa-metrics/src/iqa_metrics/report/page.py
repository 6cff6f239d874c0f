"""The page: its tables and sentences, and the templates that they are put into."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib import resources

import jinja2
from markupsafe import Markup

from iqa_metrics.report import (
    agreement_tables,
    differences,
    documents,
    explorer,
    methods,
    ranking,
    summary,
    wording,
)
from iqa_metrics.report.citing import citing
from iqa_metrics.report.documents import Cell, Section, Table
from iqa_metrics.report.exploring import Exploring
from iqa_metrics.report.figures import Files
from iqa_metrics.report.tables import Study
from iqa_metrics.study.description import DescribedDatabase
from iqa_metrics.study.rows import NOT_TESTED, POOLED, Claim

MOST_ROWS = 2000


def rendered(
    study: Study,
    sections: Sequence[Section],
    files: Mapping[str, Files],
    explored: Exploring | None = None,
) -> str:
    """Return the page as HTML that needs no other files.

    Parameters
    ----------
    study
        The tables.
    sections
        The figures and their texts.
    files
        The figures' bytes and sizes, by name.
    explored
        What the interactive part chooses from; None for a page without that part.
    """
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_part),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    failed = sum(one.failed for one in study.databases)
    rated = any(one.opinion for one in study.databases)
    main_claims = study.main(study.claims)
    others = [one for one in study.claims if one.database not in main_claims]
    return environment.get_template("page.html").render(
        study=study,
        # The page's policy allows these scripts and styles, and nothing else.
        styles=[_part("page.css"), _part("theme.css"), *explorer.styles(explored)],
        scripts=[_part("theme.js"), _part("page.js"), *explorer.scripts(explored)],
        hashed=_hash,
        data=_data_uri,
        rated=rated,
        explorer=explorer.section(environment, study.plain, rated, explored),
        explorer_data=Markup("" if explored is None else explored.data),  # noqa: S704  # escaped
        warnings=summary.warnings(study),
        summary=summary.summary(study),
        methods=methods.paragraphs(study),
        citing=citing(study),
        claims=_claims(study, [c for c in study.claims if c.database in main_claims]),
        other_claims=_claims(study, others) if others else None,
        sections=sections,
        files=files,
        images={name: _data_uri(one.svg, "image/svg+xml") for name, one in files.items()},
        models=_models(study),
        comparisons=differences.listing(study.comparisons, "All comparisons"),
        agreement_tables=agreement_tables.listed(study),
        correlations=_correlations(study),
        judgements=_judgements(study),
        databases=_databases(study),
        backbones=_backbones(study),
        baselines=_baselines(study),
        failed=wording.counted(failed, "pair") if failed else "",
        percent=f"{100 * study.settings.confidence:g} %",
        most_rows=MOST_ROWS,
    )


def _part(name: str) -> Markup:
    """Return one of our own files, which is markup and not text."""
    text = (resources.files("iqa_metrics.report") / name).read_text(encoding="utf-8")
    return Markup(text)  # noqa: S704


def _data_uri(content: str | bytes, kind: str) -> str:
    """Return content as the address of a link or an image, which works offline."""
    held = content.encode() if isinstance(content, str) else content
    return f"data:{kind};base64,{base64.b64encode(held).decode()}"


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _claims(study: Study, claims: Sequence[Claim]) -> dict[str, list[dict[str, str]]]:
    """Return what the page says about claims, those that could not be tested apart."""
    several = len({one.database for one in claims}) > 1
    found: dict[str, list[dict[str, str]]] = {"tested": [], "untested": []}
    for one in claims:
        found["untested" if one.verdict == NOT_TESTED else "tested"].append(
            {
                "id": one.claim,
                "version": one.version,
                "statement": one.statement,
                "test": one.test,
                "database": study.label(one.database) if several else "",
                "verdict": one.verdict,
                "effect": wording.signed(one.effect),
                "interval": wording.interval(one.low, one.high, sign=True),
                "margin": f"{one.margin:g}" if one.margin > 0 else "",
                "evidence": one.evidence,
                "why": one.why,
                "command": one.get,
            }
        )
    return found


def _models(study: Study) -> Table:
    names = [POOLED, *(one.name for one in study.databases)]
    rows = [
        row
        for name in names
        for row in ranking.ordered([row for row in study.models if row.database == name])
    ]
    return ranking.listing(
        study, rows, "All backbones and baselines, the best of each database first"
    )


def _correlations(study: Study) -> Table | None:
    """Return all correlations as a table, or None if there are too many for a page."""
    if len(study.correlations) > MOST_ROWS:
        return None
    numbers = ("SROCC", "PLCC", "PLCC, logistic", "KROCC", "RMSE")
    rows: list[Sequence[Cell]] = [
        (
            documents.text(row.backbone),
            documents.text(row.database),
            documents.text(row.distortion or "all"),
            documents.text(row.layer),
            documents.value(row.depth, 2),
            documents.text(row.readout),
            documents.count(row.n),
            documents.value(row.srocc),
            documents.interval(row.srocc_low, row.srocc_high),
            documents.value(row.plcc),
            documents.value(row.plcc_logistic),
            documents.value(row.krocc),
            documents.value(row.rmse),
        )
        for row in study.correlations
    ]
    columns = (
        "backbone",
        "database",
        "distortion",
        "layer",
        "depth",
        "readout",
        "pairs",
        numbers[0],
        "interval",
        *numbers[1:],
    )
    numeric = ("depth", "pairs", "interval", *numbers)
    return documents.table("All correlations, with their signs", columns, rows, numeric)


def _judgements(study: Study) -> Table | None:
    """Return the agreement with 2AFC and JND judgements, best first; None if there are none."""
    if not study.judgements:
        return None
    ordered = sorted(
        (row for row in study.judgements if row.agreement == row.agreement),
        key=lambda row: (row.database, row.distortion, -row.agreement),
    )
    return documents.table(
        "2AFC and JND judgements",
        (
            "backbone",
            "database",
            "part",
            "layer",
            "readout",
            "measure",
            "judgements",
            "agreement",
            "interval",
        ),
        [
            (
                documents.text(row.backbone),
                documents.text(row.database),
                documents.text(row.distortion or "all"),
                documents.text(row.layer),
                documents.text(row.readout),
                documents.text(row.measure),
                documents.count(row.n),
                documents.value(row.agreement),
                documents.interval(row.low, row.high),
            )
            for row in ordered
        ],
        ("judgements", "agreement", "interval"),
        "judgements.csv",
    )


def _databases(study: Study) -> Table:
    def what(one: DescribedDatabase) -> str:
        return "human ratings" if one.opinion else "severity, no human ratings"

    return documents.table(
        "Databases",
        (
            "database",
            "name",
            "scores",
            "higher is",
            "pairs",
            "references",
            "failed pairs",
            "source",
            "licence",
        ),
        [
            (
                documents.text(one.title),
                documents.text(one.name),
                documents.text(what(one)),
                documents.text(one.higher_is),
                documents.count(one.pairs),
                documents.count(one.references),
                documents.count(one.failed),
                documents.text(one.source),
                documents.text(one.licence),
            )
            for one in study.databases
        ],
        ("pairs", "references", "failed pairs"),
        "study.json",
    )


def _backbones(study: Study) -> Table:
    return documents.table(
        "Backbones",
        (
            "backbone",
            "architecture",
            "goal",
            "method",
            "data",
            "environment",
            "recipe",
            "layers",
            "parameters",
            "score",
            "score of",
            "SHA-256",
            "paper",
            "note",
        ),
        [
            (
                documents.text(one.name),
                documents.text(one.architecture),
                documents.text(one.goal),
                documents.text(one.method),
                documents.text(one.data),
                documents.text(one.environment),
                documents.text(one.recipe),
                documents.count(len(one.layers)),
                documents.count(one.parameters),
                documents.value(one.score, 1),
                documents.text(one.score_of),
                documents.text(one.network[:12], title=one.network),
                documents.text(one.paper),
                documents.text(one.note),
            )
            for one in study.backbones
        ],
        ("layers", "parameters", "score"),
        "study.json",
    )


def _baselines(study: Study) -> Table | None:
    if not study.baselines:
        return None
    return documents.table(
        "Baselines",
        ("baseline", "better is", "tuned on human ratings", "source"),
        [
            (
                documents.text(one.name),
                documents.text("higher" if one.higher_is_better else "lower"),
                documents.text("yes" if one.tuned else "no"),
                documents.text(one.source),
            )
            for one in study.baselines
        ],
        (),
        "study.json",
    )
