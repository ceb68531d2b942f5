"""Monte Carlo barostats that scale atoms or molecules, and the instantaneous pressure of a context."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import openmm as mm
from openmm import unit

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.geometry.cells import volume
from openmm_duality.lowering.force_identity import fitted_without_stresses, require_potential
from openmm_duality.units import MEGAPASCAL, bare, masses_of

MOLECULES = "molecules of the barostat"  # name of the force that declares them
_LARGEST = 1e7  # bar
_AXES = "xyz"
_STRAIN = 1e-3  # of the differences that give a pressure, as OpenMM takes it
NEVER_SEEN = (
    "the losses were inferred without stresses, so nothing has taught them the pressure, and the density of this run "
    "is arbitrary; infer them from frames with stresses (of CP2K: `stress: true` for the verb reference)"
)


def add_barostat(
    system: mm.System,
    pressure: Any,
    temperature: Any,
    frequency: int = 25,
    *,
    molecules: Sequence[IntArray | Sequence[int]] | None = None,
    axes: str | None = None,
) -> mm.Force:
    """Add a Monte Carlo barostat, which scales atoms one by one, or the centres of molecules.

    Both sample the same ensemble. Where bonds are stiff, molecules allow much larger changes of the volume. They are
    declared to OpenMM by bonds of no energy, and stay what they are where atoms change partners.

    Parameters
    ----------
    system : openmm.System
    pressure : openmm.unit.Quantity or float
        In bar.
    temperature : openmm.unit.Quantity or float
        In K.
    frequency : int
        Steps between attempts to change the volume; with 0 there are none, and the pressure is only computed.
    molecules : sequence of arrays of int, optional
        The atoms of every molecule, moved as a whole; by default atoms are scaled one by one.
    axes : str, optional
        The axes along which the box changes, each on its own: ``xyz`` for a crystal, ``xy`` for a slab; by default all
        change by one factor.

    Raises
    ------
    DualityError
        Under `agent` and `mutual`, if the System is not periodic, the pressure is no number of a possible size, there
        are other axes, or an index of an atom is wrong or repeated.
    """
    require_potential(system, "a barostat")
    if not system.usesPeriodicBoundaryConditions():
        raise DualityError("a barostat needs a periodic System: a start with a cell, or a topology with box vectors")
    if frequency and fitted_without_stresses(system):
        warnings.warn(NEVER_SEEN, stacklevel=2)
    target = bare(pressure, unit.bar, "pressure")
    if not abs(target) <= _LARGEST:
        raise DualityError(f"pressure: expected at most {_LARGEST:g} bar in size, got {pressure}")
    if axes is not None and (not axes or set(axes) - set(_AXES)):
        raise DualityError(f"axes: expected some of the letters x, y and z, such as xyz or xy, got {axes!r}")
    if molecules is not None:
        system.addForce(_bonds(system.getNumParticles(), molecules))
    kelvin = bare(temperature, unit.kelvin, "temperature") * unit.kelvin
    if axes is None:
        barostat = mm.MonteCarloBarostat(target * unit.bar, kelvin)
    else:
        scaled = (axis in axes for axis in _AXES)
        barostat = mm.MonteCarloAnisotropicBarostat(mm.Vec3(*3 * (target,)) * unit.bar, kelvin, *scaled)
    barostat.setFrequency(frequency)
    system.addForce(barostat)
    return barostat


def barostat_of(system: mm.System) -> mm.Force | None:
    """The barostat of a System, isotropic or along axes as `add_barostat` adds them; None if it has none."""
    forces = (system.getForce(k) for k in range(system.getNumForces()))
    known = (mm.MonteCarloBarostat, mm.MonteCarloAnisotropicBarostat)
    return next((force for force in forces if isinstance(force, known)), None)


def _axes_of(barostat: mm.Force) -> str | None:
    """The axes along which the box changes, each on its own; None if all change by one factor."""
    if isinstance(barostat, mm.MonteCarloBarostat):
        return None
    return "".join(axis for axis in _AXES if getattr(barostat, f"getScale{axis.upper()}")())


def describe_barostat(system: mm.System) -> dict[str, Any]:
    """Pressure in bar, steps between changes of the volume, what is scaled, for the record of a run; or nothing.

    Of an anisotropic barostat the pressure is the mean over its axes.
    """
    barostat = barostat_of(system)
    if barostat is None:
        return {}
    axes = _axes_of(barostat)
    pressure = barostat.getDefaultPressure()
    pressure = pressure.value_in_unit(unit.bar) if unit.is_quantity(pressure) else pressure
    declared = any(system.getForce(k).getName() == MOLECULES for k in range(system.getNumForces()))
    return {
        "pressure_bar": float(np.mean([pressure[_AXES.index(axis)] for axis in axes]) if axes else pressure),
        "barostat_interval": barostat.getFrequency(),
        "barostat_scales": "molecules" if declared else "atoms",
        **({} if axes is None else {"barostat_axes": axes}),
    }


def current_pressure(context: mm.Context, barostat: mm.Force) -> float:
    """Instantaneous pressure in MPa: the virial of what the barostat scales, and its kinetic part.

    Of an anisotropic barostat it is the mean over its axes.
    The virial is the derivative of the energy by the strain along all axes, by central differences, so that it holds
    for all forces of the System; along single axes OpenMM itself strains the diagonal of the box alone, and refuses a
    hexagonal one. The state of the context stays as it is.
    """
    axes = [_AXES.index(axis) for axis in _axes_of(barostat) or _AXES]
    state = context.getState(positions=True, velocities=True)
    box, positions, velocities = (
        np.array(values(asNumpy=True).value_in_unit_system(unit.md_unit_system))
        for values in (state.getPeriodicBoxVectors, state.getPositions, state.getVelocities)
    )
    masses, molecules = masses_of(context.getSystem()), context.getMolecules()
    of_atom = np.empty(len(positions), dtype=np.int64)
    for k, atoms in enumerate(molecules):
        of_atom[list(atoms)] = k

    def by_molecule(values: FloatArray) -> FloatArray:
        sums = np.zeros((len(molecules), 3))
        np.add.at(sums, of_atom, values)
        return sums

    sizes = np.bincount(of_atom)
    centres = (by_molecule(positions) / sizes[:, None])[of_atom]
    momenta, total = by_molecule(masses[:, None] * velocities), np.bincount(of_atom, weights=masses)
    moving = total > 0.0
    twice_kinetic = float(np.sum(momenta[moving][:, axes] ** 2 / total[moving, None]))

    def strained_energy(strain: float) -> float:
        scale = np.ones(3)
        scale[axes] += strain
        context.setPeriodicBoxVectors(*(box * scale))
        context.setPositions(positions + centres * (scale - 1.0))
        energy = context.getState(energy=True).getPotentialEnergy()
        return float(energy.value_in_unit(unit.kilojoule_per_mole))

    try:
        virial = (strained_energy(-_STRAIN) - strained_energy(_STRAIN)) / (2.0 * _STRAIN)
    finally:
        context.setPeriodicBoxVectors(*box)
        context.setPositions(positions)
    return float((twice_kinetic + virial) / (len(axes) * volume(box) * MEGAPASCAL))


def _bonds(n_atoms: int, molecules: Sequence[IntArray | Sequence[int]]) -> mm.Force:
    """Bonds of no energy along every molecule."""
    joined = np.concatenate([np.asarray(atoms, dtype=np.int64) for atoms in molecules])
    if len(np.unique(joined)) != len(joined) or not ((joined >= 0) & (joined < n_atoms)).all():
        raise DualityError(
            f"molecules: every atom must be in one of them at most, with an index from 0 to {n_atoms - 1}"
        )
    force = mm.HarmonicBondForce()
    force.setName(MOLECULES)
    for atoms in molecules:
        for i, j in pairwise(atoms):
            force.addBond(int(i), int(j), 0.1, 0.0)
    return force
