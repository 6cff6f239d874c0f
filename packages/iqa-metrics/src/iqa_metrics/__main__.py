"""``python -m iqa_metrics``: the ``iqa`` command."""

from iqa_metrics.cli import app

if __name__ == "__main__":
    app(prog_name="iqa")
