"""The study: any networks on any database of opinions, every layer and readout, with statistics.

A :class:`Plan` says what is measured; :func:`run_study` measures it into a folder of tables, which
:func:`analyse` computes anew from the distances alone.
"""

from iqa_metrics.study.analysis import Analysis as Analysis
from iqa_metrics.study.analysis import analyse as analyse
from iqa_metrics.study.claims import Claim as Claim
from iqa_metrics.study.comparisons import Compared as Compared
from iqa_metrics.study.correlations import Correlation as Correlation
from iqa_metrics.study.description import Description as Description
from iqa_metrics.study.description import DescriptionError as DescriptionError
from iqa_metrics.study.distances import DistancesError as DistancesError
from iqa_metrics.study.distances import Measured as Measured
from iqa_metrics.study.distances import read_distances as read_distances
from iqa_metrics.study.models import Model as Model
from iqa_metrics.study.plan import Network as Network
from iqa_metrics.study.plan import Plan as Plan
from iqa_metrics.study.plan import PlanError as PlanError
from iqa_metrics.study.plan import Statistics as Statistics
from iqa_metrics.study.plan import here as here
from iqa_metrics.study.plan import network as network
from iqa_metrics.study.plan import plan_of as plan_of
from iqa_metrics.study.plan import read_plan as read_plan
from iqa_metrics.study.plan import with_controls as with_controls
from iqa_metrics.study.running import Finished as Finished
from iqa_metrics.study.running import run_study as run_study
