"""The report of a laboratory: figures, tables, and one page."""

from nas_lib.report.laboratory.figures import figure_names, write_figures
from nas_lib.report.laboratory.page import write_report
from nas_lib.report.laboratory.tables import table_names

__all__ = ["figure_names", "table_names", "write_figures", "write_report"]
