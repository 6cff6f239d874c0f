"""Score a table of pairs with a server: several requests at a time, rows in order, resumable."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import groupby, islice

from iqa_metrics.io.conventions import AS_GIVEN
from iqa_metrics.io.tables import Pair, Score
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


class ServedScorer:
    """Scores the pairs of a table with a server; see :func:`iqa_metrics.score_table`.

    Consecutive pairs with the same reference share requests, and several requests are sent at a
    time.

    Parameters
    ----------
    client
        A client of the server.
    in_flight
        Number of simultaneous requests.
    """

    window = 1

    def __init__(self, client: Client, *, in_flight: int) -> None:
        self._client = client
        self._in_flight = in_flight

    def __call__(
        self, pairs: Iterable[Pair], metrics: Sequence[str]
    ) -> Generator[Score, None, None]:
        """Yield the scores, in the order of pairs and then of metrics.

        Raises
        ------
        ServeError
            If the server can't be reached or refuses the token; rows that were written are kept.
        """
        answers = in_order(partial(self._answer, metrics), _groups(pairs), self._in_flight)
        with closing(answers):
            for rows in answers:
                yield from rows

    def _answer(self, metrics: Sequence[str], group: list[Pair]) -> list[Score]:
        """Return the rows of a group of pairs that share a reference."""
        outcomes: dict[int, Sequence[Outcome | str]] = {}
        images: dict[int, bytes] = {}
        reference = b""
        for number, pair in enumerate(group):
            try:
                if pair.problem:
                    raise _UnreadableError(pair.problem)
                asked = AS_GIVEN.with_changes(pair.conventions)
                if asked != AS_GIVEN or pair.mask is not None:
                    raise _UnreadableError(
                        "bad_row: a server compares whole images in RGB, got "
                        f"{'a mask' if pair.mask is not None else asked}; score this table with "
                        "'iqa score'"
                    )
                reference = reference or _content(pair, pair.reference)
                images[number] = _content(pair, pair.distorted)
            except _UnreadableError as error:
                outcomes[number] = [str(error)] * len(metrics)
        for numbers in _requests(images, len(reference)):
            answers = self._compared(reference, [images[number] for number in numbers], metrics)
            outcomes |= dict(zip(numbers, answers, strict=True))
        return [
            _row(pair, metric, outcome)
            for number, pair in enumerate(group)
            for metric, outcome in zip(metrics, outcomes[number], strict=True)
        ]

    def _compared(
        self, reference: bytes, distorted: list[bytes], metrics: Sequence[str]
    ) -> list[list[Outcome]]:
        answers: list[list[Outcome]]
        for attempt in range(_ATTEMPTS):
            try:
                answers = self._client.compare(reference, distorted, metrics)
            except ServeError as error:
                answers = [[error] * len(metrics)] * len(distorted)
            errors = [o for outcomes in answers for o in outcomes if isinstance(o, ServeError)]
            open_ = [error for error in errors if error.code not in _FINAL]
            if not open_:
                break
            # If the server can't be reached at all, the client has already tried again.
            if open_[0].code not in _AGAIN or attempt == _ATTEMPTS - 1:
                raise open_[0]
        whole = len(errors) == len(distorted) * len(metrics)
        if len(distorted) > 1 and whole and all(error.code == "too_large" for error in errors):
            alone = (self._compared(reference, [image], metrics) for image in distorted)
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
    return Score(
        pair.reference,
        pair.distorted,
        metric,
        outcome.value,
        "",
        pair.carried,
        outcome.colour,
        outcome.signature,
    )
