"""Score pairs in as few passes as their references and sizes allow."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor

from iqa_metrics.compute.pair_module import PairModule, SharedReference
from iqa_metrics.io.decoding import ImageError
from iqa_metrics.io.readahead import LoadedPair, Part, reason
from iqa_metrics.io.tables import Score

Outcome = tuple[Any, str]
"""A value, or a list of values from a module that returns several; or None and the reason."""
Observer = Callable[[str, int, float], None]
"""Called after each pass with the metric's name, the number of pairs, and the time in seconds."""
_Images = tuple[Tensor, Tensor]


class BatchScorer:
    """Scores the parts of a table, one after another.

    Within a part, pairs with the same reference share its pass through the network, and the other
    pairs are grouped by size. Pairs of different parts are never grouped. If a part ends with a
    reference that the next part begins with, it is kept. This saves its pass there and changes no
    value, because a shared reference is always passed by itself.

    Parameters
    ----------
    metrics
        The metrics, by the names that the rows give them. Each computes on its own device.
    observe
        Called after each pass, if given.
    """

    def __init__(
        self, metrics: Mapping[str, PairModule], *, observe: Observer | None = None
    ) -> None:
        self._metrics = metrics
        self._observe = observe
        self._kept: _Shared | None = None

    @property
    def width(self) -> int:
        """The number of outcomes of each pair: one per metric."""
        return len(self._metrics)

    def score(self, part: Part) -> list[Score]:
        """Return the scores of a part, in the order of its pairs and then of the metrics."""
        return [
            _row(row, name, outcome)
            for row, outcomes in zip(part.rows, self.outcomes(part), strict=True)
            for name, outcome in zip(self._metrics, outcomes, strict=True)
        ]

    def outcomes(self, part: Part) -> list[list[Outcome]]:
        """Return one list per pair of a part, with the outcome of each metric.

        If a pair is not to be scored with a metric, the outcome is None with an empty reason.
        """
        loaded = dict(enumerate(part.rows))
        outcomes: dict[int, list[Outcome]] = {
            number: [(None, row.problem)] * len(self._metrics)
            for number, row in loaded.items()
            if row.images is None
        }
        by_reference: dict[str, dict[int, _Images]] = {}
        for number, row in loaded.items():
            if row.images is not None:
                by_reference.setdefault(row.reference, {})[number] = row.images
        by_size: dict[torch.Size, dict[int, _Images]] = {}
        shared: dict[str, dict[int, _Images]] = {}
        for path, group in by_reference.items():
            if len(group) > 1:
                shared[path] = group
            else:
                (images,) = group.values()
                by_size.setdefault(images[0].shape, {}).update(group)
        for group, session in self._sessions(shared, part.then):
            outcomes |= self._of_group(loaded, group, session)
        for group in by_size.values():
            outcomes |= self._of_group(loaded, group, None)
        return [outcomes[number] for number in loaded]

    def close(self) -> None:
        """Free the reference that is kept."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _sessions(
        self, groups: Mapping[str, dict[int, _Images]], then: str | None
    ) -> Iterator[tuple[dict[int, _Images], "_Shared"]]:
        """Yield each group of pairs with its reference, which stays open until it is finished."""
        if self._kept is not None and self._kept.path not in groups:
            self.close()
        before, self._kept = self._kept, None
        for path, group in groups.items():
            image = next(iter(group.values()))[0]
            fresh = before is None or before.path != path
            session = _Shared(path, image) if fresh or before is None else before
            yield group, session
            if path == then:
                self._kept = session
            else:
                session.close()

    def _of_group(
        self,
        rows: Mapping[int, LoadedPair],
        group: dict[int, _Images],
        session: "_Shared | None",
    ) -> dict[int, list[Outcome]]:
        found: dict[int, list[Outcome]] = {number: [] for number in group}
        batches: dict[tuple[int, ...], _Copies] = {}
        for name, metric in self._metrics.items():
            chosen = tuple(number for number in group if rows[number].wants(name))
            outcomes: dict[int, Outcome] = {}
            if chosen:
                if chosen not in batches:
                    batches[chosen] = _Copies([group[number] for number in chosen])
                values = self._of_metric(name, metric, batches[chosen], session)
                outcomes = dict(zip(chosen, values, strict=True))
            for number, of_pair in found.items():
                of_pair.append(outcomes.get(number, (None, "")))
        return found

    def _of_metric(
        self, name: str, metric: PairModule, images: "_Copies", session: "_Shared | None"
    ) -> list[Outcome]:
        start = time.perf_counter()
        outcomes = _values(partial(_together, name, metric, images, session))
        if outcomes is None:
            if session is not None:
                session.drop(name)
            outcomes = [outcome_of(metric, *pair) for pair in images.pairs]
        if self._observe is not None:
            self._observe(name, len(outcomes), time.perf_counter() - start)
        return outcomes


class _Copies:
    """The images of a group as one batch per device, shared by all metrics on that device."""

    def __init__(self, pairs: Sequence[_Images]) -> None:
        self.pairs = pairs
        self._batches: dict[tuple[int, torch.device], Tensor] = {}

    def references(self, home: torch.device) -> Tensor:
        return self._batch(0, home)

    def distorted(self, home: torch.device) -> Tensor:
        return self._batch(1, home)

    def _batch(self, role: int, home: torch.device) -> Tensor:
        if (role, home) not in self._batches:
            moved = [pair[role].to(home, non_blocking=True) for pair in self.pairs]
            self._batches[role, home] = torch.cat(moved) if len(moved) > 1 else moved[0]
        return self._batches[role, home]


class _Shared:
    """One reference, with what each metric keeps of it."""

    def __init__(self, path: str, image: Tensor) -> None:
        self.path = path
        self._image = image
        self._of: dict[str, tuple[ExitStack, SharedReference]] = {}

    def of(self, name: str, metric: PairModule, home: torch.device) -> SharedReference:
        if name not in self._of:
            stack = ExitStack()
            image = self._image.to(home, non_blocking=True)
            self._of[name] = stack, stack.enter_context(metric.reference(image))
        return self._of[name][1]

    def drop(self, name: str) -> None:
        if name in self._of:
            self._of.pop(name)[0].close()

    def close(self) -> None:
        for name in list(self._of):
            self.drop(name)


def _together(name: str, metric: PairModule, images: _Copies, session: _Shared | None) -> Tensor:
    home = _home(metric)
    if session is not None:
        shared: Tensor = session.of(name, metric, home).score(images.distorted(home))
        return shared
    values: Tensor = metric(images.references(home), images.distorted(home))
    return values


def _values(compute: Callable[[], Tensor]) -> list[Outcome] | None:
    """Return a batch's values, or None if they could not be computed."""
    try:
        with torch.no_grad():
            return [(value, "") for value in compute().tolist()]
    except (ImageError, RuntimeError, MemoryError):
        # The caller retries only after this returns, because the traceback holds on to the memory.
        return None


def outcome_of(metric: PairModule, reference: Tensor, distorted: Tensor) -> Outcome:
    """Return the value of one pair, or the reason why it could not be computed."""
    home = _home(metric)
    try:
        with torch.no_grad():
            return metric(reference.to(home), distorted.to(home)).tolist()[0], ""
    except (ImageError, RuntimeError, MemoryError) as error:  # mostly for lack of memory
        return None, reason(error)


def _home(metric: PairModule) -> torch.device:
    held = next(metric.held(), None)
    return torch.device("cpu") if held is None else held.device


def _row(row: LoadedPair, name: str, outcome: Outcome) -> Score:
    pair = row.pair
    value, problem = outcome
    colour = "" if value is None else row.colour
    return Score(pair.reference, pair.distorted, name, value, problem, pair.carried, colour)
