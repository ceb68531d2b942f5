"""What the physics code says: frames, and the readers that make them."""

from openmm_duality.reference.campaign import run_reference
from openmm_duality.reference.cells import check_cutoff, minimum_image, volume, widths
from openmm_duality.reference.cp2k import EnergyTable, read_cp2k, read_ener
from openmm_duality.reference.distances import pairs_within, shortest_distances
from openmm_duality.reference.engine import run_cp2k
from openmm_duality.reference.formats import read, read_extxyz
from openmm_duality.reference.frames import Frames
from openmm_duality.reference.molecules import (
    bond_lengths,
    bonded_pairs,
    find_molecules,
    make_whole,
    molecular_forces,
    molecules_of,
)
from openmm_duality.reference.summary import Summary, summarise

__all__ = [
    "EnergyTable",
    "Frames",
    "Summary",
    "bond_lengths",
    "bonded_pairs",
    "check_cutoff",
    "find_molecules",
    "make_whole",
    "minimum_image",
    "molecular_forces",
    "molecules_of",
    "pairs_within",
    "read",
    "read_cp2k",
    "read_ener",
    "read_extxyz",
    "run_cp2k",
    "run_reference",
    "shortest_distances",
    "summarise",
    "volume",
    "widths",
]
