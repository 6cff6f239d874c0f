"""The client, which sends pairs of images to a running server."""

import base64
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Union

import requests

from iqa_torchserve.container import CONTENT_TYPE, pack
from iqa_torchserve.in_flight import in_order

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ImageFile = Union[bytes, str, Path]
Token = Union[str, Callable[[], str]]

_BUSY = 503
_REFUSALS = {400: "unauthorised", 401: "unauthorised", 404: "unknown_model", 413: "too_large"}
"""Codes for refusals of TorchServe, or of a proxy before it, which have no code."""


class ServeError(RuntimeError):
    """The server refused a request or one of its images, or could not be reached.

    Attributes
    ----------
    code
        The reply's stable code, such as ``bad_image``. If the reply has none: ``unreachable``,
        ``unauthorised`` (the token), ``unknown_model``, ``too_large`` (the body), ``busy`` (the
        queue is full) or ``failed``.
    status
        The HTTP status, or None.
    """

    def __init__(self, message: str, *, code: str, status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


@dataclass(frozen=True)
class ServedMap:
    """A metric's value at each position, as the server sent it.

    Attributes
    ----------
    png
        A 16-bit grey PNG.
    low, high
        The values of the grey levels 0 and 65535.
    """

    png: bytes
    low: float
    high: float

    def values(self) -> "NDArray[np.float64]":
        """Return the values, ``[H, W]``, exact to half a grey level."""
        from iqa_torchserve.maps import map_values

        return map_values(self.png, self.low, self.high)


@dataclass(frozen=True)
class ServedScore:
    """A score from a server.

    Attributes
    ----------
    metric
        The requested spec, or the archive's default.
    value
        The metric's value.
    higher_is_better
        The metric's direction.
    resolved
        The full spec that the name stands for.
    map
        The metric's map, if it was requested.
    colour
        What was done about the colours of the images, such as ``distorted: Display P3 to sRGB``;
        empty if nothing was.
    signature
        What decides the metric's values: two scores of equal signatures can be compared. Empty if
        the server does not say.
    """

    metric: str
    value: float
    higher_is_better: bool
    resolved: str
    map: ServedMap | None = None
    colour: str = ""
    signature: str = ""


Outcome = Union[ServedScore, ServeError]
Answer = Union[list[list[Outcome]], ServeError, OSError]


class Client:
    """A client of one model on one server, which any number of threads can use.

    It keeps its connections; close it, or use it in ``with``. A request is repeated, after a
    growing wait with jitter, if the server is busy or about to stop (503), or if the connection is
    lost; this is safe, since scoring has no side effects. Nothing else is repeated.

    Parameters
    ----------
    url
        The server's inference address, such as ``http://127.0.0.1:8080``.
    token
        An inference token, or a function that returns one, which is called again when a token is
        refused.
    model
        The model's name.
    timeout
        Seconds to wait for a connection, and for a reply.
    retries
        How many times a request is repeated.
    backoff
        Longest wait before the first retry, in seconds, doubled for each further one.
    longest_wait
        Longest wait before any retry, in seconds.
    verify
        For ``https``: the file of certificates to trust; by default the usual authorities.

    Raises
    ------
    ValueError
        If the token is invalid, or an option is out of range.
    """

    def __init__(
        self,
        url: str,
        token: Token,
        *,
        model: str = "iqa",
        timeout: tuple[float, float] = (5.0, 120.0),
        retries: int = 8,
        backoff: float = 0.25,
        longest_wait: float = 8.0,
        verify: str | Path | None = None,
    ) -> None:
        if retries < 0 or backoff <= 0 or longest_wait <= 0 or min(timeout) <= 0:
            raise ValueError(
                "expected retries of 0 or more, and backoff, longest_wait and timeout above 0"
            )
        self._address = f"{url.rstrip('/')}/predictions/{model}"
        self._ask_token = token if callable(token) else lambda: token
        self._token = _checked(self._ask_token())
        self._timeout = timeout
        self._retries, self._backoff, self._longest_wait = retries, backoff, longest_wait
        self._verify = True if verify is None else str(verify)
        self._idle: list[requests.Session] = []
        self._lock = threading.Lock()

    def score(
        self, reference: ImageFile, distorted: ImageFile, metric: str | None = None
    ) -> ServedScore:
        """Score one pair with one metric.

        Parameters
        ----------
        reference, distorted
            Bytes of image files, or their paths.
        metric
            A spec of the archive; by default its first one.

        Raises
        ------
        ServeError
            If the server refuses the request or can't be reached.
        OSError
            If a file can't be read.
        """
        ((outcome,),) = self.compare(reference, [distorted], [metric] if metric else [])
        if isinstance(outcome, ServeError):
            raise outcome
        return outcome

    def compare(
        self,
        reference: ImageFile,
        distorted: Sequence[ImageFile],
        metrics: Sequence[str] = (),
        *,
        maps: bool = False,
    ) -> list[list[Outcome]]:
        """Compare one reference with many distorted images in one request.

        Parameters
        ----------
        reference, distorted
            Bytes of image files, or their paths.
        metrics
            Specs of the archive; by default its first one.
        maps
            Whether to request the metrics' maps.

        Returns
        -------
        list
            For each distorted image a list with, for each metric, its score or the error.

        Raises
        ------
        ServeError
            If the whole request is refused, or the server can't be reached.
        OSError
            If a file can't be read.
        ValueError
            If there is no distorted image.
        """
        images = [_content(image) for image in (reference, *distorted)]
        body = self.ask(pack(images, metrics, maps=maps))
        if "results" not in body:
            raise _refusal(body)
        count = max(1, len(metrics))
        return [_outcomes(result, count) for result in body["results"]]

    def compare_many(
        self,
        jobs: Iterable[tuple[ImageFile, Sequence[ImageFile]]],
        metrics: Sequence[str] = (),
        *,
        maps: bool = False,
        in_flight: int = 8,
    ) -> Iterator[Answer]:
        """Compare many references with their distorted images, with several requests at a time.

        Parameters
        ----------
        jobs
            References and their distorted images; at most ``in_flight`` are read ahead of replies.
        metrics, maps
            As for :meth:`compare`.
        in_flight
            Most requests at a time.

        Yields
        ------
        list, ServeError or OSError
            What :meth:`compare` returns or raises, in the order of the jobs.

        Raises
        ------
        ValueError
            If ``in_flight`` is less than 1.
        """

        def run(job: tuple[ImageFile, Sequence[ImageFile]]) -> Answer:
            try:
                return self.compare(*job, metrics, maps=maps)
            except (ServeError, OSError) as error:
                return error

        return in_order(run, jobs, in_flight)

    def ask(self, request: bytes) -> dict[str, Any]:
        """Send a request packed by :func:`iqa_torchserve.container.pack`; return the reply's body.

        Raises
        ------
        ServeError
            If the reply is not one of this endpoint, or there is none.
        """
        tries, renewed = 0, False
        while True:
            token = self._token
            body, failure, again = self._attempt(request, token)
            if failure is None:
                return body
            if failure.code == "unauthorised" and not renewed and self._renew(token):
                renewed = True
                continue
            if not again or tries >= self._retries:
                raise failure
            # Full jitter, so that clients that were refused together do not return together.
            longest = min(self._longest_wait, self._backoff * 2**tries)
            time.sleep(random.uniform(0, longest))  # noqa: S311 - no secret
            tries += 1

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            for session in self._idle:
                session.close()
            self._idle.clear()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _attempt(
        self, request: bytes, token: str
    ) -> tuple[dict[str, Any], ServeError | None, bool]:
        """Return the endpoint's reply, or the error and whether to try again."""
        try:
            answer = self._post(request, token)
        except requests.RequestException as error:
            said = f"no reply from {self._address}: {error}"
            lost = isinstance(error, _LOST) and not isinstance(error, requests.exceptions.SSLError)
            return {}, ServeError(said, code="unreachable"), lost
        body = _json(answer)
        busy = answer.status_code == _BUSY
        # A proxy before the server may send codes, too; the endpoint's replies state their status.
        if not busy and ("results" in body or {"status", "code"} <= set(body)):
            return body, None, False
        return body, _refusal(body, answer), busy

    def _post(self, request: bytes, token: str) -> requests.Response:
        headers = {"Content-Type": CONTENT_TYPE}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        with self._session() as session:
            return session.post(
                self._address,
                data=request,
                headers=headers,
                timeout=self._timeout,
                verify=self._verify,
                allow_redirects=False,  # the token must not be sent elsewhere
            )

    @contextmanager
    def _session(self) -> Iterator[requests.Session]:
        """Lend a session that no other thread uses, and keep its connection afterwards."""
        with self._lock:
            session = self._idle.pop() if self._idle else None
        if session is None:
            session = requests.Session()
            # A proxy of the environment must not get this server's token.
            session.trust_env = False
        try:
            yield session
        finally:
            with self._lock:
                self._idle.append(session)

    def _renew(self, refused: str) -> bool:
        """Get the token again, and return whether it differs from the refused one."""
        try:
            token = _checked(self._ask_token())
        except (RuntimeError, OSError, ValueError):  # the key file may be being written
            return False
        with self._lock:
            self._token = token
        return token != refused


_LOST = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)
"""Errors of a lost connection. A timeout is not one: repeating it would only add to the load."""


def _outcomes(result: dict[str, Any], count: int) -> list[Outcome]:
    if "scores" not in result:
        return [_refusal(result)] * count
    colour = str(result.get("colour", ""))
    return [
        _refusal(score) if "code" in score else _score(score, colour) for score in result["scores"]
    ]


def _score(said: dict[str, Any], colour: str) -> ServedScore:
    map_ = said.get("map")
    return ServedScore(
        str(said["metric"]),
        # Values that JSON has no number for are text: "Infinity" for the PSNR of identical images.
        float(said["value"]),
        bool(said["higher_is_better"]),
        str(said["resolved"]),
        map_ and ServedMap(base64.b64decode(map_["png"]), float(map_["low"]), float(map_["high"])),
        colour,
        str(said.get("signature", "")),
    )


def _refusal(said: dict[str, Any], answer: requests.Response | None = None) -> ServeError:
    """Return the error that a reply, or a part of one, reports."""
    status = said.get("status") if answer is None else answer.status_code
    code = said.get("code")
    if not isinstance(code, str):
        code = _REFUSALS.get(status or 0, "busy" if status == _BUSY else "failed")
    reason = "" if answer is None else answer.reason
    message = str(said.get("message") or reason or "refused without giving a reason")
    return ServeError(message, code=code, status=status)


def _checked(token: str) -> str:
    if not token.isascii() or not token.isprintable():
        raise ValueError("token: expected plain ASCII text, as in the server's key file")
    return token


def _content(image: ImageFile) -> bytes:
    return image if isinstance(image, bytes) else Path(image).read_bytes()


def _json(answer: requests.Response) -> dict[str, Any]:
    with closing(answer):
        try:
            body = answer.json()
        except ValueError:
            return {}
    return body if isinstance(body, dict) else {}
