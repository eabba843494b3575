"""The report of a study of scores: figures, tables, and one page."""

from nas_lib.report.score_study.figures import figure_names, write_figures
from nas_lib.report.score_study.page import write_report
from nas_lib.report.score_study.results import TABLES

__all__ = ["TABLES", "figure_names", "write_figures", "write_report"]
