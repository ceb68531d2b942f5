"""TIP3P water in OpenMM, as people run it: what a learned water is measured against."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import openmm as mm
from openmm import app, unit

from openmm_duality.dynamics import Start, create_topology
from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.geometry.cells import widths
from openmm_duality.geometry.molecules import bonded_pairs, find_molecules, make_whole

CUTOFFS = (0.9, 0.6)  # nm; the first that fits the box
_METHODS = {"pme": app.PME, "rf": app.CutoffPeriodic}
_BONDS = {("H", "O"): 0.125}  # nm


def as_water(start: Start) -> Start:
    """The same water with its molecules whole and their atoms in the order O, H, H.

    Parameters
    ----------
    start : Start
        Periodic.

    Raises
    ------
    DualityError
        If there is no cell, or there is anything but whole molecules of water.
    """
    if start.cell is None:
        raise DualityError("TIP3P is timed in a periodic box, and the start has no cell; give a start with one")
    molecules = find_molecules(start.positions, start.species, start.cell, _BONDS)
    species = np.array(start.species)
    order = [atoms[np.argsort(species[atoms] != "O", kind="stable")] for atoms in molecules]
    if any(tuple(species[atoms]) != ("O", "H", "H") for atoms in order):
        raise DualityError("TIP3P is water, and the start holds something else; leave TIP3P out (--no-tip3p)")
    bonds = bonded_pairs(start.positions, start.species, start.cell, _BONDS)
    indices = np.concatenate(order)
    whole = make_whole(start.positions, bonds, start.cell)
    return replace(start, positions=whole[indices], species=tuple(species[indices]))


def tip3p_topology(water: Start) -> app.Topology:
    """The topology of `as_water`, with bonds, in the names of OpenMM's force fields."""
    molecules = list(np.arange(len(water.species)).reshape(-1, 3))
    topology = create_topology(water.species, molecules, water.cell)
    for residue in topology.residues():
        oxygen, *hydrogens = residue.atoms()
        for hydrogen in hydrogens:
            topology.addBond(oxygen, hydrogen)
    return topology


def tip3p_cutoff(cell: FloatArray) -> float:
    """0.9 nm as people run it; where the box is too small 0.6, or what fits.

    Parameters
    ----------
    cell : array, shape (3, 3)
        In nm.
    """
    half = 0.5 * float(widths(cell).min())
    return next((cutoff for cutoff in CUTOFFS if cutoff < half), float(np.floor(100 * half) / 100))


def tip3p_system(
    topology: app.Topology, cell: FloatArray, electrostatics: str, *, rigid: bool
) -> tuple[mm.System, float]:
    """A System of TIP3P water, and its cutoff in nm.

    Parameters
    ----------
    topology : openmm.app.Topology
        Of `tip3p_topology`.
    cell : array, shape (3, 3)
        In nm.
    electrostatics : str
        ``pme`` or ``rf`` (reaction field).
    rigid : bool
        Whether molecules are rigid; else bonds and angles are harmonic and nothing is constrained.
    """
    cutoff = tip3p_cutoff(cell)
    system = app.ForceField("tip3p.xml").createSystem(
        topology,
        nonbondedMethod=_METHODS[electrostatics],
        nonbondedCutoff=cutoff * unit.nanometer,
        constraints=None,
        rigidWater=rigid,
    )
    return system, cutoff
