"""The pages and figures that show what the rooms above found."""

from openmm_duality.report.learning import learning_curve_figure
from openmm_duality.report.page import write_report

__all__ = ["learning_curve_figure", "write_report"]
