"""Time and memory of the metrics, beside other implementations of the same ones; see README.md."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
