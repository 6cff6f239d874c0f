"""Opinion databases, read in their published layouts and checked, with direction and licence."""

from iqa_metrics.datasets.bapps import read_2afc as read_2afc
from iqa_metrics.datasets.bapps import read_jnd as read_jnd
from iqa_metrics.datasets.checking import check_database as check_database
from iqa_metrics.datasets.folders import Folder as Folder
from iqa_metrics.datasets.ladder import make_ladder as make_ladder
from iqa_metrics.datasets.nights import read_nights as read_nights
from iqa_metrics.datasets.opinions import DatabaseFacts as DatabaseFacts
from iqa_metrics.datasets.opinions import DatasetError as DatasetError
from iqa_metrics.datasets.opinions import Judgement2AFC as Judgement2AFC
from iqa_metrics.datasets.opinions import JudgementJND as JudgementJND
from iqa_metrics.datasets.opinions import OpinionDatabase as OpinionDatabase
from iqa_metrics.datasets.opinions import OpinionPair as OpinionPair
from iqa_metrics.datasets.opinions import Problem as Problem
from iqa_metrics.datasets.readers import READERS as READERS
from iqa_metrics.datasets.readers import DatabaseReader as DatabaseReader
from iqa_metrics.datasets.readers import all_databases as all_databases
from iqa_metrics.datasets.readers import read_database as read_database
from iqa_metrics.datasets.readers import read_opinions as read_opinions
