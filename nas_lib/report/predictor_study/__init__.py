"""The report of a study of predictors: figures, tables, and one page."""

from nas_lib.report.predictor_study.figures import figure_names, write_figures
from nas_lib.report.predictor_study.page import write_report
from nas_lib.report.predictor_study.results import TABLES

__all__ = ["TABLES", "figure_names", "write_figures", "write_report"]
