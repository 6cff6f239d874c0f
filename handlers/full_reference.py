"""The TorchServe handler. The scoring itself is in iqa_torchserve, independent of TorchServe."""

import logging
from pathlib import Path

from ts.metrics.metric_type_enum import MetricTypes

from iqa_torchserve.worker import Worker

logger = logging.getLogger(__name__)


class FullReferenceHandler:
    """Answers each request of a batch separately: 200 with values, or a code and a message.

    TorchServe expects exactly one class in this module. It answers an exception of ``handle`` with
    503 for the whole batch, so ``handle`` must not raise any.
    """

    def __init__(self):
        self.worker = None

    def initialize(self, context):
        """Load the archive's metrics, once per worker."""
        gpu = context.system_properties.get("gpu_id")
        device = "cpu" if gpu is None else f"cuda:{gpu}"
        folder = Path(context.system_properties["model_dir"])
        self.worker = Worker.from_archive(folder, device=device)
        self.worker.count_with(context.metrics, MetricTypes)
        logger.info("scoring %s on %s", ", ".join(self.worker.scorer.metrics), device)

    def handle(self, data, context):
        """Return one JSON text per request; its status and content type are set in ``context``."""
        # TorchServe requests a description with this header and without data, in a separate batch.
        # Anyone may send the header, so it only counts where there is nothing else.
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
