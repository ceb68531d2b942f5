"""Reference data: frames, the readers that make them, molecules found in them, their summary.

`formats.read` chooses the reader: `extended_xyz.read_extxyz` (by ASE), `deepmd.read_deepmd`, or
`cp2k_project.read_cp2k`, which matches the files that `cp2k_files` finds and that `cp2k_input`, `cp2k_xyz` and `dcd`
read.
"""

from openmm_duality.reference.cp2k_project import EnergyTable, read_cp2k, read_ener
from openmm_duality.reference.deepmd import read_deepmd
from openmm_duality.reference.extended_xyz import read_extxyz
from openmm_duality.reference.formats import read, read_one
from openmm_duality.reference.frames import Frames
from openmm_duality.reference.mixed_frames import MixedFrames
from openmm_duality.reference.molecules import bond_lengths, molecules_of
from openmm_duality.reference.quantities import DataKeys
from openmm_duality.reference.summary import Summary, shortest_distances, summarise

__all__ = [
    "DataKeys",
    "EnergyTable",
    "Frames",
    "MixedFrames",
    "Summary",
    "bond_lengths",
    "molecules_of",
    "read",
    "read_cp2k",
    "read_deepmd",
    "read_ener",
    "read_extxyz",
    "read_one",
    "shortest_distances",
    "summarise",
]
