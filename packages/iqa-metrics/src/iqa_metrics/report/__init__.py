"""The report of a study: figures and one page that needs nothing else, made from tables only.

Nothing here measures. What the page says was computed before, and lies beside it in the tables
that it was made from.
"""

from iqa_metrics.report.tables import ReportError as ReportError
from iqa_metrics.report.writing import write_report as write_report
