"""Boxes of liquid water of any number of molecules, for those who give no start."""

from __future__ import annotations

from functools import cache

import numpy as np
import openmm as mm
from openmm import unit
from scipy.spatial.transform import Rotation

from openmm_duality.benchmark.tip3p import tip3p_system, tip3p_topology
from openmm_duality.dynamics import Start
from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray

SPECIES = ("O", "H", "H")
DENSITY = 0.997  # g/cm³, of water at 298 K
_MOLECULE = 18.01528 / (DENSITY * 602.214076)  # nm³
_OH, _ANGLE = 0.0957, np.deg2rad(104.52)  # of TIP3P
_SMALLEST, _TILE = 8, 216  # molecules; a relaxed box of the second number or more may be repeated
_RELAXATION = 2000  # steps of 1 fs, flexible


def water_box(molecules: int) -> Start:
    """A cubic box of liquid water at 0.997 g/cm³, relaxed with flexible TIP3P.

    Molecules start on a cubic lattice with random orientations; the energy is minimised, then 2 ps at 300 K make
    distances liquid-like. A box of k³ times 216 molecules or more is the relaxed box of a k³-th of it, repeated. The
    seeds are fixed; a box is made once per process.

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
    copies = max(k for k in range(1, molecules) if k == 1 or (molecules % k**3 == 0 and molecules >= _TILE * k**3))
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
