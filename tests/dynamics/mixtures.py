"""Boxes of classical water, and losses for some of its molecules, for the tests of mixed Systems."""

from __future__ import annotations

import numpy as np
import openmm as mm
from openmm import app, unit

from tests.lowering.platforms import energy_and_forces, properties
from tests.systems import random_losses

FIELD = app.ForceField("amber14/tip3p.xml")
LOSSES = random_losses("moment", species=("H", "O"), cutoff=0.35)
EDGE = 1.3


def water(field=FIELD, *, periodic=True, molecules=None, **options):
    """A box of water, or some molecules of it, with positions in nm; as `made` gives it."""
    modeller = app.Modeller(app.Topology(), [] * unit.nanometer)
    modeller.addSolvent(FIELD, boxSize=mm.Vec3(EDGE, EDGE, EDGE) * unit.nanometer)
    if molecules is not None:
        modeller.delete([r for r in modeller.topology.residues() if r.index not in molecules])
    modeller.addExtraParticles(field)
    if not periodic:
        modeller.topology.setPeriodicBoxVectors(None)
    return made(field, modeller.topology, modeller.positions, periodic, **options)


def made(field, topology, positions, periodic, **options):
    method = (
        {"nonbondedMethod": app.PME, "nonbondedCutoff": 0.6, "switchDistance": 0.5}
        if periodic
        else {"nonbondedMethod": app.NoCutoff}
    )
    options = {"rigidWater": False, "removeCMMotion": False, **method, **options}
    system = field.createSystem(topology, **options)
    for force in system.getForces():
        if isinstance(force, mm.NonbondedForce):
            force.setEwaldErrorTolerance(1e-5)
            force.setUseDispersionCorrection(False)
    return system, topology, np.array(positions.value_in_unit(unit.nanometer))


def atoms_of(topology, residues):
    """Atoms of molecules, the last first."""
    return [atom.index for r in topology.residues() if r.index in residues for atom in r.atoms()][::-1]


def context(system, positions, platform="Reference", precision=None):
    integrator = mm.VerletIntegrator(0.001)
    found = mm.Context(system, integrator, mm.Platform.getPlatformByName(platform), properties(precision))
    found.setPositions(positions)
    return found


def evaluated(system, positions, **where):
    return energy_and_forces(context(system, positions, **where))
