"""Other programs that evaluate the losses: ASE, and openmm-ml, which loads `openmm_ml` by its entry point."""

from openmm_duality.integrations.ase_calculator import DualityCalculator

__all__ = ["DualityCalculator"]
