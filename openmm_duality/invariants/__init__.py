"""Neighbour tables, radial bases, moments and their invariants."""

from openmm_duality.invariants.neighbours import NeighbourTable, find_neighbours
from openmm_duality.invariants.radial import Grid, RadialBasis

__all__ = ["Grid", "NeighbourTable", "RadialBasis", "find_neighbours"]
