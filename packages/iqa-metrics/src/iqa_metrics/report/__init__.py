"""The report of a study: figures and one self-contained page, made only from the study's tables.

Nothing is measured here. Every number on the page was computed before, and is in the tables beside
the page.
"""

from iqa_metrics.report.tables import ReportError as ReportError
from iqa_metrics.report.writing import write_report as write_report
