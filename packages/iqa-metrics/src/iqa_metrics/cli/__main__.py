"""``python -m iqa_metrics.cli``."""

from iqa_metrics.cli import app

app()
