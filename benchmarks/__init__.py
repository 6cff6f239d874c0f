"""Time and memory of the metrics, compared with other implementations of them; see README.md."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
