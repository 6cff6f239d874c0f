"""The ``iqa-serve`` command."""

import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NoReturn, Optional

import typer
from rich.console import Console
from rich.markup import escape

from iqa_torchserve.config import DEFAULT_PORT, PORTS, ServerConfig, default_state_folder

app = typer.Typer(
    help="Serve perceptual image distances with TorchServe.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
_err = Console(stderr=True, emoji=False)

TOKEN_VARIABLE = "IQA_SERVE_TOKEN"  # noqa: S105 - its name
MODEL_STORE = Path("model_store")

StateOption = Annotated[
    Optional[Path], typer.Option(help="The server's own folder; one for each server.")
]


@app.command()
def build(
    metric: Annotated[
        Optional[list[str]],
        typer.Option("--metric", "-m", help="A spec to serve; the first is the default one."),
    ] = None,
    relevance: Annotated[
        Optional[list[Path]],
        typer.Option(help="Channel weights to serve, too, which 'iqa calibrate' wrote."),
    ] = None,
    name: Annotated[str, typer.Option(help="The model's name.")] = "iqa",
    version: Annotated[str, typer.Option(help="The model's version.")] = "1.0",
    out: Annotated[Path, typer.Option(help="The folder that it goes into.")] = MODEL_STORE,
    max_pixels: Annotated[
        Optional[int], typer.Option(help="Largest image that a worker decodes, in pixels.")
    ] = None,
) -> None:
    """Build a model archive: handler, metrics and weights in one file, always the same bytes."""
    with _refusals():
        from iqa_torchserve.archive import DEFAULT_METRICS, MAX_PIXELS, build_archive

        path = build_archive(
            out,
            name=name,
            version=version,
            metrics=metric or DEFAULT_METRICS,
            relevance=relevance or (),
            max_pixels=MAX_PIXELS if max_pixels is None else max_pixels,
        )
    print(path)


@app.command()
def start(
    archive: Annotated[Path, typer.Argument(help="The model archive.")] = MODEL_STORE / "iqa.mar",
    port: Annotated[
        int, typer.Option(help=f"First of {PORTS} ports; 0 finds free ones.")
    ] = DEFAULT_PORT,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    workers: Annotated[int, typer.Option(help="Worker processes.")] = 1,
    state: StateOption = None,
) -> None:
    """Start a server and wait until it is ready. It goes on after this command ends."""
    # Like Ctrl-C, a polite request to end must not leave a half-started server behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with _refusals():
        from iqa_torchserve import server

        config = ServerConfig(
            archive=archive,
            state=state or default_state_folder(),
            host=host,
            port=port or server.free_port(PORTS),
            workers=workers,
        )
        running = server.start(config)
    print(f"ready\t{running.inference_url}/predictions/{running.model}\tpid {running.pid}")
    _err.print(f"tokens are in {running.state / 'key_file.json'}", soft_wrap=True)


@app.command()
def stop(state: StateOption = None) -> None:
    """Stop the server and remove its tokens and temporary files."""
    with _refusals():
        from iqa_torchserve import server

        stopped = server.stop(state or default_state_folder())
    print("stopped" if stopped else "not running")


@app.command()
def status(state: StateOption = None) -> None:
    """Say whether the server runs; exit status 0 if a worker is ready, else 1."""
    with _refusals():
        from iqa_torchserve.server import RunningServer

        running = RunningServer.find(state or default_state_folder())
    if running is None:
        print("not running")
        raise typer.Exit(1)
    workers = running.worker_states()
    word = "ready" if "READY" in workers else "not ready"
    print(f"{word}\t{running.inference_url}/predictions/{running.model}\tpid {running.pid}")
    print(f"workers\t{', '.join(workers) or 'none'}")
    if word != "ready":
        raise typer.Exit(1)


@app.command()
def score(
    reference: Annotated[Path, typer.Argument(help="The undistorted image.")],
    distorted: Annotated[Path, typer.Argument(help="The image to judge.")],
    metric: Annotated[
        Optional[list[str]],
        typer.Option("--metric", "-m", help="A spec; may be given several times."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the replies as JSON.")] = False,
    url: Annotated[
        Optional[str],
        typer.Option(
            help=f"Inference address of a server elsewhere; {TOKEN_VARIABLE} holds its token."
        ),
    ] = None,
    model: Annotated[str, typer.Option(help="The model's name there.")] = "iqa",
    state: StateOption = None,
) -> None:
    """Score one pair of images with a running server."""
    from iqa_torchserve.client import Client, ServeError

    with _refusals():
        url, token, model = _address(url, model, state)
        client = Client(url, token, model=model)
    replies, failed = [], False
    with client:
        specs: list[str | None] = [*metric] if metric else [None]
        for spec in specs:
            try:
                served = client.score(reference, distorted, spec)
            except ServeError as error:
                failed = True
                _err.print(f"[red]error[/red] {error.code}: {escape(str(error))}", soft_wrap=True)
            except OSError as error:
                _stop(f"{error.filename}: can't be read ({error.strerror})")
            else:
                replies.append(served.reply)
                if not as_json:
                    better = "higher" if served.higher_is_better else "lower"
                    print(f"{served.metric}\t{served.value:.6g}\t{better} is better")
    if as_json:
        print(json.dumps(replies, indent=2, allow_nan=False))
    if failed:
        raise typer.Exit(1)


def _address(url: str | None, model: str, state: Path | None) -> tuple[str, str, str]:
    token = os.environ.get(TOKEN_VARIABLE)
    if url is not None:
        if not token:
            raise ValueError(f"--url needs an inference token in {TOKEN_VARIABLE}")
        return url, token, model
    from iqa_torchserve.server import RunningServer

    running = RunningServer.find(state or default_state_folder())
    if running is None:
        raise ValueError("no server runs here; 'iqa-serve start' starts one, --url names another")
    return running.inference_url, token or running.token(), running.model


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Print our own errors as one line; anything else is a bug and keeps its trace."""
    from iqa_torchserve.archive import ArchiveError
    from iqa_torchserve.java import JavaError
    from iqa_torchserve.server import ServerError

    try:
        yield
    except (ValueError, ArchiveError, JavaError, ServerError) as error:
        _stop(str(error))


def _stop(message: str) -> NoReturn:
    _err.print(f"[red]error[/red] {escape(message)}", soft_wrap=True)
    raise typer.Exit(2)


if __name__ == "__main__":
    app()
