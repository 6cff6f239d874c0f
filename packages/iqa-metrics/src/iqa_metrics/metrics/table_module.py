"""Modules that compute their values from a layer table."""

from typing import Any

from torch import Tensor

from iqa_metrics.backbones.layers import SURELY_ENOUGH
from iqa_metrics.compute.features import FeatureExtractor, Reference
from iqa_metrics.compute.pair_module import PairModule
from iqa_metrics.metrics.layer_table import LayerTable, as_threads_allow


class TableModule(PairModule):
    """A module that computes its values from the columns of a :class:`LayerTable`.

    Attributes
    ----------
    table
        The table.
    """

    table: LayerTable
    surely_enough = SURELY_ENOUGH

    @property
    def extractor(self) -> FeatureExtractor:
        """The extractor with the table's network."""
        return self.table.extractor

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that are read, from input to output."""
        return self.table.layers

    @property
    def smallest_input(self) -> int:  # type: ignore[override]
        """Least height and width, in pixels."""
        return self.table.smallest_input

    def remember(self, reference: Tensor) -> Reference:
        """Return the feature maps of one reference, in the layers that are read."""
        return self.table.remember(reference)

    def pair_bytes(self, height: int, width: int) -> int:
        """Return roughly the peak memory that one pair takes, in bytes."""
        return self.table.pair_bytes(height, width)

    def most_pairs(self, distorted: Tensor) -> int:
        """Return how many pairs go through the network at once, at most."""
        return as_threads_allow(super().most_pairs(distorted), distorted)

    def __setattr__(self, name: str, value: Any) -> None:
        # A module would be registered beside the table's, and not be used.
        if name == "extractor":
            raise AttributeError(
                "extractor belongs to the table; call share_network(), or set table.extractor"
            )
        super().__setattr__(name, value)
