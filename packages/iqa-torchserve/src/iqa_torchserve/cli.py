"""The ``iqa-serve`` command."""

import contextlib
import json
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, Optional

import typer
from rich.console import Console
from rich.markup import escape

from iqa_metrics.cli.versions import VersionOption, print_warnings_plainly
from iqa_torchserve.config import DEFAULT_PORT, PORTS, ServerConfig, default_state_folder

if TYPE_CHECKING:
    from iqa_torchserve.client import Client
    from iqa_torchserve.running import RunningServer

app = typer.Typer(
    help="Serve perceptual image distances with TorchServe.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
_err = Console(stderr=True, emoji=False)

TOKEN_VARIABLE = "IQA_SERVE_TOKEN"  # noqa: S105 - its name
MODEL_STORE = Path("model_store")
EXIT_FAILED, EXIT_USAGE, EXIT_STOPPED = 1, 2, 130

StateOption = Annotated[
    Optional[Path], typer.Option(help="The server's state folder; each server has its own.")
]
MetricOption = Annotated[
    Optional[list[str]],
    typer.Option("--metric", "-m", help="A spec; may be repeated."),
]


@app.callback()
def main(version: VersionOption = False) -> None:
    """Serve perceptual image distances with TorchServe."""
    print_warnings_plainly()


@app.command()
def build(
    metric: Annotated[
        Optional[list[str]],
        typer.Option("--metric", "-m", help="A spec to serve; the first one is the default."),
    ] = None,
    channel_weights: Annotated[
        Optional[list[Path]],
        typer.Option(help="A file of 'iqa channel-weights learn', whose metric is served as well."),
    ] = None,
    name: Annotated[str, typer.Option(help="The model's name.")] = "iqa",
    version: Annotated[str, typer.Option(help="The model's version, such as 1.2.")] = "1.0",
    out: Annotated[Path, typer.Option(help="The folder to write to.")] = MODEL_STORE,
    limit: Annotated[
        Optional[list[str]],
        typer.Option(
            help="NAME=NUMBER, such as pixels=1000000; 'iqa-serve check' lists all limits."
        ),
    ] = None,
) -> None:
    """Build a model archive: handler, metrics and weights in one reproducible file."""
    with _refusals():
        from iqa_torchserve.archive import DEFAULT_METRICS, build_archive
        from iqa_torchserve.limits import Limits

        path = build_archive(
            out,
            name=name,
            version=version,
            metrics=metric or DEFAULT_METRICS,
            channel_weights=channel_weights or (),
            limits=Limits.parse(limit or []),
        )
    print(path)


@app.command()
def check(
    archive: Annotated[Path, typer.Argument(help="The model archive.")] = MODEL_STORE / "iqa.mar",
) -> None:
    """Load an archive without a server, and print what it offers as JSON."""
    with _refusals():
        from iqa_torchserve.archive import unpack_archive
        from iqa_torchserve.scorer import Scorer

        with tempfile.TemporaryDirectory(prefix="iqa-check-") as folder:
            unpack_archive(archive, Path(folder))
            said = Scorer.from_archive(Path(folder)).describe()
    print(json.dumps(said, indent=2))


@app.command()
def start(
    archive: Annotated[Path, typer.Argument(help="The model archive.")] = MODEL_STORE / "iqa.mar",
    port: Annotated[
        int, typer.Option(help=f"First of {PORTS} ports; 0 finds free ones.")
    ] = DEFAULT_PORT,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    workers: Annotated[int, typer.Option(help="Worker processes.")] = 1,
    queue: Annotated[int, typer.Option(help="Requests that may wait.")] = 32,
    token_minutes: Annotated[
        int, typer.Option(help="How long tokens are valid.", show_default="a week")
    ] = 7 * 24 * 60,
    no_tokens: Annotated[
        bool, typer.Option("--no-tokens", help="Accept requests without tokens; loopback only.")
    ] = False,
    tls_certificate: Annotated[
        Optional[Path], typer.Option(help="Certificate (chain) in PEM, to serve HTTPS.")
    ] = None,
    tls_key: Annotated[
        Optional[Path], typer.Option(help="The certificate's RSA key in PEM.")
    ] = None,
    drain_seconds: Annotated[
        float, typer.Option(help="How long a stop waits for requests in progress.")
    ] = 20,
    foreground: Annotated[
        bool,
        typer.Option("--foreground", help="Wait for SIGTERM or Ctrl-C, then stop the server."),
    ] = False,
    state: StateOption = None,
) -> None:
    """Start a server and wait until it is ready. It keeps running after this command ends."""
    _end_politely()
    with _refusals():
        from iqa_torchserve import server

        config = ServerConfig(
            archive=archive,
            state=state or default_state_folder(),
            host=host,
            port=port or server.free_port(PORTS),
            workers=workers,
            queue=queue,
            tokens=not no_tokens,
            token_minutes=token_minutes,
            tls_certificate=tls_certificate,
            tls_key=tls_key,
            drain_seconds=drain_seconds,
        )
        running = server.start(config)
    _print_ready(running)
    if config.tokens:
        _err.print(f"tokens are in {running.state / 'key_file.json'}", soft_wrap=True)
    if foreground:
        _stay(running)


@app.command()
def stop(
    state: StateOption = None,
    now: Annotated[
        bool, typer.Option("--now", help="Do not wait for requests in progress.")
    ] = False,
) -> None:
    """Finish requests in progress, stop the server, and remove its tokens and temporary files."""
    _end_politely()
    with _refusals():
        from iqa_torchserve import server

        stopped = server.stop(state or default_state_folder(), 0 if now else None)
    print("stopped" if stopped else "not running")


@app.command()
def restart(
    archive: Annotated[
        Optional[Path], typer.Argument(help="Another archive; by default the same one.")
    ] = None,
    state: StateOption = None,
) -> None:
    """Restart the server as it was, or upgrade it to another archive.

    The new archive is tried out while the old one still serves. If the server does not get ready
    with it, the old archive is served again. A restart makes new tokens.
    """
    _end_politely()
    with _refusals():
        from iqa_torchserve import server

        running = server.restart(state or default_state_folder(), archive)
    _print_ready(running)


@app.command()
def rollback(state: StateOption = None) -> None:
    """Go back to the archive that was served before."""
    _end_politely()
    with _refusals():
        from iqa_torchserve import server

        running = server.roll_back(state or default_state_folder())
    _print_ready(running)


@app.command()
def renew(state: StateOption = None) -> None:
    """Make new tokens; the old ones become invalid immediately."""
    with _refusals():
        from iqa_torchserve import server

        running = _running(state)
        server.renew_tokens(running)
    print(running.state / "key_file.json")


@app.command()
def status(
    state: StateOption = None,
    describe: Annotated[
        bool, typer.Option("--describe", help="Also ask a worker to describe itself.")
    ] = False,
) -> None:
    """Show whether the server runs; exit status 0 if a worker is ready (and answers), else 1."""
    with _refusals():
        from iqa_torchserve.running import RunningServer
        from iqa_torchserve.state import ServerError

        running = RunningServer.find(state or default_state_folder())
    if running is None:
        print("not running")
        raise typer.Exit(EXIT_FAILED)
    facts = running.model_facts()
    states = [str(worker.get("status")) for worker in facts.get("workers", [])]
    ready = "READY" in states
    _print_ready(running, "ready" if ready else "not ready")
    print(f"workers\t{', '.join(states) or 'none'}")
    print(f"waiting\t{facts.get('jobQueueStatus', {}).get('pendingRequests', 'unknown')}")
    if ready and describe:
        try:
            print(json.dumps(running.describe(), indent=2))
        except ServerError as error:
            _err.print(f"[red]error[/red] {escape(str(error))}", soft_wrap=True)
            ready = False
    if not ready:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def logs(
    which: Annotated[
        str, typer.Argument(help="requests, worker, server, access or console.")
    ] = "requests",
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, help="How many lines to print.")
    ] = 20,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Keep printing new lines.")
    ] = False,
    state: StateOption = None,
) -> None:
    """Print the last lines of a log. Requests are one JSON object per line."""
    from iqa_torchserve.logs import followed, last_lines, log_file

    with _refusals():
        path = log_file(state or default_state_folder(), which)
        for line in last_lines(path, which, lines):
            print(line)
    if follow:
        with contextlib.suppress(KeyboardInterrupt):
            for line in followed(path, which):
                print(line, flush=True)


@app.command()
def score(
    reference: Annotated[Optional[Path], typer.Argument(help="The reference image.")] = None,
    distorted: Annotated[Optional[Path], typer.Argument(help="The distorted image.")] = None,
    metric: MetricOption = None,
    pairs: Annotated[
        Optional[Path],
        typer.Option(
            help="CSV with the columns reference and distorted; other columns are copied."
        ),
    ] = None,
    out: Annotated[Optional[Path], typer.Option(help="The CSV file that --pairs writes.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume a stopped run, keeping the rows in --out.")
    ] = False,
    in_flight: Annotated[
        int, typer.Option(min=1, help="Number of simultaneous requests, with --pairs.")
    ] = 8,
    as_json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON.")] = False,
    url: Annotated[
        Optional[str],
        typer.Option(
            help=f"Inference address of another server, whose token is in {TOKEN_VARIABLE}."
        ),
    ] = None,
    model: Annotated[str, typer.Option(help="The model's name on that server.")] = "iqa",
    verify: Annotated[
        Optional[Path], typer.Option(help="For https: the certificates to trust, in PEM.")
    ] = None,
    state: StateOption = None,
) -> None:
    """Score one pair of images, or a CSV table of pairs, with a running server.

    Exit status: 0 if all scores were computed, 1 if some could not be, 2 for wrong usage, 130 if
    stopped by Ctrl-C.
    """
    if pairs is None and (reference is None or distorted is None):
        _stop("expected REFERENCE and DISTORTED, or --pairs FILE")
    if pairs is not None and (reference is not None or out is None or as_json):
        _stop("--pairs needs --out FILE, and excludes single images and --json")
    if pairs is None and (out is not None or resume):
        _stop("--out and --resume need --pairs; redirect the output instead")
    with _refusals():
        client = _client(url, model, verify, state)
        if pairs is not None and not metric:
            metric = [_first_metric(url, state)]
    with client:
        if pairs is not None and out is not None:
            _score_table(client, pairs, out, metric or [], resume, in_flight)
        elif reference is not None and distorted is not None:
            _score_pair(client, reference, distorted, metric or [], as_json)


def _score_pair(
    client: "Client", reference: Path, distorted: Path, metrics: list[str], as_json: bool
) -> None:
    from iqa_metrics.scoring.scores import json_number
    from iqa_torchserve.client import ServeError

    try:
        (outcomes,) = client.compare(reference, [distorted], metrics)
    except ServeError as error:
        outcomes = [error]
    except OSError as error:
        _stop(f"{error.filename}: can't be read ({error.strerror})")
    scores: list[dict[str, Any]] = []
    failed = False
    for outcome in outcomes:
        if isinstance(outcome, ServeError):
            failed = True
            _err.print(f"[red]error[/red] {outcome.code}: {escape(str(outcome))}", soft_wrap=True)
            continue
        scores.append(
            {
                "metric": outcome.metric,
                "resolved": outcome.resolved,
                "value": json_number(outcome.value),
                "higher_is_better": outcome.higher_is_better,
                "colour": outcome.colour or None,
                "signature": outcome.signature or None,
            }
        )
        if not as_json:
            better = "higher" if outcome.higher_is_better else "lower"
            colours = f"\t{outcome.colour}" if outcome.colour else ""
            print(f"{outcome.metric}\t{outcome.value:.6g}\t{better} is better{colours}")
    if not as_json:
        for signature in dict.fromkeys(score["signature"] for score in scores):
            if signature:
                print(f"# {signature}")
    if as_json:
        print(json.dumps(scores, indent=2, allow_nan=False))
    if failed:
        raise typer.Exit(EXIT_FAILED)


def _score_table(
    client: "Client",
    pairs: Path,
    out: Path,
    metrics: list[str],
    resume: bool,
    in_flight: int,
) -> None:
    from iqa_metrics import score_table
    from iqa_metrics.cli.console import RowProgress, finish, stopped
    from iqa_torchserve.client import ServeError
    from iqa_torchserve.served_tables import ServedScorer

    progress = RowProgress()
    try:
        with _refusals(), progress:
            scored = score_table(
                pairs,
                out,
                metrics,
                resume=resume,
                scorer=ServedScorer(client, in_flight=in_flight),
                progress=progress,
            )
    except KeyboardInterrupt:
        stopped(str(out), progress)
    except ServeError as error:
        _err.print(
            f"[red]error[/red] {error.code}: {escape(str(error))}\n{escape(str(out))} keeps its "
            "rows; resume it with --resume",
            soft_wrap=True,
        )
        raise typer.Exit(EXIT_FAILED) from None
    finish(scored.rows, scored.failed, str(out))


def _client(url: str | None, model: str, verify: Path | None, state: Path | None) -> "Client":
    from iqa_torchserve.client import Client

    token = os.environ.get(TOKEN_VARIABLE)
    if url is not None:
        if not token:
            raise ValueError(f"--url needs an inference token in {TOKEN_VARIABLE}")
        return Client(url, token, model=model, verify=verify)
    running = _running(state)
    if verify is None:
        verify = running.config.tls_certificate  # a self-signed certificate can be verified by it
    ask: Any = token or running.token
    return Client(running.inference_url, ask, model=running.model, verify=verify)


def _first_metric(url: str | None, state: Path | None) -> str:
    """Return the archive's default metric, since a table's rows contain the metric's name."""
    if url is not None:
        raise ValueError("--pairs with --url needs --metric SPEC, for the column 'metric'")
    return str(_running(state).describe()["metrics"][0]["metric"])


def _running(state: Path | None) -> "RunningServer":
    from iqa_torchserve.running import RunningServer

    running = RunningServer.find(state or default_state_folder())
    if running is None:
        raise ValueError(
            "no server is running here; start one with 'iqa-serve start', or use --url for another"
        )
    return running


def _end_politely() -> None:
    """Make SIGTERM raise an exception, as Ctrl-C does, so that no half-started server is left.

    Python ignores an exception raised in a finalizer. A SIGTERM that arrives there is sent again.
    """
    report = sys.unraisablehook

    def send_again(ignored: "sys.UnraisableHookArgs") -> None:
        if isinstance(ignored.exc_value, SystemExit):
            threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGTERM)).start()
        else:
            report(ignored)

    sys.unraisablehook = send_again
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def _print_ready(running: "RunningServer", word: str = "ready") -> None:
    address = f"{running.inference_url}/predictions/{running.model}"
    print(f"{word}\t{address}\tversion {running.version}\tpid {running.pid}", flush=True)


def _stay(running: "RunningServer") -> None:
    """Wait for a signal or for the server's end, then stop the server."""
    from iqa_torchserve import server
    from iqa_torchserve.state import is_locked

    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    # Another command may restart the server in the meantime.
    while running.find(running.state) is not None or is_locked(running.state):
        if asked.wait(0.5):
            break
        if os.getpid() == 1:  # in a container, process 1 has to reap orphaned processes
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
    with _refusals():
        stopped = running.described(running.state) is None  # by another command
        server.stop(running.state)
    if not (asked.is_set() or stopped):
        _stop(f"TorchServe ended; see {running.state / 'logs'} for the reason", EXIT_FAILED)


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Print the package's own errors as one line; any other error is a bug and keeps its trace."""
    from iqa_torchserve.archive import ArchiveError
    from iqa_torchserve.java import JavaError
    from iqa_torchserve.state import ServerError

    try:
        yield
    except (ValueError, ArchiveError, JavaError, ServerError) as error:
        _stop(str(error))


def _stop(message: str, status: int = EXIT_USAGE) -> NoReturn:
    _err.print(f"[red]error[/red] {escape(message)}", soft_wrap=True)
    raise typer.Exit(status)


if __name__ == "__main__":
    app()
