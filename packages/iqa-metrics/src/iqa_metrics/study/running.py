"""Run a study: measure or resume, write the table of distances, and analyse it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout

from iqa_metrics.compute.devices import pick_device
from iqa_metrics.io.atomic import is_unfinished
from iqa_metrics.metrics import Metric
from iqa_metrics.readouts import ELEMENTS
from iqa_metrics.study.analysis import Analysis, analyse
from iqa_metrics.study.description import (
    DESCRIPTION,
    DescribedBaseline,
    DescribedNetwork,
    Description,
)
from iqa_metrics.study.distances import (
    DISTANCES,
    DistancesWriter,
    Pairs,
    Series,
    written_distances,
)
from iqa_metrics.study.facts import (
    described_baseline,
    described_database,
    described_network,
    made_with,
)
from iqa_metrics.study.measuring import (
    Keys,
    Measuring,
    Progress,
    backbone_reader,
    baseline_reader,
    pairs_of,
)
from iqa_metrics.study.plan import WEIGHTED, Network, Plan
from iqa_metrics.study.plan_memory import check_memory
from iqa_metrics.study.settings import PlanError
from iqa_metrics.study.store import Block, Store
from iqa_metrics.study.weighted import weighted_distances

PARTS = "parts"
_LOCK = ".lock"


@dataclass(frozen=True)
class Finished:
    """A study that has run.

    Attributes
    ----------
    folder
        The folder with its tables.
    rows, failed
        The number of distances, and how many of them failed.
    reasons
        For failed pairs, the reason of the first failure in each, every reason once.
    analysis
        The results.
    """

    folder: Path
    rows: int
    failed: int
    reasons: tuple[str, ...]
    analysis: Analysis


def run_study(
    plan: Plan,
    folder: str | Path,
    *,
    device: str = "auto",
    workers: int | None = None,
    progress: Progress | None = None,
    analysing: Callable[[int, int], None] | None = None,
) -> Finished:
    """Measure what a plan asks for and is not in the folder yet, and analyse it.

    Parameters
    ----------
    plan
        The plan.
    folder
        The folder to write: ``distances.parquet``, ``study.json`` and the tables of
        :func:`iqa_metrics.study.analyse`. Measurements are kept in ``parts/`` under hashes of
        everything that determines them. A run that was stopped at any moment is therefore resumed,
        and a changed plan only measures what is new.
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    workers
        Number of threads that decode images; by default one for each CPU core.
    progress, analysing
        Show the progress of measuring, and of the statistics; see
        :class:`iqa_metrics.study.measuring.Progress` and :func:`iqa_metrics.study.analyse`.

    Raises
    ------
    PlanError
        If the plan would not fit into memory, if another run is writing to the folder, or if the
        folder can't be written to.
    WeightsError
        If the weights of a backbone or baseline are missing or damaged.
    """
    check_memory(plan)
    root = Path(folder)
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(root / _LOCK)
        lock.acquire(timeout=0)
    except Timeout:
        raise PlanError(
            f"{root}: another run is writing to this folder; wait for it, or stop it"
        ) from None
    except OSError as error:
        raise PlanError(f"{root}: can't be written to: {error.strerror}") from error
    with lock:
        try:
            _sweep(root)
            study = _Study(plan, root, pick_device(device), workers, progress)
            study.measure()
            rows, failed = study.write()
            return Finished(root, rows, failed, study.reasons, analyse(root, analysing))
        except OSError as error:  # such as a full disk; an unreadable image is a row instead
            raise PlanError(
                f"{error.filename or root}: can't be written to: {error.strerror or error}; what "
                "was measured is kept"
            ) from error


def _sweep(root: Path) -> None:
    """Remove the unfinished files of a run that was killed while writing them."""
    for folder in (root, root / PARTS):
        for file in folder.glob("**/.*" if folder.name == PARTS else ".*"):
            if is_unfinished(file) and file.is_file():
                file.unlink()


class _Study:
    """A study while it runs."""

    def __init__(
        self,
        plan: Plan,
        root: Path,
        device: torch.device,
        workers: int | None,
        progress: Progress | None,
    ) -> None:
        self._plan, self._root, self._device = plan, root, device
        self._store = Store(root / PARTS)
        self._measuring = Measuring(plan, self._store, workers, progress)
        self._pairs = {
            name: pairs_of(name, one, self._measuring.images[name])
            for name, one in plan.databases.items()
        }
        self._keys: dict[str, dict[str, Keys]] = {}
        self._networks: list[DescribedNetwork] = []
        self._baselines: list[DescribedBaseline] = []
        self._reasons: dict[str, None] = {}
        self._failed = {name: np.zeros(len(one), bool) for name, one in self._pairs.items()}

    @property
    def reasons(self) -> tuple[str, ...]:
        return tuple(self._reasons)

    def measure(self) -> None:
        """Measure what is not stored yet: the baselines, then one backbone at a time."""
        if self._plan.baselines:
            reader = baseline_reader(self._plan, self._device)
            self._keys[""] = self._measuring.measure(reader)
            self._baselines = [
                described_baseline(spec, metric)
                for spec, metric in reader.modules.items()
                if isinstance(metric, Metric)
            ]
        for network in self._plan.networks:
            reader = backbone_reader(network, self._plan, self._device)
            self._keys[network.record.name] = self._measuring.measure(reader)
            self._networks.append(described_network(network, reader.content))

    def write(self) -> tuple[int, int]:
        """Write the table of distances; return its number of rows, and how many failed."""
        with written_distances(self._root / DISTANCES) as writer:
            for name, pairs in self._pairs.items():
                for spec in self._plan.baselines:
                    block = self._keys[""][name].block(self._store, spec)
                    self._add(writer, pairs, [Series(spec, "", "", np.nan)], block, None)
                for network in self._plan.networks:
                    self._add_network(writer, name, network)
        databases = tuple(
            described_database(
                name, self._plan, one.references, int(self._failed[name].sum()), self._root
            )
            for name, one in self._pairs.items()
        )
        Description(
            title=self._plan.title,
            databases=databases,
            backbones=tuple(self._networks),
            baselines=tuple(self._baselines),
            readouts=tuple(self._plan.readouts),
            concatenations=tuple(self._plan.concatenations),
            statistics=self._plan.statistics,
            made_with=made_with(self._plan, self._device.type),
        ).write(self._root / DESCRIPTION)
        return writer.rows, writer.failed

    def _add_network(self, writer: DistancesWriter, name: str, network: Network) -> None:
        record = network.record
        layers = [record.layer(one) for one in record.in_order(network.layers)]
        keys, pairs = self._keys[record.name][name], self._pairs[name]
        elements = keys.block(self._store, ELEMENTS.name).values
        for readout in self._plan.readouts:
            if readout == WEIGHTED:
                block = weighted_distances(
                    self._store,
                    keys,
                    pairs,
                    self._plan.databases[name].facts.higher_is,
                    [layer.name for layer in layers],
                    self._plan.statistics.seed,
                    lambda at: self._measuring.say(
                        f"channel weights: {record.name}, {layers[at].name}"
                    ),
                )
            else:
                block = keys.block(self._store, readout)
            series = [Series(record.name, one.name, readout, one.depth) for one in layers]
            self._add(writer, pairs, series, block, elements)

    def _add(
        self,
        writer: DistancesWriter,
        pairs: Pairs,
        series: list[Series],
        block: Block,
        elements: np.ndarray | None,
    ) -> None:
        sizes = None if elements is None else elements.T
        reasons = writer.add(pairs, series, block.values.T, block.errors.T, sizes)
        for at, reason in reasons.items():
            self._failed[pairs.database][at] = True
            self._reasons.setdefault(reason)
