"""Score pairs in as few passes as their references and sizes allow."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from iqa_metrics.compute.pair_module import PairModule, SharedReference
from iqa_metrics.compute.signature import signature_of
from iqa_metrics.forks import ForkedError
from iqa_metrics.io.decoding import ImageError
from iqa_metrics.io.images import Background
from iqa_metrics.io.readahead import LoadedPair, Part, reason
from iqa_metrics.io.tables import Score

Outcome = tuple[Any, str]
"""A value, or a list of values from a module that returns several; or None and the reason."""
Observer = Callable[[str, int, float], None]
"""Called after each pass with the metric's name, the number of pairs, and the time in seconds."""
_Images = tuple[Tensor, Tensor, Tensor | None]
"""Reference, distorted image, and the mask if there is one."""


Kind = TypeVar("Kind", bound=PairModule)


@dataclass(frozen=True)
class _Key:
    """What pairs that share a pass of their reference have in common."""

    path: str
    conventions: tuple[tuple[str, str], ...] = ()
    masked: bool = False

    @classmethod
    def of(cls, row: LoadedPair) -> "_Key":
        own = tuple((name, str(value)) for name, value in row.pair.conventions.items())
        return cls(row.reference, own, row.mask is not None)


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
    colour, background
        How the colours of files are taken, and the colour behind transparent ones, for the
        signatures of rows.
    """

    def __init__(
        self,
        metrics: Mapping[str, PairModule],
        *,
        observe: Observer | None = None,
        colour: str | None = None,
        background: Background | None = None,
    ) -> None:
        self._metrics = metrics
        self._colour, self._background = colour, background
        self._signatures: dict[tuple[object, ...], str] = {}
        self._observe = observe
        self._kept: _Shared | None = None

    @property
    def width(self) -> int:
        """The number of outcomes of each pair: one per metric."""
        return len(self._metrics)

    def score(self, part: Part) -> list[Score]:
        """Return the scores of a part, in the order of its pairs and then of the metrics."""
        return [
            _row(row, name, outcome, self._signature(row, name, outcome))
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
        by_reference: dict[_Key, dict[int, _Images]] = {}
        for number, row in loaded.items():
            if row.images is not None:
                key = _Key.of(row)
                by_reference.setdefault(key, {})[number] = (*row.images, row.mask)
        by_size: dict[tuple[object, ...], dict[int, _Images]] = {}
        shared: dict[_Key, dict[int, _Images]] = {}
        for key, group in by_reference.items():
            if len(group) > 1:
                shared[key] = group
            else:
                (images,) = group.values()
                alike = (images[0].shape, key.conventions, key.masked)
                by_size.setdefault(alike, {}).update(group)
        for group, session in self._sessions(shared, part.then):
            outcomes |= self._of_group(loaded, group, session)
        for group in by_size.values():
            outcomes |= self._of_group(loaded, group, None)
        return [outcomes[number] for number in loaded]

    def _signature(self, row: LoadedPair, name: str, outcome: Outcome) -> str:
        if outcome[0] is None:
            return ""
        key = name, _Key.of(row).conventions
        if row.mask is not None or key not in self._signatures:
            metric = self._metrics[name]
            found = signature_of(
                metric,
                conventions=metric.conventions.with_changes(row.pair.conventions),
                colour=self._colour,
                background=self._background,
                mask=row.mask,
            )
            if row.mask is not None:
                return found
            self._signatures[key] = found
        return self._signatures[key]

    def close(self) -> None:
        """Free the reference that is kept."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _sessions(
        self, groups: Mapping["_Key", dict[int, _Images]], then: str | None
    ) -> Iterator[tuple[dict[int, _Images], "_Shared"]]:
        """Yield each group of pairs with its reference, which stays open until it is finished."""
        if self._kept is not None and self._kept.key not in groups:
            self.close()
        before, self._kept = self._kept, None
        for key, group in groups.items():
            image = next(iter(group.values()))[0]
            fresh = before is None or before.key != key
            session = _Shared(key, image) if fresh or before is None else before
            yield group, session
            if key.path == then:
                self.close()
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
        changes = rows[next(iter(group))].pair.conventions  # of all pairs of a group
        for name, metric in self._metrics.items():
            metric = under(metric, changes)
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
    """The images of a group as one batch per device, shared by all metrics on that device.

    Either all pairs of a group have a mask or none has.
    """

    def __init__(self, pairs: Sequence[_Images]) -> None:
        self.pairs = pairs
        self._batches: dict[tuple[int, torch.device], Tensor] = {}

    def references(self, home: torch.device) -> Tensor:
        return self._batch(0, home)

    def distorted(self, home: torch.device) -> Tensor:
        return self._batch(1, home)

    def masks(self, metric: PairModule, home: torch.device) -> dict[str, Tensor]:
        """Return the masks as the argument of a metric; none if there are none."""
        return {} if self.pairs[0][2] is None else taken(metric, self._batch(2, home))

    def _batch(self, role: int, home: torch.device) -> Tensor:
        if (role, home) not in self._batches:
            tensors = [tensor for pair in self.pairs if (tensor := pair[role]) is not None]
            moved = [tensor.to(home, non_blocking=True) for tensor in tensors]
            self._batches[role, home] = torch.cat(moved) if len(moved) > 1 else moved[0]
        return self._batches[role, home]


class _Shared:
    """One reference, with what each metric keeps of it."""

    def __init__(self, key: "_Key", image: Tensor) -> None:
        self.key = key
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
        shared = session.of(name, metric, home)
        masks = images.masks(metric, home)
        of_shared: Tensor = shared.score(images.distorted(home), mask=masks.get("mask"))
        return of_shared
    values: Tensor = metric(
        images.references(home), images.distorted(home), **images.masks(metric, home)
    )
    return values


def _values(compute: Callable[[], Tensor]) -> list[Outcome] | None:
    """Return a batch's values, or None if they could not be computed."""
    try:
        with torch.no_grad():
            return [(value, "") for value in compute().tolist()]
    except ForkedError:
        raise
    except (ImageError, RuntimeError, MemoryError):
        # The caller retries only after this returns, because the traceback holds on to the memory.
        return None


def outcome_of(
    metric: PairModule, reference: Tensor, distorted: Tensor, mask: Tensor | None = None
) -> Outcome:
    """Return the value of one pair, or the reason why it could not be computed."""
    home = _home(metric)
    try:
        masks = {} if mask is None else taken(metric, mask.to(home))
        with torch.no_grad():
            return metric(reference.to(home), distorted.to(home), **masks).tolist()[0], ""
    except ForkedError:
        raise
    except (ImageError, RuntimeError, MemoryError) as error:  # mostly for lack of memory
        return None, reason(error)


def taken(metric: PairModule, mask: Tensor) -> dict[str, Tensor]:
    """Return a mask as the argument of a metric. Raises ImageError if the metric takes none."""
    if not getattr(metric, "takes_mask", False):
        raise ImageError(
            f"{metric.name} takes no mask: its value is no mean over positions; score pairs with a "
            "mask with metrics that take one",
            "bad_mask",
        )
    return {"mask": mask}


def under(metric: Kind, changes: Mapping[str, object]) -> Kind:
    """Return a metric under the conventions of a pair, for images that were read by their peak."""
    return metric.under(replace(metric.conventions.with_changes(changes), peak=None))


def _home(metric: PairModule) -> torch.device:
    held = next(metric.held(), None)
    return torch.device("cpu") if held is None else held.device


def _row(row: LoadedPair, name: str, outcome: Outcome, signature: str) -> Score:
    pair = row.pair
    value, problem = outcome
    colour = "" if value is None else row.colour
    return Score(
        pair.reference, pair.distorted, name, value, problem, pair.carried, colour, signature
    )
