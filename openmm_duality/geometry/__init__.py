"""Cells, pairs within a distance, molecules as connected components: arrays only, no frames."""

from openmm_duality.geometry.arrays import BoolArray, FloatArray, IntArray
from openmm_duality.geometry.cells import check_cutoff, minimum_image, openmm_form, supercell, volume, widths
from openmm_duality.geometry.molecules import (
    BondLengths,
    bonded_pairs,
    component_labels,
    components,
    find_molecules,
    make_whole,
    molecular_forces,
)
from openmm_duality.geometry.pairs import pair_vectors_within, pairs_within

__all__ = [
    "BondLengths",
    "BoolArray",
    "FloatArray",
    "IntArray",
    "bonded_pairs",
    "check_cutoff",
    "component_labels",
    "components",
    "find_molecules",
    "make_whole",
    "minimum_image",
    "molecular_forces",
    "openmm_form",
    "pair_vectors_within",
    "pairs_within",
    "supercell",
    "volume",
    "widths",
]
