"""Model archives, which TorchServe loads and which contain everything that scoring needs.

An archive (``.mar``, a zip file) contains the handler, its configuration, the metrics' specs, and
the weights of their backbones as safetensors, so that a server needs no internet access. The same
specs and weights give the same bytes: entries are sorted, stored uncompressed, and have a fixed
date.

Code of plug-in packages is not included. The archive lists these packages and their versions, and
they must be installed where it is loaded.
"""

import hashlib
import json
import os
import re
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import iqa_metrics  # as a module: it loads torch only when one of its names is used
from iqa_torchserve import __version__, plugins
from iqa_torchserve.limits import Limits

if TYPE_CHECKING:
    from torch import Tensor

    from iqa_metrics import Metric, Needs

HANDLER = "full_reference.py"
MODEL_CONFIG = "model-config.yaml"
CONTENTS = "iqa-archive.json"
MANIFEST = "MAR-INF/MANIFEST.json"
FORMAT = 3

DEFAULT_METRICS = ("default", "psnr", "ssim")
# What zipfile raises for a damaged file; NotImplementedError is a RuntimeError.
_BROKEN = (OSError, RuntimeError, ValueError, EOFError, zlib.error, zipfile.BadZipFile)
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date of the zip format


class ArchiveError(RuntimeError):
    """A model archive that can't be built, or that is missing, incomplete or damaged."""

    code = "bad_archive"


@dataclass(frozen=True)
class Contents:
    """An archive's description of its contents.

    Attributes
    ----------
    name, version
        Name and version of the model.
    metrics
        Specs. The first one is used where a request names none.
    limits
        The limits of requests and of the server.
    files
        Names of the files that scoring reads, and their SHA-256.
    channel_weights
        The files of learned channel weights, by the specs of the metrics that have some.
    plugins
        Names and versions of the plug-in packages that the metrics need.
    """

    name: str
    version: str
    metrics: tuple[str, ...]
    limits: Limits
    files: Mapping[str, str]
    channel_weights: Mapping[str, str] = field(default_factory=dict)
    plugins: Mapping[str, str] = field(default_factory=dict)


def build_archive(
    folder: Path,
    *,
    name: str = "iqa",
    version: str = "1.0",
    metrics: Sequence[str] = DEFAULT_METRICS,
    channel_weights: Sequence[str | Path] = (),
    limits: Limits | None = None,
) -> Path:
    """Build a model archive and return its path, ``folder/NAME.mar``.

    Parameters
    ----------
    folder
        The folder to write to, which is created if missing. An archive of the same name is replaced
        atomically.
    name
        The model's name in the server's URLs: letters, digits, ``-`` and ``_``.
    version
        The model's version: digits separated by dots, such as ``1.2``.
    metrics
        Specs of the metrics that the archive serves, the default one first.
    channel_weights
        Files written by ``iqa channel-weights learn``. Their metrics are served as well, under
        their specs.
    limits
        The limits of requests and of the server; by default those of :class:`Limits`.

    Raises
    ------
    ArchiveError
        If the name or version is invalid, there are no metrics, a backbone's weights are missing,
        or a metric needs something that was registered outside of a plug-in package.
    UnknownNameError
        If a spec contains an unknown name.
    """
    _check_name(name, version)
    if not (metrics or channel_weights):
        raise ArchiveError("metrics: expected at least one spec, got none")
    specs = tuple(dict.fromkeys(str(iqa_metrics.parse_spec(spec)) for spec in metrics))
    learned = _learned(channel_weights, specs)
    try:
        needed = plugins.needed([*specs, *learned])
    except iqa_metrics.PluginError as error:
        raise ArchiveError(str(error)) from error
    entries = {file: (handlers_folder() / file).read_bytes() for file in (HANDLER, MODEL_CONFIG)}
    packed = [_packed(spec) for spec in specs] + [_packed_trunk(spec) for spec in learned]
    for file, pack in (item for files in packed for item in files.items()):
        if file not in entries:
            entries[file] = pack()
    names = {spec: f"channel-weights-{at}.safetensors" for at, spec in enumerate(learned, start=1)}
    entries |= {names[spec]: data for spec, data in learned.items()}
    entries[CONTENTS] = _json_bytes(
        {
            "format": FORMAT,
            "name": name,
            "version": version,
            "metrics": [*specs, *learned],
            **({"channel_weights": names} if names else {}),
            **({"plugins": needed} if needed else {}),
            "limits": (limits or Limits()).as_json(),
            "made_with": {"iqa_metrics": iqa_metrics.__version__, "iqa_torchserve": __version__},
            "files": {file: hashlib.sha256(data).hexdigest() for file, data in entries.items()},
        }
    )
    entries[MANIFEST] = _manifest(name, version)
    path = folder / f"{name}.mar"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_zip(path, entries)
    except OSError as error:
        raise ArchiveError(f"{path} can't be written: {error}") from error
    return path


def read_contents(folder: Path) -> Contents:
    """Read the description of an unpacked archive, and check the hashes of its files.

    Raises
    ------
    ArchiveError
        If the folder is not an archive built by this package, or a file is missing or damaged.
    """
    try:
        return _checked_contents({path.name: path.read_bytes for path in folder.iterdir()})
    except (OSError, ArchiveError) as error:
        raise ArchiveError(f"{folder}: {error}") from error


def check_archive(path: Path) -> Contents:
    """Check a packed archive, as :func:`read_contents` an unpacked one. Raises ArchiveError."""
    if not path.is_file():
        raise ArchiveError(f"{path} does not exist; 'iqa-serve build' makes it")
    try:
        with zipfile.ZipFile(path) as mar:
            names = mar.namelist()
            contents = _checked_contents({name: partial(mar.read, name) for name in names})
            if sorted(names) != sorted({*contents.files, CONTENTS, MANIFEST}):
                raise ArchiveError(f"{path} contains other files than {CONTENTS} lists")
            if mar.read(MANIFEST) != _manifest(contents.name, contents.version):
                raise ArchiveError(f"{path}: {MANIFEST} is damaged")
            return contents
    except _BROKEN as error:
        raise ArchiveError(f"{path}: {error}; build it again with 'iqa-serve build'") from error


def unpack_archive(path: Path, folder: Path) -> Contents:
    """Check a packed archive and unpack it into a folder. Raises ArchiveError."""
    contents = check_archive(path)
    try:
        with zipfile.ZipFile(path) as mar:
            for name in (*contents.files, CONTENTS):
                mar.extract(name, folder)
    except _BROKEN as error:
        raise ArchiveError(f"{path} can't be unpacked: {error}") from error
    return contents


def weights_of(contents: Contents) -> dict[str, dict[str, str]]:
    """Return the files that each metric of an archive reads, with their SHA-256."""
    found = {}
    for spec in contents.metrics:
        names = [*_names(iqa_metrics.needs(spec)), contents.channel_weights.get(spec)]
        found[spec] = {name: contents.files[name] for name in names if name is not None}
    return found


def load_metrics(folder: Path, contents: Contents) -> "dict[str, Metric]":
    """Create the metrics of an unpacked archive; metrics with the same backbone share it.

    Raises
    ------
    ArchiveError
        If a plug-in package that a metric needs is missing or can't be loaded.
    """
    from iqa_metrics.metrics.together import can_share, share_network

    check_plugins(contents)
    metrics: dict[str, iqa_metrics.Metric] = {}
    for spec in contents.metrics:
        weights, calibration = _names(iqa_metrics.needs(spec))
        if spec in contents.channel_weights:
            metrics[spec] = _weighted(spec, folder, contents.channel_weights[spec])
            continue
        metrics[spec] = iqa_metrics.create_metric(
            spec,
            weights=folder / weights if weights else None,
            calibration=folder / calibration if calibration else None,
        )
    by_network: dict[str, list[str]] = {}
    for spec, metric in metrics.items():
        if can_share(metric):
            by_network.setdefault(iqa_metrics.needs(spec).backbone or "", []).append(spec)
    for network, specs in by_network.items():
        if len(specs) > 1:
            weights, _ = _names(iqa_metrics.needs(specs[0]))
            file = folder / weights if weights else None
            share_network([metrics[s] for s in specs], iqa_metrics.backbone(network), file)  # type: ignore[misc]
    return metrics


def check_plugins(contents: Contents) -> None:
    """Check that the plug-in packages that an archive's metrics need are installed.

    Raises
    ------
    ArchiveError
        If one is missing or can't be loaded; the message says what to install.
    """
    try:
        plugins.check(contents.plugins, contents.metrics)
    except iqa_metrics.PluginError as error:
        raise ArchiveError(f"{contents.name} {contents.version}: {error}") from error


def _weighted(spec: str, folder: Path, file: str) -> "Metric":
    """Create a metric with learned channel weights, using the archive's own backbone."""
    from iqa_metrics.channel_weights import read_channel_weights

    needs = iqa_metrics.needs(spec)
    weights, _ = _names(needs)
    if weights is None or needs.backbone is None:
        raise ArchiveError(f"{file}: {spec} has no backbone")
    trunk = iqa_metrics.backbone(needs.backbone).network(folder / weights)
    metric: Metric = read_channel_weights(folder / file, trunk=trunk).metric
    return metric


def handlers_folder() -> Path:
    """Return the folder of the handler files, in the installed package or in the repository."""
    here = Path(__file__).resolve()
    for folder in (here.parent / "handlers", here.parents[4] / "handlers"):
        if (folder / HANDLER).is_file():
            return folder
    raise ArchiveError(f"{HANDLER} is missing from this installation; install iqa-torchserve again")


def _check_name(name: str, version: str) -> None:
    """Raise ArchiveError unless a model's name and version fit into URLs and file names."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ArchiveError(f"model name {name!r}: expected only letters, digits, - and _")
    if not re.fullmatch(r"[0-9]+(\.[0-9]+){0,3}", version, re.ASCII):
        raise ArchiveError(f"version {version!r}: expected digits and dots, such as 1.2")


def _names(needs: "Needs") -> tuple[str | None, str | None]:
    """Return the names of a metric's weights and calibration files in an archive."""
    weights, calibration = needs.backbone, needs.calibration
    return (
        None if weights is None else f"{weights.replace(':', '-')}.safetensors",
        None if calibration is None else f"{Path(calibration.filename).stem}.safetensors",
    )


def _packed(spec: str) -> dict[str, Callable[[], bytes]]:
    """Return the files that a metric needs, each with a function that returns its content."""
    from iqa_metrics.weights.checkpoints import read_state_dict

    try:
        iqa_metrics.create_metric(spec)  # a metric that fails here would fail on the server
    except (ValueError, iqa_metrics.WeightsError) as error:
        raise ArchiveError(f"metric {spec}: {error}") from error
    needs = iqa_metrics.needs(spec)
    files = _packed_trunk(spec)
    _, calibration = _names(needs)
    if calibration and needs.calibration:
        file = needs.calibration
        files[calibration] = lambda: _as_safetensors(read_state_dict(file.verified()))
    return files


def _packed_trunk(spec: str) -> dict[str, Callable[[], bytes]]:
    """Return the file of a metric's backbone, if it has one, with a function for its content."""
    needs = iqa_metrics.needs(spec)
    weights, _ = _names(needs)
    if weights is None or needs.backbone is None:
        return {}
    trunk = iqa_metrics.backbone(needs.backbone)
    return {weights: lambda: _as_safetensors(trunk.network().state_dict())}


def _learned(files: Sequence[str | Path], specs: Sequence[str]) -> dict[str, bytes]:
    """Return the content of files of channel weights, by the specs of their metrics."""
    from iqa_metrics.channel_weights import read_channel_weights

    found: dict[str, bytes] = {}
    for file in files:
        try:
            # What can't be read here could not be read on the server either.
            spec = read_channel_weights(file).metric.name
            data = Path(file).read_bytes()
        except (OSError, ValueError, iqa_metrics.WeightsError) as error:
            raise ArchiveError(f"channel weights {file}: {error}") from error
        if spec in found or spec in specs:
            raise ArchiveError(f"channel weights {file}: there is already a metric {spec}")
        found[spec] = data
    return found


def _as_safetensors(state: "Mapping[str, Tensor]") -> bytes:
    from safetensors.torch import save

    return save({key: tensor.contiguous() for key, tensor in state.items()})


def _manifest(name: str, version: str) -> bytes:
    """Return the manifest, which TorchServe reads first."""
    model = {
        "modelName": name,
        "modelVersion": version,
        "handler": HANDLER,
        "configFile": MODEL_CONFIG,
    }
    return _json_bytes({"runtime": "python", "archiverVersion": "0.12.0", "model": model})


def _json_bytes(data: object) -> bytes:
    return (json.dumps(data, indent=2, sort_keys=True) + "\n").encode()


def _checked_contents(files: Mapping[str, Callable[[], bytes]]) -> Contents:
    def read(name: str) -> bytes:
        if name not in files:
            raise ArchiveError(f"{name} is missing")
        return files[name]()

    try:
        said = json.loads(read(CONTENTS))
        if said["format"] != FORMAT:
            raise ArchiveError(f"format {said['format']}, expected {FORMAT}")
        contents = Contents(
            str(said["name"]),
            str(said["version"]),
            tuple(said["metrics"]),
            Limits.from_json(said["limits"]),
            dict(said["files"]),
            dict(said.get("channel_weights", {})),
            dict(said.get("plugins", {})),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ArchiveError(f"{CONTENTS} can't be read ({error})") from error
    _check_name(contents.name, contents.version)
    unknown = set(contents.channel_weights.values()) - set(contents.files)
    if unknown:
        raise ArchiveError(f"{CONTENTS} has no hash of {', '.join(sorted(unknown))}")
    for name, sha256 in contents.files.items():
        if hashlib.sha256(read(name)).hexdigest() != sha256:
            raise ArchiveError(f"{name} is damaged: its SHA-256 is not {sha256}")
    return contents


def _write_zip(path: Path, entries: Mapping[str, bytes]) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w") as mar:
            for name in sorted(entries):
                entry = zipfile.ZipInfo(name, _EPOCH)
                entry.create_system = 3  # Unix, wherever it is built
                entry.external_attr = 0o100644 << 16
                mar.writestr(entry, entries[name], zipfile.ZIP_STORED)
        Path(temporary).chmod(0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink()
        raise
