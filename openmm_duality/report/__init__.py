"""The pages and figures that show what the rooms above found."""

from openmm_duality.report.benchmarks import benchmark_figures, cost_figure, write_benchmark_figures
from openmm_duality.report.headlines import headline
from openmm_duality.report.learning import calibration_figure, learning_curve_figure
from openmm_duality.report.page import write_report
from openmm_duality.report.plain import comparison_to_dict
from openmm_duality.report.sentences import verdict

__all__ = [
    "benchmark_figures",
    "calibration_figure",
    "comparison_to_dict",
    "cost_figure",
    "headline",
    "learning_curve_figure",
    "verdict",
    "write_benchmark_figures",
    "write_report",
]
