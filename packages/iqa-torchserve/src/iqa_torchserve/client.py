"""The client: sends pairs of images to a running server."""

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import requests


class ServeError(RuntimeError):
    """The server refused a request, or could not be reached.

    Attributes
    ----------
    code
        The reply's stable code, such as ``bad_image``; ``unreachable`` where none came,
        ``refused`` where TorchServe itself refused (token, queue, size).
    status
        The HTTP status, or None.
    """

    def __init__(self, message: str, *, code: str, status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


@dataclass(frozen=True)
class ServedScore:
    """A score from a server.

    Attributes
    ----------
    metric
        The spec that was asked for, or the archive's default.
    value
        The metric's value.
    higher_is_better
        The metric's direction.
    reply
        The whole reply.
    """

    metric: str
    value: float
    higher_is_better: bool
    reply: dict[str, Any]


class Client:
    """Talks to one model of one server. Keeps its connection; close it, or use it in ``with``.

    Parameters
    ----------
    url
        The server's inference address, such as ``http://127.0.0.1:8080``.
    token
        An inference token.
    model
        The model's name.
    timeout
        Seconds to wait for a connection, and for a reply.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        model: str = "iqa",
        timeout: tuple[float, float] = (5.0, 120.0),
    ) -> None:
        if not token.isascii() or not token.isprintable():
            raise ValueError("token: expected plain ASCII text, as in the server's key file")
        self._address = f"{url.rstrip('/')}/predictions/{model}"
        self._timeout = timeout
        self._session = requests.Session()
        # A proxy for the outside world has no business with this server's token.
        self._session.trust_env = False
        self._session.headers["Authorization"] = f"Bearer {token}"

    def score(
        self,
        reference: bytes | str | Path,
        distorted: bytes | str | Path,
        metric: str | None = None,
    ) -> ServedScore:
        """Score one pair.

        Parameters
        ----------
        reference, distorted
            Bytes of image files, or their paths.
        metric
            A spec that the archive holds; by default the archive's first.

        Raises
        ------
        ServeError
            If the server refuses or can't be reached.
        OSError
            If a file can't be read.
        """
        files = {
            name: (name, _content(image), "application/octet-stream")
            for name, image in (("reference", reference), ("distorted", distorted))
        }
        form = {} if metric is None else {"metric": metric}
        try:
            answer = self._session.post(
                self._address, files=files, data=form, timeout=self._timeout
            )
        except requests.RequestException as error:
            raise ServeError(
                f"no reply from {self._address}: {error}", code="unreachable"
            ) from error
        body = _json(answer)
        if answer.status_code != 200 or "value" not in body:
            code = body.get("code")
            raise ServeError(
                str(body.get("message") or answer.reason or "refused without a reason"),
                code=code if isinstance(code, str) else "refused",
                status=answer.status_code,
            )
        return ServedScore(
            # What JSON has no number for comes as text: "Infinity" for identical images' PSNR.
            str(body["metric"]),
            float(body["value"]),
            bool(body["higher_is_better"]),
            body,
        )

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _content(image: bytes | str | Path) -> bytes:
    return image if isinstance(image, bytes) else Path(image).read_bytes()


def _json(answer: requests.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
