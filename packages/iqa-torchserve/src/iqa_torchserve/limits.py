"""The limits of requests: one typed record, stored in the archive and enforced by the worker."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Limits:
    """The limits of a request, and of what a worker holds and spends at once.

    Attributes
    ----------
    request_bytes
        Largest request body, in bytes. TorchServe refuses larger ones with 413 before a worker sees
        them.
    pixels
        Largest image that is decoded, in pixels. Larger ones are refused after their header was
        read. The default is a little more than 3840 x 2160.
    images
        Largest number of distorted images in a request.
    metrics
        Largest number of metrics in a request.
    decode_seconds
        Longest total time for decoding the images of a request.
    batch_seconds
        Time after which a worker begins no more work on a batch of requests; the rest is answered
        with ``overloaded``.
    working_bytes
        Largest total size of the decoded images that a worker holds at once, in bytes; one pair is
        always allowed.
    reply_bytes
        Largest reply, in bytes. Maps that would make it larger are refused.

    Raises
    ------
    ValueError
        If a limit is not positive, or not a whole number where it counts something.
    """

    request_bytes: int = 32 * 2**20
    pixels: int = 2**23
    images: int = 64
    metrics: int = 16
    decode_seconds: float = 10.0
    batch_seconds: float = 60.0
    working_bytes: int = 2**28
    reply_bytes: int = 24 * 2**20

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            whole = field.type is int
            if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
                kind = "a whole number" if whole else "a number"
                raise ValueError(f"{field.name}: expected {kind}, got {value!r}")
            if not value > 0:
                raise ValueError(f"{field.name}: expected more than 0, got {value}")

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> "Limits":
        """Read what :meth:`as_json` wrote. Raises ValueError."""
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = ", ".join(sorted(set(said) - known))
        if unknown:
            raise ValueError(f"unknown limit {unknown}; expected {', '.join(sorted(known))}")
        return cls(**said)

    @classmethod
    def parse(cls, texts: list[str]) -> "Limits":
        """Read limits from the command line, such as ``pixels=1000000``.

        Raises
        ------
        ValueError
            If a text has another form, or names an unknown limit.
        """
        said: dict[str, Any] = {}
        for text in texts:
            name, equals, value = text.partition("=")
            try:
                said[name] = float(value) if name.endswith("_seconds") else int(value)
            except ValueError:
                equals = ""
            if not equals:
                raise ValueError(f"limit {text!r}: expected NAME=NUMBER, such as pixels=1000000")
        return cls.from_json(said)

    def as_json(self) -> dict[str, Any]:
        """Return the limits by name."""
        return dataclasses.asdict(self)
