"""Cells, pairs within a distance, molecules as connected components: arrays only, no frames."""

from openmm_duality.geometry.cells import supercell

__all__ = ["supercell"]
