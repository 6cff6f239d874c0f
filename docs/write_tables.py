"""Write the tables of metrics, readouts and backbones into the pages, from the code.

    python docs/write_tables.py            write all tables
    python docs/write_tables.py --check    fail if a table is out of date

A table stands between the lines ``<!-- table: NAME -->`` and ``<!-- end -->``.
"""

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from iqa_metrics import BACKBONES, METRICS, READOUTS, comparisons
from iqa_metrics.backbones import FACTORS
from iqa_metrics.datasets import READERS

FOLDER = Path(__file__).parent


def metrics() -> Iterable[list[str]]:
    """Yield the named metrics."""
    yield ["spec", "better", "range", "what it is", "source"]
    for record in METRICS:
        low, high = (f"{bound:g}".replace("inf", "∞") for bound in record.metric.range)
        what = record.summary + (f": `{record.stands_for}`" if record.stands_for else "")
        better = "higher" if record.metric.higher_is_better else "lower"
        yield [f"`{record.name}`", better, f"{low} to {high}", what, record.metric.source]


def readouts() -> Iterable[list[str]]:
    """Yield the readouts."""
    yield ["readout", "what it is", "`joint`", "map", "source"]
    for record in READOUTS:
        marks = ["yes" if has else "" for has in (record.joint, record.map)]
        yield [f"`{record.name}`", record.summary, *marks, record.source]


def backbones() -> Iterable[list[str]]:
    """Yield the trained backbones, by goal (the pretraining task)."""
    yield ["goal", "backbone", "architecture", "data", "trained by", "score", "licence"]
    trained = [record for record in BACKBONES if record.weights is not None]
    goals = list(dict.fromkeys(map(FACTORS["goal"], trained)))
    for record in sorted(trained, key=lambda r: goals.index(FACTORS["goal"](r))):
        who = ", ".join(filter(None, (record.environment, record.recipe.replace("_", " "))))
        score = "" if record.score is None else f"{record.score:.1f}"
        factors = [record.architecture, record.data, who, score, record.weights.licence]
        yield [FACTORS["goal"](record), f"`{record.name}`", *factors]


def compared() -> Iterable[list[str]]:
    """Yield the controlled comparisons of each factor."""
    yield ["factor", "comparisons", "strict ones", "the largest"]
    for factor in FACTORS:
        found = comparisons(factor, among=BACKBONES)
        largest = max(found, key=lambda c: (len(c.sets), c.agreed.get("data", "")))
        agreed = ", ".join(filter(None, largest.agreed.values()))
        values = (
            ", ".join(largest.sets) if len(largest.sets) < 12 else f"{len(largest.sets)} values"
        )
        strict = len(comparisons(factor, among=BACKBONES, strict=True))
        yield [f"`{factor}`", str(len(found)), str(strict), f"{agreed}: {values}"]


def databases() -> Iterable[list[str]]:
    """Yield the databases of human ratings."""
    yield ["name", "database", "references", "pairs", "higher is", "files", "source"]
    for reader in READERS:
        facts = reader.facts
        counts = ["" if n is None else str(n) for n in (facts.references, facts.pairs)]
        yield [f"`{facts.name}`", facts.title, *counts, facts.higher_is, facts.layout, facts.source]


TABLES: dict[str, Callable[[], Iterable[list[str]]]] = {
    "metrics": metrics,
    "readouts": readouts,
    "backbones": backbones,
    "comparisons": compared,
    "databases": databases,
}


def written(page: str) -> str:
    """Return a page with its tables rewritten."""

    def table(match: re.Match[str]) -> str:
        header, *rows = TABLES[match[1]]()
        lines = [header, ["---"] * len(header), *rows]
        text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        return f"<!-- table: {match[1]} -->\n\n{text}\n\n<!-- end -->"

    return re.sub(r"<!-- table: (\w+) -->.*?<!-- end -->", table, page, flags=re.DOTALL)


def main() -> None:
    """Write or check every page."""
    stale = []
    for path in sorted(FOLDER.glob("*.md")):
        page = path.read_text(encoding="utf-8")
        if (fresh := written(page)) != page:
            stale.append(path.name)
            if "--check" not in sys.argv:
                path.write_text(fresh, encoding="utf-8")
    if stale and "--check" in sys.argv:
        sys.exit(f"{', '.join(stale)}: out of date; run python docs/write_tables.py")


if __name__ == "__main__":
    main()
