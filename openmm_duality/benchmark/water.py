"""TIP3P water in OpenMM, the standard of comparison, and boxes of liquid water of any number of molecules."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import openmm as mm
from openmm import app, unit
from scipy.spatial.transform import Rotation

from openmm_duality.dynamics import Start, create_topology
from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.geometry.cells import widths
from openmm_duality.geometry.molecules import bonded_pairs, find_molecules, make_whole

CUTOFFS = (0.9, 0.6)  # nm; the first that fits the box
_METHODS = {"pme": app.PME, "rf": app.CutoffPeriodic}
_BONDS = {("H", "O"): 0.125}  # nm
SPECIES = ("O", "H", "H")
DENSITY = 0.997  # g/cm³, of water at 298 K
_MOLECULE = 18.01528 / (DENSITY * 602.214076)  # nm³
_OH, _ANGLE = 0.0957, np.deg2rad(104.52)  # of TIP3P
_SMALLEST, _TILE = 8, 216  # molecules; a relaxed box of at least the second number may be repeated
_RELAXATION = 2000  # steps of 1 fs, flexible


def as_water(start: Start) -> Start:
    """Make the molecules of the water whole, with their atoms in the order O, H, H.

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
    """The topology of water from `as_water`, with bonds and the names of OpenMM's force fields."""
    molecules = list(np.arange(len(water.species)).reshape(-1, 3))
    topology = create_topology(water.species, molecules, water.cell)
    for residue in topology.residues():
        oxygen, *hydrogens = residue.atoms()
        for hydrogen in hydrogens:
            topology.addBond(oxygen, hydrogen)
    return topology


def tip3p_cutoff(cell: FloatArray) -> float:
    """The usual cutoff of 0.9 nm; where the box is too small 0.6 nm, or the largest that fits.

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


def water_box(molecules: int) -> Start:
    """A cubic box of liquid water at 0.997 g/cm³, relaxed with flexible TIP3P.

    Molecules start on a cubic lattice with random orientations; the energy is minimised, then 2 ps at 300 K make
    distances liquid-like. A box of k³ times 216 molecules or more is the relaxed box of a k³-th of it, repeated. The
    seeds are fixed; boxes are cached.

    Parameters
    ----------
    molecules : int
        At least 8.

    Returns
    -------
    Start
        Atoms in the order O, H, H; molecules whole.

    Raises
    ------
    DualityError
        If there are fewer.
    """
    if molecules < _SMALLEST:
        raise DualityError(f"a box of {molecules} water molecules is too small; ask for at least {_SMALLEST}")
    most = round((molecules / _TILE) ** (1 / 3))
    copies = max((k for k in range(2, most + 1) if molecules % k**3 == 0 and molecules >= _TILE * k**3), default=1)
    tile = _relaxed(molecules // copies**3)
    return tile if copies == 1 else tile.repeated((copies,) * 3)


@cache
def _relaxed(molecules: int) -> Start:
    edge = (molecules * _MOLECULE) ** (1 / 3)
    species = SPECIES * molecules
    cell = edge * np.eye(3)
    start = Start(_lattice(molecules, edge), species, cell)
    system, _ = tip3p_system(tip3p_topology(start), cell, "rf", rigid=False)
    integrator = mm.LangevinMiddleIntegrator(300.0 * unit.kelvin, 10.0 / unit.picosecond, 1.0 * unit.femtosecond)
    integrator.setRandomNumberSeed(1)
    context = mm.Context(system, integrator, mm.Platform.getPlatformByName("CPU"), {"Threads": "1"})
    context.setPositions(start.positions)
    mm.LocalEnergyMinimizer.minimize(context, 100.0, 200)
    context.setVelocitiesToTemperature(300.0 * unit.kelvin, 1)
    integrator.step(_RELAXATION)
    positions = context.getState(positions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer)
    return Start(np.array(positions, dtype=np.float64), species, cell)


def _lattice(molecules: int, edge: float) -> FloatArray:
    """Molecules in random orientations on the points of a cubic lattice, as many as there are molecules."""
    per_edge = int(np.ceil(molecules ** (1 / 3) - 1e-9))
    points = np.stack(np.meshgrid(*[np.arange(per_edge)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    rng = np.random.default_rng(1)
    oxygens = edge / per_edge * rng.permutation(points)[:molecules]
    half = 0.5 * _ANGLE
    arms = _OH * np.array([[0.0, 0.0, 0.0], [np.sin(half), np.cos(half), 0.0], [-np.sin(half), np.cos(half), 0.0]])
    turned = Rotation.random(molecules, random_state=1).as_matrix() @ arms.T
    return np.asarray((oxygens[:, None, :] + turned.transpose(0, 2, 1)).reshape(-1, 3))


def nonbonded_alone(system: mm.System) -> tuple[mm.System, mm.NonbondedForce]:
    """A copy of a System with its nonbonded force and no other, and that force, whose parameters may be changed."""
    alone = mm.XmlSerializer.clone(system)
    for index in reversed(range(alone.getNumForces())):
        if not isinstance(alone.getForce(index), mm.NonbondedForce):
            alone.removeForce(index)
    return alone, alone.getForce(0)
