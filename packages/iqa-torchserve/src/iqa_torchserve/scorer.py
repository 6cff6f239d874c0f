"""Answer batches of requests with the library's metrics. Does not import TorchServe."""

import logging
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from iqa_metrics import (
    ImageError,
    Metric,
    UnknownNameError,
    metric_record,
    parse_spec,
    resolve,
)
from iqa_metrics.compute.signature import signature_of
from iqa_metrics.io.images import check_pair
from iqa_metrics.io.readahead import LoadedPair, Part
from iqa_metrics.io.tables import Pair
from iqa_metrics.names import nearest
from iqa_metrics.scoring.batches import BatchScorer, Outcome, outcome_of
from iqa_torchserve import archive
from iqa_torchserve.decoding import Clock, Decoder, Read, Wanted
from iqa_torchserve.limits import Limits
from iqa_torchserve.maps import map_body
from iqa_torchserve.passes import Passes, network_of
from iqa_torchserve.protocol import (
    INTERNAL,
    NO_MAP,
    OVERLOADED,
    STATUSES,
    TOO_LARGE,
    UNKNOWN_METRIC,
    Reply,
    RequestError,
    ScoreRequest,
    error_body,
    item_body,
    parse_request,
    reply_body,
    score_body,
    versions,
)
from iqa_torchserve.telemetry import BatchFacts

logger = logging.getLogger(__name__)

_FAILED = "scoring failed on the server; see its log for the reason"


@dataclass
class _Call:
    """A valid request, and its results so far.

    ``asked`` has, for each requested metric in order, its spec or the error; ``specs`` has only the
    specs.
    """

    request: ScoreRequest
    asked: "tuple[str | dict[str, Any], ...]"
    specs: tuple[str, ...]
    clock: Clock
    reply_left: int
    results: dict[int, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Item:
    """One distorted image of a call."""

    call: _Call
    number: int

    @property
    def reference(self) -> bytes:
        return self.call.request.reference

    @property
    def distorted(self) -> bytes:
        return self.call.request.distorted[self.number]

    def answer(self, body: dict[str, Any]) -> None:
        self.call.results[self.number] = body


@dataclass(frozen=True)
class Answer:
    """The answer to a batch.

    Attributes
    ----------
    replies
        The replies, in the order of the requests.
    facts
        Facts about the batch, for counting.
    pairs
        Number of pairs in each request.
    """

    replies: list[Reply]
    facts: BatchFacts
    pairs: list[int]


class Scorer:
    """A set of metrics that answers requests.

    Parameters
    ----------
    metrics
        The metrics, by spec. The first is used if a request names none.
    device
        The device that the metrics run on.
    limits
        The limits of requests.
    model
        Name and version of the archive.
    weights
        For each spec the files that the metric reads, with their SHA-256.
    """

    def __init__(
        self,
        metrics: Mapping[str, Metric],
        *,
        device: str = "cpu",
        limits: Limits | None = None,
        model: Mapping[str, str] | None = None,
        weights: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        if not metrics:
            raise ValueError("metrics: expected at least one metric, got none")
        self.device = torch.device(device)
        self.metrics = {spec: metric.to(self.device) for spec, metric in metrics.items()}
        self.limits = limits or Limits()
        self.model = dict(model or {"name": "iqa", "version": "0"})
        self._weights = {spec: dict((weights or {}).get(spec, {})) for spec in metrics}
        self._resolved = {spec: str(resolve(spec)) for spec in metrics}
        self._signatures = {
            spec: signature_of(metric, colour="srgb") for spec, metric in self.metrics.items()
        }
        # Requests can't look up other backbones, since timm's would have to be built for that.
        self._networks = {network_of(spec) for spec in self._resolved.values()}
        self._aliases = {
            alias: name
            for name in self.metrics
            if ":" not in name
            for alias in metric_record(name).aliases
        }
        self._decoder = Decoder(self.limits)

    @classmethod
    def from_archive(cls, folder: Path, *, device: str = "cpu") -> "Scorer":
        """Load the metrics of an unpacked model archive and check the hashes of its files.

        Raises
        ------
        ArchiveError
            If a file is missing or damaged.
        """
        contents = archive.read_contents(folder)
        return cls(
            archive.load_metrics(folder, contents),
            device=device,
            limits=contents.limits,
            model={"name": contents.name, "version": contents.version},
            weights=archive.weights_of(contents),
        )

    def answer(
        self,
        requests: Sequence[Mapping[str, Any]],
        headers: Sequence[Mapping[str, Any]] | None = None,
        request_ids: Sequence[str] | None = None,
    ) -> list[Reply]:
        """Answer a batch, as :meth:`work` does, and return only the replies."""
        return self.work(requests, headers, request_ids).replies

    def work(
        self,
        requests: Sequence[Mapping[str, Any]],
        headers: Sequence[Mapping[str, Any]] | None = None,
        request_ids: Sequence[str] | None = None,
    ) -> Answer:
        """Answer a batch, with a separate result for each request and each distorted image.

        References with the same content are decoded once and pass a backbone once; other pairs of
        the same size and metric share passes. Images are processed in parts of
        ``limits.working_bytes``, and a metric cuts its passes to fit into memory. A value does not
        depend on what else is in the batch.

        Parameters
        ----------
        requests
            The requests as passed by TorchServe; see
            :func:`iqa_torchserve.protocol.parse_request`.
        headers
            The requests' headers.
        request_ids
            The requests' ids, for the replies.

        Returns
        -------
        Answer
            The status of a reply is 200 if something was scored; 400, with a code, if the request
            is invalid; 500 with the code ``internal`` if the server failed, with the reason in its
            log; 503 with the code ``overloaded`` if the time for the batch was over.
        """
        end = time.monotonic() + self.limits.batch_seconds
        facts = BatchFacts(len(requests), 0, 0.0)
        calls: dict[int, _Call] = {}
        failures: dict[int, dict[str, Any]] = {}
        for place, data in enumerate(requests):
            try:
                calls[place] = self._call(data, headers[place] if headers else None)
            except RequestError as error:
                failures[place] = error_body(error.code, str(error))
            except UnknownNameError as error:
                failures[place] = error_body(UNKNOWN_METRIC, str(error))
            except Exception as error:
                failures[place] = _failure(error)
        items = [
            _Item(call, number)
            for call in calls.values()
            for number in range(len(call.request.distorted))
        ]
        facts.pairs = len(items)
        try:
            self._score(items, facts, end)
        except Exception as error:
            for item in items:
                if item.number not in item.call.results:
                    item.answer(_failure(error))
        ids = request_ids or [""] * len(requests)
        replies = []
        for place, request_id in enumerate(ids):
            if place in failures:
                body: dict[str, Any] = {**failures[place], "request_id": request_id}
            else:
                results = calls[place].results
                ordered = [results[number] for number in range(len(results))]
                body = reply_body(ordered, self.model, request_id)
            replies.append(Reply(body["status"], body))
        facts.errors = [
            said["code"]
            for reply in replies
            for said in reply.body.get("results", [reply.body])
            if "code" in said
        ]
        facts.scored = Counter(
            score["metric"]
            for call in calls.values()
            for result in call.results.values()
            for score in result.get("scores", ())
            if "value" in score
        )
        counts = [len(reply.body.get("results", ())) for reply in replies]
        return Answer(replies, facts, counts)

    def describe(self) -> dict[str, Any]:
        """Return a description of this scorer: metrics, directions, limits, device, versions."""
        return {
            "model": self.model,
            "metrics": [
                {
                    "metric": spec,
                    "resolved": self._resolved[spec],
                    "higher_is_better": metric.higher_is_better,
                    "range": [_bound(value) for value in metric.range],
                    "smallest_input": metric.smallest_input,
                    "has_map": metric.has_map,
                    "weights": self._weights[spec],
                    "signature": self._signatures[spec],
                }
                for spec, metric in self.metrics.items()
            ],
            "limits": self.limits.as_json(),
            "device": str(self.device),
            "versions": versions(),
        }

    def _call(self, data: Mapping[str, Any], headers: Mapping[str, Any] | None) -> _Call:
        request = parse_request(data, self.limits, headers)
        asked: list[str | dict[str, Any]] = []
        unknown: list[UnknownNameError] = []
        for text in request.metrics:
            try:
                asked.append(self._known(text))
            except UnknownNameError as error:
                asked.append({"metric": text[:200], **error_body(UNKNOWN_METRIC, str(error))})
                unknown.append(error)
        asked = asked or [next(iter(self.metrics))]
        if len(unknown) == len(asked):
            raise unknown[0]
        return _Call(
            request,
            tuple(asked),
            tuple(entry for entry in asked if isinstance(entry, str)),
            Clock(self.limits.decode_seconds),
            self.limits.reply_bytes,
        )

    def _known(self, text: str) -> str:
        text = text.strip()
        if text in self.metrics:
            return text
        spec = self._aliases.get(text, text)
        if ":" in text and network_of(text) in self._networks:
            spec = str(parse_spec(text))
        if spec not in self.metrics:
            raise UnknownNameError(
                f"metric {spec[:200]!r} is not in this archive "
                f"({nearest(spec[:200], self.metrics)}); add it with 'iqa-serve build --metric "
                "SPEC'"
            )
        return spec

    def _score(self, items: Sequence[_Item], facts: BatchFacts, end: float) -> None:
        """Answer every item."""
        contents = dict.fromkeys(item.reference for item in items)
        keys = {content: str(number) for number, content in enumerate(contents)}
        measured: list[tuple[str, int, float]] = []
        facts.passes = measured
        passes = Passes.of(self.metrics, [item.call.specs for item in items])

        def observe(name: str, pairs: int, seconds: float) -> None:
            measured.append((passes.labels[name], pairs, seconds))

        scorer = BatchScorer(passes.modules, observe=observe)
        try:
            parts = list(self._parts(items))
            for at, part in enumerate(parts):
                following = parts[at + 1][0].reference if at + 1 < len(parts) else None
                start = time.perf_counter()
                images = self._decoder.decoded((o for item in part for o in _images(item)), end)
                facts.decode_seconds += time.perf_counter() - start
                self._score_part(scorer, passes, part, images, keys, following, end)
        finally:
            scorer.close()

    def _parts(self, items: Sequence[_Item]) -> Iterator[list[_Item]]:
        """Group items by reference, and cut them into parts whose decoded images fit in memory.

        More metrics make smaller parts, since the time limit is checked between parts. Errors in an
        image's header are answered here, before anything is decoded.
        """
        by_reference: dict[bytes, list[_Item]] = {}
        for item in items:
            by_reference.setdefault(item.reference, []).append(item)
        part: list[_Item] = []
        taken = 0
        held: set[bytes] = set()
        for item in (item for alike in by_reference.values() for item in alike):
            try:
                needed = {one.image: self._decoder.bytes_of(one) for one in _images(item)}
            except ImageError as error:
                item.answer(error_body(error.code, str(error)))
                continue
            passes = len(item.call.specs) * (2 if item.call.request.maps else 1)
            needed = {image: passes * size for image, size in needed.items()}
            more = sum(size for image, size in needed.items() if image not in held)
            if part and taken + more > self.limits.working_bytes:
                yield part
                part, taken, held = [], 0, set()
                more = sum(needed.values())
            part.append(item)
            taken += more
            held |= set(needed)
        if part:
            yield part

    def _score_part(
        self,
        scorer: BatchScorer,
        passes: Passes,
        part: Sequence[_Item],
        images: Mapping[bytes, Read | Exception],
        keys: Mapping[bytes, str],
        following: bytes | None,
        end: float,
    ) -> None:
        rows: list[LoadedPair] = []
        ready: list[tuple[_Item, Tensor, Tensor, str]] = []
        for item in part:
            try:
                reference, of_reference = _decoded(images[item.reference])
                distorted, of_distorted = _decoded(images[item.distorted])
                colour = check_pair(reference, distorted, (of_reference, of_distorted))
            except ImageError as error:
                item.answer(error_body(error.code, str(error)))
            except TimeoutError:
                item.answer(_late(self.limits))
            except Exception as error:
                item.answer(_failure(error))
            else:
                key, wanted = keys[item.reference], passes.wanted(item.call.specs)
                rows.append(LoadedPair(Pair("", ""), key, (reference, distorted), metrics=wanted))
                ready.append((item, reference, distorted, colour))
        then = None if following is None else keys[following]
        outcomes = _outcomes(scorer, rows, then)
        for (item, reference, distorted, colour), of_pair in zip(ready, outcomes, strict=True):
            of_spec = {spec: passes.outcome(spec, of_pair) for spec in item.call.specs}
            for spec, (value, _) in of_spec.items():
                if value is None and passes.is_shared(spec):  # another spec may be the cause
                    of_spec[spec] = outcome_of(self.metrics[spec], reference, distorted)
            scores = [
                entry
                if isinstance(entry, dict)
                else self._score_body(item, entry, *of_spec[entry], reference, distorted, end)
                for entry in item.call.asked
            ]
            item.answer(item_body(scores, (distorted.shape[-1], distorted.shape[-2]), colour))

    def _score_body(
        self,
        item: _Item,
        spec: str,
        value: float | None,
        reason: str,
        reference: Tensor,
        distorted: Tensor,
        end: float,
    ) -> dict[str, Any]:
        metric = self.metrics[spec]
        if value is None:
            return {"metric": spec, **_refusal(reason)}
        map_ = None
        if item.call.request.maps and time.monotonic() > end:
            return {"metric": spec, **_late(self.limits)}
        if item.call.request.maps:
            try:
                map_ = self._map(item.call, metric, reference, distorted)
            except RequestError as error:
                return {"metric": spec, **error_body(error.code, str(error))}
            except Exception as error:
                return {"metric": spec, **_failure(error)}
        return score_body(
            metric=spec,
            resolved=self._resolved[spec],
            value=value,
            higher_is_better=metric.higher_is_better,
            weights=self._weights[spec],
            signature=self._signatures[spec],
            map=map_,
        )

    def _map(
        self, call: _Call, metric: Metric, reference: Tensor, distorted: Tensor
    ) -> dict[str, Any]:
        if not metric.has_map:
            with_map = ", ".join(spec for spec, m in self.metrics.items() if m.has_map) or "none"
            raise RequestError(
                f"{metric.name} has no map; metrics of this archive with a map: {with_map}", NO_MAP
            )
        if call.reply_left <= 0:
            raise _full(self.limits)
        with torch.no_grad():
            values = metric(reference.to(self.device), distorted.to(self.device), map=True)
        said = map_body(values[0, 0].cpu())
        call.reply_left -= len(said["png"])
        if call.reply_left < 0:
            raise _full(self.limits)
        return said


def _images(item: _Item) -> tuple[Wanted, Wanted]:
    several = len(item.call.request.distorted) > 1
    name = f"distorted {item.number + 1}" if several else "distorted"
    clock = item.call.clock
    return Wanted(clock, "reference", item.reference), Wanted(clock, name, item.distorted)


def _outcomes(scorer: BatchScorer, rows: list[LoadedPair], then: str | None) -> list[list[Outcome]]:
    try:
        return scorer.outcomes(Part(rows, then))
    except Exception as error:
        if len(rows) > 1:  # one of them may be the cause: score each by itself
            return [outcome for row in rows for outcome in _outcomes(scorer, [row], None)]
        return [[(None, f"failed: {type(error).__name__}: {error}")] * scorer.width]


def _decoded(image: Read | Exception) -> Read:
    if isinstance(image, Exception):
        raise image
    return image


def _refusal(reason: str) -> dict[str, Any]:
    """Return the error for a pass without a value, whose reason begins with a code."""
    code, _, message = reason.partition(": ")
    if code in STATUSES:
        return error_body(code, message)
    logger.error("scoring failed: %s", reason)
    return error_body(INTERNAL, _FAILED)


def _late(limits: Limits) -> dict[str, Any]:
    return error_body(
        OVERLOADED,
        f"the batch used up the {limits.batch_seconds:g} s that it may take; send the request "
        "again, or split it into smaller ones",
    )


def _full(limits: Limits) -> RequestError:
    return RequestError(
        f"with this map the reply would exceed {limits.reply_bytes:,} bytes; request fewer maps at "
        "once",
        TOO_LARGE,
    )


def _failure(error: Exception) -> dict[str, Any]:
    logger.error("scoring failed", exc_info=error)
    return error_body(INTERNAL, _FAILED)


def _bound(value: float) -> float | None:
    return value if math.isfinite(value) else None
