"""The TorchServe handler. Scoring itself is iqa_torchserve.scorer, which knows no TorchServe."""

import json
import logging
from pathlib import Path

from iqa_torchserve import scorer

logger = logging.getLogger(__name__)


class FullReferenceHandler:
    """Answers each request of a batch for itself: 200 with a value, 400 with a code and a message.

    TorchServe wants exactly one class in this module, and answers an exception here with 503 for
    the whole batch, so nothing may escape ``handle``.
    """

    def __init__(self):
        self.scorer = None

    def initialize(self, context):
        """Load the archive's metrics, once a worker."""
        gpu = context.system_properties.get("gpu_id")
        device = "cpu" if gpu is None else f"cuda:{gpu}"
        folder = Path(context.system_properties["model_dir"])
        self.scorer = scorer.Scorer.from_archive(folder, device=device)
        logger.info("scoring %s on %s", ", ".join(self.scorer.metrics), device)

    def handle(self, data, context):
        """Return one JSON text a request; ``context`` carries its status and content type."""
        if context.get_request_header(0, "describe"):
            return [json.dumps(self.scorer.describe())] * len(data)
        replies = self.scorer.answer(data)
        for index, reply in enumerate(replies):
            context.set_response_status(code=reply.status, phrase=reply.phrase, idx=index)
            context.set_response_content_type(index, "application/json")
        return [json.dumps(reply.body, allow_nan=False) for reply in replies]
