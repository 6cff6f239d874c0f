"""A study from its plan to its tables: measured, resumed, put together, analysed."""

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
    gauge_of,
    gauge_of_baselines,
    pairs_of,
)
from iqa_metrics.study.plan import WEIGHTED, Network, Plan
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
        Where its tables are.
    rows, failed
        How many distances it has, and how many of them failed.
    reasons
        Some reasons why, each once.
    analysis
        What it found.
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
    """Measure what a plan asks for, as far as the folder does not hold it, and analyse it.

    Parameters
    ----------
    plan
        What is measured.
    folder
        Where it goes: ``distances.parquet``, ``study.json`` and the tables of
        :func:`iqa_metrics.study.analyse`. ``parts/`` has what was measured by the content of what
        made it, so that a run that was stopped, at any moment, goes on where it was, and another
        plan measures only what is new.
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    workers
        Threads that decode images; by default one a core.
    progress, analysing
        Are told how far measuring is, and then the statistics.

    Raises
    ------
    PlanError
        If another run writes into the folder, or it can't be written to.
    WeightsError
        If a network's weights are missing or damaged.
    """
    root = Path(folder)
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(root / _LOCK)
        lock.acquire(timeout=0)
    except Timeout:
        raise PlanError(f"{root}: another run is writing there; wait for it, or stop it") from None
    except OSError as error:
        raise PlanError(f"{root}: can't be written to: {error.strerror}") from error
    with lock:
        try:
            _sweep(root)
            study = _Study(plan, root, pick_device(device), workers, progress)
            study.measure()
            rows, failed = study.write()
            return Finished(root, rows, failed, study.reasons, analyse(root, analysing))
        except OSError as error:  # a full disk; images that can't be read are rows
            raise PlanError(
                f"{error.filename or root}: can't be written to: {error.strerror or error}; what "
                "was measured is kept"
            ) from error


def _sweep(root: Path) -> None:
    """Take away files that a run was killed over while it wrote them."""
    for folder in (root, root / PARTS):
        for file in folder.glob("**/.*" if folder.name == PARTS else ".*"):
            if is_unfinished(file) and file.is_file():
                file.unlink()


class _Study:
    """A study on its way."""

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
        """Measure all that is not there, one network at a time."""
        if self._plan.baselines:
            gauge = gauge_of_baselines(self._plan, self._device)
            self._keys[""] = self._measuring.measure(gauge)
            self._baselines = [
                described_baseline(spec, metric)
                for spec, metric in gauge.modules.items()
                if isinstance(metric, Metric)
            ]
        for network in self._plan.networks:
            gauge = gauge_of(network, self._plan, self._device)
            self._keys[network.record.name] = self._measuring.measure(gauge)
            self._networks.append(described_network(network, gauge.content))

    def write(self) -> tuple[int, int]:
        """Put the table of distances together; return its rows, and how many failed."""
        with written_distances(self._root / DISTANCES) as writer:
            for name, pairs in self._pairs.items():
                for spec in self._plan.baselines:
                    block = self._keys[""][name].block(self._store, spec)
                    self._add(writer, pairs, [Series(spec, "", "", np.nan)], block, None)
                for network in self._plan.networks:
                    self._add_network(writer, name, network)
        databases = tuple(
            described_database(name, self._plan, one.references, int(self._failed[name].sum()))
            for name, one in self._pairs.items()
        )
        Description(
            self._plan.title,
            databases,
            tuple(self._networks),
            tuple(self._baselines),
            tuple(self._plan.readouts),
            tuple(self._plan.concatenations),
            self._plan.statistics,
            made_with(self._device.type),
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
