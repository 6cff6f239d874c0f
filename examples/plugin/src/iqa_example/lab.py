"""A laboratory's own layout of ratings: ``ratings.tsv``, and the images that it lists."""

import csv
from collections.abc import Iterator

from iqa_metrics.datasets import (
    DatabaseFacts,
    DatabaseReader,
    Folder,
    OpinionPair,
    Problem,
)


def read(folder: Folder, facts: DatabaseFacts, problems: list[Problem]) -> Iterator[OpinionPair]:
    """Yield the pairs, and append what is missing or invalid to the problems."""
    path = folder.need("ratings.tsv")
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            reference = folder.find(f"images/{row['reference']}")
            distorted = folder.find(f"images/{row['distorted']}")
            low, high = facts.range
            try:
                opinion = float(row["mos"])
            except ValueError:
                opinion = float("nan")
            if not low <= opinion <= high:
                problems.append(Problem("opinion", row["distorted"], f"got {row['mos']!r}"))
            elif reference and distorted:
                yield OpinionPair(reference, distorted, opinion, row["distortion"])


RECORD = DatabaseReader(
    facts=DatabaseFacts(
        name="lab",
        title="The laboratory's ratings",
        higher_is="better",
        range=(1.0, 5.0),
        references=None,
        pairs=None,
        source="this example",
        licence="yours",
        layout="ratings.tsv, images/",
    ),
    markers=("ratings.tsv",),
    read=read,
)
