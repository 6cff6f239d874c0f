"""Answers batches of requests with the library's metrics. Imports no TorchServe."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from iqa_metrics import ImageError, Metric, UnknownNameError, parse_spec, read_image, resolve
from iqa_metrics.images import check_pair
from iqa_metrics.names import nearest
from iqa_torchserve import archive
from iqa_torchserve.protocol import (
    INTERNAL,
    Reply,
    RequestError,
    error_body,
    parse_request,
    score_body,
    versions,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Job:
    """A request whose images are decoded, and its place in the batch."""

    place: int
    metric: str
    reference: Tensor
    distorted: Tensor


class Scorer:
    """A set of metrics that answers requests.

    Parameters
    ----------
    metrics
        Specs to metrics. The first is used where a request names none.
    device
        Where the metrics run.
    max_pixels
        Largest image, in pixels, that is decoded.
    """

    def __init__(
        self,
        metrics: Mapping[str, Metric],
        *,
        device: str = "cpu",
        max_pixels: int = archive.MAX_PIXELS,
    ) -> None:
        if not metrics:
            raise ValueError("metrics: expected at least one metric, got none")
        self.device = torch.device(device)
        self.metrics = {spec: metric.to(self.device) for spec, metric in metrics.items()}
        self.max_pixels = max_pixels

    @classmethod
    def from_archive(cls, folder: Path, *, device: str = "cpu") -> "Scorer":
        """Load the metrics of an unpacked model archive, its files checked by their hashes.

        Raises
        ------
        ArchiveError
            If a file is missing or damaged.
        """
        contents = archive.read_contents(folder)
        return cls(
            archive.load_metrics(folder, contents), device=device, max_pixels=contents.max_pixels
        )

    def answer(self, requests: Sequence[Mapping[str, Any]]) -> list[Reply]:
        """Answer a batch, each request for itself.

        Pairs of the same metric and size share a pass, which the metric cuts to fit the memory;
        equal references are decoded once and pass the network once. A value does not depend on
        what shared the batch.

        Parameters
        ----------
        requests
            As TorchServe hands them over; see :func:`iqa_torchserve.protocol.parse_request`.

        Returns
        -------
        list of Reply
            In the order of the requests: 200 with a score; 400 with the code of what is wrong with
            the request; 500 with code ``internal`` where we failed, the reason in the log.
        """
        replies: dict[int, Reply] = {}
        jobs: list[_Job] = []
        decoded: dict[bytes, Tensor] = {}
        for place, data in enumerate(requests):
            try:
                jobs.append(self._prepare(place, data, decoded))
            except (RequestError, ImageError, UnknownNameError) as error:
                replies[place] = Reply(400, error_body(error.code, str(error)))
            except Exception as error:
                replies[place] = _failure(error)
        for alike in _passes(jobs):
            for job, reply in zip(alike, self._score(alike), strict=True):
                replies[job.place] = reply
        return [replies[place] for place in range(len(requests))]

    def describe(self) -> dict[str, Any]:
        """Return what this scorer offers: metrics, directions, limits, device, versions."""
        return {
            "metrics": [
                {
                    "metric": spec,
                    "resolved": str(resolve(spec)),
                    "higher_is_better": metric.higher_is_better,
                    "smallest_input": metric.smallest_input,
                }
                for spec, metric in self.metrics.items()
            ],
            "max_pixels": self.max_pixels,
            "device": str(self.device),
            "versions": versions(),
        }

    def _prepare(self, place: int, data: Mapping[str, Any], decoded: dict[bytes, Tensor]) -> _Job:
        request = parse_request(data)
        spec = self._known(request.metric)
        reference = decoded.get(request.reference)
        if reference is None:
            reference = self._read("reference", request.reference)
            decoded[request.reference] = reference
        distorted = self._read("distorted", request.distorted)
        check_pair(reference, distorted)
        return _Job(place, spec, reference, distorted)

    def _read(self, name: str, content: bytes) -> Tensor:
        return read_image(content, name=name, max_pixels=self.max_pixels)

    def _known(self, text: str | None) -> str:
        if text is None:
            return next(iter(self.metrics))
        spec = str(parse_spec(text))
        if spec not in self.metrics:
            raise UnknownNameError(
                f"metric {spec!r} is not in this archive; {nearest(spec, self.metrics)} "
                "'iqa-serve build --metric SPEC' packs others"
            )
        return spec

    def _score(self, jobs: list[_Job]) -> list[Reply]:
        metric = self.metrics[jobs[0].metric]
        try:
            # One reference for all, or one for each.
            references = list({id(job.reference): job.reference for job in jobs}.values())
            if len(references) > 1:
                references = [job.reference for job in jobs]
            reference, distorted = (
                torch.cat(images).to(self.device)
                for images in (references, [job.distorted for job in jobs])
            )
            with torch.inference_mode():
                values = metric(reference, distorted).tolist()
        except ImageError as error:  # the same for every job: they share metric and size
            return [Reply(400, error_body(error.code, str(error)))] * len(jobs)
        except Exception as error:
            if len(jobs) > 1:  # one too many for the memory, perhaps: each by itself
                return [reply for job in jobs for reply in self._score([job])]
            return [_failure(error)]
        return [
            Reply(
                200,
                score_body(
                    metric=job.metric,
                    resolved=str(resolve(job.metric)),
                    value=value,
                    higher_is_better=metric.higher_is_better,
                    size=(job.reference.shape[-1], job.reference.shape[-2]),
                ),
            )
            for job, value in zip(jobs, values, strict=True)
        ]


def _passes(jobs: Sequence[_Job]) -> list[list[_Job]]:
    """Return jobs in groups that can share a pass: of one metric, and one reference or one size."""
    of_reference: dict[tuple[str, int], list[_Job]] = {}
    for job in jobs:
        of_reference.setdefault((job.metric, id(job.reference)), []).append(job)
    single: dict[tuple[str, torch.Size], list[_Job]] = {}
    for alike in of_reference.values():
        if len(alike) == 1:
            single.setdefault((alike[0].metric, alike[0].reference.shape), []).extend(alike)
    return [*(g for g in of_reference.values() if len(g) > 1), *single.values()]


def _failure(error: Exception) -> Reply:
    logger.error("scoring failed", exc_info=error)
    return Reply(500, error_body(INTERNAL, "scoring failed on the server; its log says why"))
