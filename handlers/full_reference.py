"""The TorchServe handler. Scoring itself is iqa_torchserve.scorer, which knows no TorchServe."""

import logging
from pathlib import Path

from ts.metrics.metric_type_enum import MetricTypes

from iqa_torchserve.worker import Worker

logger = logging.getLogger(__name__)


class FullReferenceHandler:
    """Answers each request of a batch for itself: 200 with values, or a code and a message.

    TorchServe wants exactly one class of this module's own, and answers an exception here with 503
    for the whole batch, so nothing may escape ``handle``.
    """

    def __init__(self):
        self.worker = None

    def initialize(self, context):
        """Load the archive's metrics, once a worker."""
        gpu = context.system_properties.get("gpu_id")
        device = "cpu" if gpu is None else f"cuda:{gpu}"
        folder = Path(context.system_properties["model_dir"])
        self.worker = Worker.from_archive(folder, device=device)
        self.worker.count_with(context.metrics, MetricTypes)
        logger.info("scoring %s on %s", ", ".join(self.worker.scorer.metrics), device)

    def handle(self, data, context):
        """Return one JSON text a request; ``context`` carries its status and content type."""
        # TorchServe asks for a description with this header and without data, in a batch of its
        # own. Anyone may send the header: only where nothing else came is it meant so.
        if data == [{}] and context.get_request_header(0, "describe"):
            context.set_response_content_type(0, "application/json")
            return [self.worker.describe()]
        places = range(len(data))
        headers = [context.get_all_request_header(place) for place in places]
        ids = [context.get_request_id(place) for place in places]
        texts = []
        for place, (reply, text) in enumerate(self.worker.handle(data, headers, ids)):
            context.set_response_status(code=reply.status, phrase=reply.phrase, idx=place)
            context.set_response_content_type(place, "application/json")
            texts.append(text)
        return texts
