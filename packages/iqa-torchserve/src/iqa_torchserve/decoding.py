"""Decodes the images of requests: several at a time, each request on its own clock."""

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from iqa_metrics import ImageError, read_image
from iqa_metrics.io.decoding import size_of_file
from iqa_metrics.io.readahead import cores, decoding_pool
from iqa_torchserve.limits import Limits

T = TypeVar("T")

_PIXEL_BYTES = 3 * 4


class Clock:
    """The time that the decoding of one request's images may take, whichever threads do it."""

    def __init__(self, seconds: float) -> None:
        self._left = self._whole = seconds
        self._lock = threading.Lock()

    def read(self, name: str, decode: Callable[[float], T]) -> T:
        """Return what ``decode`` makes within the time that is left. Raises ImageError."""
        start = time.perf_counter()
        try:
            return decode(max(0.0, self._left))
        except ImageError as error:
            if error.code != "too_slow":
                raise
            raise ImageError(
                f"{name}: decoding the images of this request takes longer than {self._whole:g} s "
                "in all; save them anew, as PNG or baseline JPEG, or send fewer at once",
                error.code,
            ) from None
        finally:
            with self._lock:
                self._left -= time.perf_counter() - start


@dataclass(frozen=True)
class Wanted:
    """An image file, what messages call it, and the clock of the request that it belongs to."""

    clock: Clock
    name: str
    image: bytes


class Decoder:
    """Decodes image files within limits.

    Parameters
    ----------
    limits
        What is decoded.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._pool = decoding_pool(min(cores(), torch.get_num_threads()))

    def bytes_of(self, one: Wanted) -> int:
        """Return what an image will take when decoded, by its header. Raises ImageError."""
        try:
            width, height = one.clock.read(one.name, partial(size_of_file, one.image))
        except ImageError as error:
            if error.code == "too_slow":
                raise
            raise ImageError(f"{one.name}: {error}", error.code) from error
        # What is larger is refused from its header when it comes to decoding.
        return _PIXEL_BYTES * min(width * height, self._limits.pixels)

    def decoded(self, wanted: Iterable[Wanted], end: float) -> dict[bytes, Tensor | Exception]:
        """Decode images, equal ones once, and return them, or why they could not be.

        From ``end`` on, by :func:`time.monotonic`, none is begun: there is a TimeoutError for it.
        """
        coming: dict[bytes, tuple[Wanted, Future[Tensor | Exception]]] = {}
        others: list[Wanted] = []
        for one in wanted:
            if one.image not in coming:
                coming[one.image] = one, self._pool.submit(self._read, one, end)
            elif coming[one.image][0].clock is not one.clock:
                others.append(one)
        found = {image: future.result() for image, (_, future) in coming.items()}
        for one in others:
            # The first request that wanted it had no time left; this one may have.
            if getattr(found[one.image], "code", "") == "too_slow":
                found[one.image] = self._read(one, end)
        return found

    def _read(self, one: Wanted, end: float) -> Tensor | Exception:
        if time.monotonic() > end:
            return TimeoutError()

        def decode(seconds: float) -> Tensor:
            most = self._limits.pixels
            return read_image(one.image, name=one.name, max_pixels=most, max_seconds=seconds)

        try:
            return one.clock.read(one.name, decode)
        except ImageError as error:
            # Without its traceback, which keeps what the decoder had in its hands.
            return ImageError(str(error), error.code)
        except Exception as error:
            return error
