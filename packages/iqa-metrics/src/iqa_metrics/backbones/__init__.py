"""The catalogue of networks, each with the factors that the study compares.

A :class:`Backbone` is a record: what the network is (architecture), what it was trained for (goal)
and on (data), how an image must be scaled for it, its layers in order, and where its weights come
from. :data:`BACKBONES` holds those that this package knows, :func:`backbone` finds one by its name,
:func:`select` by its factors, and :func:`comparisons` sets that differ in one factor.
"""

from iqa_metrics.backbones.catalogue import BACKBONES as BACKBONES
from iqa_metrics.backbones.catalogue import all_backbones as all_backbones
from iqa_metrics.backbones.catalogue import backbone as backbone
from iqa_metrics.backbones.catalogue import read_record as read_record
from iqa_metrics.backbones.comparisons import FACTORS as FACTORS
from iqa_metrics.backbones.comparisons import Comparison as Comparison
from iqa_metrics.backbones.comparisons import comparisons as comparisons
from iqa_metrics.backbones.comparisons import select as select
from iqa_metrics.backbones.layers import Layer as Layer
from iqa_metrics.backbones.records import Backbone as Backbone
from iqa_metrics.backbones.scaling import InputScaling as InputScaling
