"""``python -m iqa_metrics.cli``: the ``iqa`` command."""

from iqa_metrics.cli import app

if __name__ == "__main__":
    app(prog_name="iqa")
