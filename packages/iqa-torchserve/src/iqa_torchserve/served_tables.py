"""Score a table of pairs with a server: several requests at a time, rows in order, resumable."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice
from pathlib import Path

from iqa_metrics.io.resuming import Written, written
from iqa_metrics.io.tables import Pair, PairTable, Score, write_scores
from iqa_metrics.metrics import parse_spec
from iqa_torchserve.client import Client, Outcome, ServeError
from iqa_torchserve.in_flight import in_order
from iqa_torchserve.protocol import STATUSES

TOGETHER = 8
"""Most distorted images of one reference in a request."""
REQUEST_BYTES = 16 * 2**20
"""Most bytes of image files in a request with more than one pair."""
_FINAL = frozenset({code for code, status in STATUSES.items() if status < 500} | {"internal"})
"""Codes that are final results of a pair. After any other, the table is left to be resumed."""
_AGAIN, _ATTEMPTS = ("failed", "overloaded"), 3
"""Codes that another pair may have caused, and how many times such a pair is requested."""


@dataclass
class ServedTable:
    """A table of pairs, its table of scores, and the progress.

    Attributes
    ----------
    table
        The pairs.
    out
        The file of the scores.
    metrics
        The metrics' specs.
    kept
        What is kept of an earlier run.
    total, done, failed
        Numbers of rows.
    """

    table: PairTable
    out: Path
    metrics: tuple[str, ...]
    kept: Written
    total: int
    done: int
    failed: int

    @classmethod
    def open(cls, pairs: Path, out: Path, metrics: Sequence[str], *, resume: bool) -> "ServedTable":
        """Check both tables without changing them.

        Raises
        ------
        PairsError, ResumeError, UnknownNameError, ValueError
            If a table or a spec is invalid.
        """
        table = PairTable.open(pairs)
        names = tuple(dict.fromkeys(str(parse_spec(spec)) for spec in metrics))
        if out.exists() and out.samefile(pairs):
            raise ValueError(f"--out is the table of pairs itself, {pairs}; use another file")
        kept = written(out, table, names, 1) if resume else Written()
        total = len(table) * len(names)
        return cls(table, out, names, kept, total, kept.pairs * len(names), kept.failed)

    def write(self, client: Client, *, in_flight: int) -> Iterator[Score]:
        """Score the remaining pairs and yield each row after it was written.

        Consecutive pairs with the same reference share requests.

        Raises
        ------
        ServeError
            If the server can't be reached or refuses the token; rows that were written are kept.
        ValueError
            If the table of scores can't be written.
        """
        if self.kept.finished:
            return
        size = self.kept.size
        try:
            if size:
                os.truncate(self.out, size)
            with self.out.open("a" if size else "w", newline="", encoding="utf-8") as file:
                rows = self._rows(client, in_flight)
                for row in write_scores(rows, file, self.table.carried, header=not size):
                    self.done += 1
                    self.failed += bool(row.error)
                    yield row
        except OSError as error:
            raise ValueError(f"--out {self.out}: can't be written ({error.strerror})") from error

    def _rows(self, client: Client, in_flight: int) -> Iterator[Score]:
        left = islice(self.table, self.kept.pairs, None)
        answers = in_order(partial(self._answer, client), _groups(left), in_flight)
        with closing(answers):
            for rows in answers:
                yield from rows

    def _answer(self, client: Client, group: list[Pair]) -> list[Score]:
        """Return the rows of a group of pairs that share a reference."""
        outcomes: dict[int, Sequence[Outcome | str]] = {}
        images: dict[int, bytes] = {}
        reference = b""
        for number, pair in enumerate(group):
            try:
                if pair.problem:
                    raise _UnreadableError(pair.problem)
                reference = reference or _content(pair, pair.reference)
                images[number] = _content(pair, pair.distorted)
            except _UnreadableError as error:
                outcomes[number] = [str(error)] * len(self.metrics)
        for numbers in _requests(images, len(reference)):
            answers = self._compared(client, reference, [images[number] for number in numbers])
            outcomes |= dict(zip(numbers, answers, strict=True))
        return [
            _row(pair, metric, outcome)
            for number, pair in enumerate(group)
            for metric, outcome in zip(self.metrics, outcomes[number], strict=True)
        ]

    def _compared(
        self, client: Client, reference: bytes, distorted: list[bytes]
    ) -> list[list[Outcome]]:
        answers: list[list[Outcome]]
        for attempt in range(_ATTEMPTS):
            try:
                answers = client.compare(reference, distorted, self.metrics)
            except ServeError as error:
                answers = [[error] * len(self.metrics)] * len(distorted)
            errors = [o for outcomes in answers for o in outcomes if isinstance(o, ServeError)]
            open_ = [error for error in errors if error.code not in _FINAL]
            if not open_:
                break
            # If the server can't be reached at all, the client has already tried again.
            if open_[0].code not in _AGAIN or attempt == _ATTEMPTS - 1:
                raise open_[0]
        whole = len(errors) == len(distorted) * len(self.metrics)
        if len(distorted) > 1 and whole and all(error.code == "too_large" for error in errors):
            alone = (self._compared(client, reference, [image]) for image in distorted)
            return [outcomes for (outcomes,) in alone]
        return answers


class _UnreadableError(ValueError):
    """The images of a row can't be read; the message begins with a code."""


def _groups(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    """Group consecutive pairs that share a reference, up to a few per group."""
    for _, alike in groupby(pairs, key=lambda pair: pair.reference):
        while group := list(islice(alike, TOGETHER)):
            yield group


def _requests(images: dict[int, bytes], reference_bytes: int) -> Iterator[list[int]]:
    """Cut a group into requests that do not have too many bytes."""
    numbers: list[int] = []
    size = reference_bytes
    for number, image in images.items():
        if numbers and size + len(image) > REQUEST_BYTES:
            yield numbers
            numbers, size = [], reference_bytes
        numbers.append(number)
        size += len(image)
    if numbers:
        yield numbers


def _content(pair: Pair, name: str) -> bytes:
    try:
        return (pair.folder / name).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise _UnreadableError(f"not_found: {name}: can't be read ({reason})") from error


def _row(pair: Pair, metric: str, outcome: "Outcome | str") -> Score:
    if isinstance(outcome, str):
        return Score(pair.reference, pair.distorted, metric, None, outcome, pair.carried)
    if isinstance(outcome, ServeError):
        error = f"{outcome.code}: {outcome}"
        return Score(pair.reference, pair.distorted, metric, None, error, pair.carried)
    return Score(pair.reference, pair.distorted, metric, outcome.value, "", pair.carried)
