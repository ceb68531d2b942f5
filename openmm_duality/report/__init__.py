"""The page that shows what the rooms above found."""

from openmm_duality.report.page import write_report

__all__ = ["write_report"]
