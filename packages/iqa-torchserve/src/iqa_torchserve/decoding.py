"""Decode the images of requests, several at a time, with a time limit per request."""

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from iqa_metrics import ImageError
from iqa_metrics.io.colour import Colour
from iqa_metrics.io.decoding import size_of_file
from iqa_metrics.io.images import read_with_colour
from iqa_metrics.io.readahead import cores, decoding_pool
from iqa_torchserve.limits import Limits

T = TypeVar("T")
Read = tuple[Tensor, Colour]
"""An image, and what became of its colours."""

_PIXEL_BYTES = 3 * 4


class Clock:
    """The time that decoding one request's images may take, summed over all threads."""

    def __init__(self, seconds: float) -> None:
        self._left = self._whole = seconds
        self._lock = threading.Lock()

    def read(self, name: str, decode: Callable[[float], T]) -> T:
        """Return the result of ``decode``, called with the remaining seconds. Raises ImageError."""
        start = time.perf_counter()
        try:
            return decode(max(0.0, self._left))
        except ImageError as error:
            if error.code != "too_slow":
                raise
            raise ImageError(
                f"{name}: decoding the images of this request takes longer than {self._whole:g} s "
                "in total; save them as PNG or baseline JPEG, or send fewer at once",
                error.code,
            ) from None
        finally:
            with self._lock:
                self._left -= time.perf_counter() - start


@dataclass(frozen=True)
class Wanted:
    """An image file, its name in messages, and the clock of its request."""

    clock: Clock
    name: str
    image: bytes


class Decoder:
    """Decodes image files within limits.

    Parameters
    ----------
    limits
        The limits of what is decoded.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._pool = decoding_pool(min(cores(), torch.get_num_threads()))

    def bytes_of(self, one: Wanted) -> int:
        """Return the decoded size of an image in bytes, from its header. Raises ImageError."""
        try:
            width, height = one.clock.read(one.name, partial(size_of_file, one.image))
        except ImageError as error:
            if error.code == "too_slow":
                raise
            raise ImageError(f"{one.name}: {error}", error.code) from error
        # Larger images are refused, from their header, when they are decoded.
        return _PIXEL_BYTES * min(width * height, self._limits.pixels)

    def decoded(self, wanted: Iterable[Wanted], end: float) -> dict[bytes, Read | Exception]:
        """Decode images, equal ones only once, and return them or their errors.

        After ``end``, as measured by :func:`time.monotonic`, no decoding is begun, and the error is
        a TimeoutError.
        """
        coming: dict[bytes, tuple[Wanted, Future[Read | Exception]]] = {}
        others: list[Wanted] = []
        for one in wanted:
            if one.image not in coming:
                coming[one.image] = one, self._pool.submit(self._read, one, end)
            elif coming[one.image][0].clock is not one.clock:
                others.append(one)
        found = {image: future.result() for image, (_, future) in coming.items()}
        for one in others:
            # The first request for it had no time left, but this one may have.
            if getattr(found[one.image], "code", "") == "too_slow":
                found[one.image] = self._read(one, end)
        return found

    def _read(self, one: Wanted, end: float) -> Read | Exception:
        if time.monotonic() > end:
            return TimeoutError()

        def decode(seconds: float) -> Read:
            most = self._limits.pixels
            return read_with_colour(one.image, name=one.name, max_pixels=most, max_seconds=seconds)

        try:
            return one.clock.read(one.name, decode)
        except ImageError as error:
            # Without the traceback, which would keep the decoder's memory alive.
            return ImageError(str(error), error.code)
        except Exception as error:
            return error
