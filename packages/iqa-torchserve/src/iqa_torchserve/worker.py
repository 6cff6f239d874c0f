"""What a TorchServe worker does besides scoring: drain, count, log. Does not import TorchServe."""

import fcntl
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from iqa_torchserve.protocol import DRAINING, Reply, error_body
from iqa_torchserve.scorer import Answer, Scorer
from iqa_torchserve.state import BUSY, DRAIN, STATE_VARIABLE
from iqa_torchserve.telemetry import BatchFacts, Counters, MetricsCache, request_log

logger = logging.getLogger(__name__)


class Worker:
    """Answers TorchServe's batches as long as its server is not draining.

    Parameters
    ----------
    scorer
        The scorer.
    state
        The server's state folder, if there is one. While it contains a file ``draining``, all
        requests are refused; the file ``busy`` in it is locked while a batch is being worked on.
    """

    def __init__(self, scorer: Scorer, *, state: Path | None = None) -> None:
        self.scorer = scorer
        self._state = state
        self._counters: Counters | None = None
        self._log = request_log()

    @classmethod
    def from_archive(cls, folder: Path, *, device: str = "cpu") -> "Worker":
        """Load an unpacked archive's metrics. Raises ArchiveError."""
        state = os.environ.get(STATE_VARIABLE)
        scorer = Scorer.from_archive(folder, device=device)
        return cls(scorer, state=Path(state) if state else None)

    def count_with(self, cache: MetricsCache, kind: Callable[[str], Any]) -> None:
        """Count with TorchServe's metrics from now on; see :class:`Counters`."""
        self._counters = Counters(cache, kind, self.scorer.model["name"])

    def describe(self) -> str:
        """Return a description of the archive as JSON."""
        return json.dumps(self.scorer.describe(), allow_nan=False)

    def handle(
        self,
        requests: Sequence[Mapping[str, Any]],
        headers: Sequence[Mapping[str, Any]],
        request_ids: Sequence[str],
    ) -> list[tuple[Reply, str]]:
        """Answer a batch; return a reply and its body in JSON for each request."""
        start = time.perf_counter()
        with self._busy():
            if self._state is not None and (self._state / DRAIN).exists():
                answer = _refusals(request_ids)
            else:
                answer = self.scorer.work(requests, headers, request_ids)
            texts = [json.dumps(reply.body, allow_nan=False) for reply in answer.replies]
        seconds = time.perf_counter() - start
        # A failure of counting or logging must not cost an answer.
        with suppress(Exception):
            self._tell(answer, request_ids, headers, seconds)
        return list(zip(answer.replies, texts, strict=True))

    @contextmanager
    def _busy(self) -> Iterator[None]:
        if self._state is None:
            yield
            return
        try:
            handle = os.open(self._state / BUSY, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:  # such as a full disk: then the work is done without the lock
            yield
            return
        try:
            fcntl.flock(handle, fcntl.LOCK_SH)
            yield
        finally:
            os.close(handle)

    def _tell(
        self,
        answer: Answer,
        request_ids: Sequence[str],
        headers: Sequence[Mapping[str, Any]],
        seconds: float,
    ) -> None:
        facts = answer.facts
        if self._counters is not None:
            self._counters.count(facts, str(os.getpid()))
        for number, (reply, request_id) in enumerate(zip(answer.replies, request_ids, strict=True)):
            of_request = {
                "request_id": request_id,
                "status": reply.status,
                "code": reply.body.get("code", ""),
                "pairs": answer.pairs[number],
                "failed": sum("code" in item for item in reply.body.get("results", ())),
                "bytes": _length(headers[number]),
                "batch": facts.requests,
                "seconds": round(seconds, 6),
                "decode_seconds": round(facts.decode_seconds, 6),
                "forward_seconds": round(sum(took for *_, took in facts.passes), 6),
            }
            self._log.info("request", extra={"facts": of_request})


def _refusals(request_ids: Sequence[str]) -> Answer:
    said = error_body(DRAINING, "the server is about to stop; send the request again in a moment")
    replies = [Reply(said["status"], {**said, "request_id": name}) for name in request_ids]
    facts = BatchFacts(len(replies), 0, 0.0, errors=[DRAINING] * len(replies))
    return Answer(replies, facts, [0] * len(replies))


def _length(headers: Mapping[str, Any]) -> int | None:
    value = next((v for name, v in headers.items() if name.lower() == "content-length"), None)
    return int(value) if isinstance(value, str) and value.isdecimal() else None
