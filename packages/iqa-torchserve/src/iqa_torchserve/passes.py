"""How the metrics of a batch are computed: metrics of the same backbone share a pass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from iqa_metrics import Metric, resolve
from iqa_metrics.compute.pair_module import PairModule
from iqa_metrics.metrics import DeepDistance
from iqa_metrics.metrics.together import DistancesTogether
from iqa_metrics.scoring.batches import Outcome


@dataclass(frozen=True)
class Passes:
    """The modules that compute the metrics of a batch.

    Attributes
    ----------
    modules
        The modules, by name.
    places
        For each spec the index of its module and, if the module returns several values, the index
        of its value.
    names
        For each spec the name of its module.
    labels
        For each module's name the label of its passes in counters: the spec, or the backbone of
        several specs.
    """

    modules: dict[str, PairModule]
    places: dict[str, tuple[int, int | None]]
    names: dict[str, str]
    labels: dict[str, str]

    @classmethod
    def of(cls, metrics: Mapping[str, Metric], wanted: Sequence[Sequence[str]]) -> "Passes":
        """Plan the passes for requests of these specs; metrics that share a backbone are joined."""
        asked = {spec for specs in wanted for spec in specs}
        groups: dict[int, list[str]] = {}
        for spec, metric in metrics.items():
            if spec in asked:
                shared = metric.extractor if isinstance(metric, DeepDistance) else metric
                groups.setdefault(id(shared), []).append(spec)
        passes = cls({}, {}, {}, {})
        for specs in groups.values():
            name, chosen = " ".join(specs), [metrics[spec] for spec in specs]
            together = [metric for metric in chosen if isinstance(metric, DeepDistance)]
            several = len(specs) > 1
            place = len(passes.modules)
            passes.modules[name] = DistancesTogether(together) if several else chosen[0]
            passes.labels[name] = network_of(str(resolve(specs[0]))) if several else specs[0]
            for number, spec in enumerate(specs):
                passes.places[spec] = place, number if several else None
                passes.names[spec] = name
        return passes

    def wanted(self, specs: Sequence[str]) -> frozenset[str]:
        """Return the names of the modules that compute these specs."""
        return frozenset(self.names[spec] for spec in specs)

    def is_shared(self, spec: str) -> bool:
        """Return whether a spec is computed together with others."""
        return self.places[spec][1] is not None

    def outcome(self, spec: str, of_pair: Sequence[Outcome]) -> Outcome:
        """Return a spec's outcome from the outcomes of all modules for a pair."""
        place, number = self.places[spec]
        value, reason = of_pair[place]
        return (value if value is None or number is None else value[number]), reason


def network_of(spec: str) -> str:
    """Return the backbone's name at the beginning of a spec, or the whole spec."""
    first, _, rest = spec.partition(":")
    return f"{first}:{rest.partition(':')[0]}" if first == "timm" else first
