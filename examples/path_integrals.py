"""Nuclear quantum effects: ring polymers of eight beads by OpenMM's RPMDIntegrator, and how far the nuclei spread.

python examples/path_integrals.py water.safetensors 2000
"""

import sys
from pathlib import Path

import numpy as np
import openmm as mm
from openmm import app, unit

import openmm_duality as duality

BEADS = 8  # more for converged results: 32 at 300 K

model, steps = sys.argv[1], int(sys.argv[2])
start = duality.read_start(Path(__file__).parent / "water64.xyz")
topology = duality.create_topology(start.species, cell=start.cell)
system = duality.create_system(duality.AgentLosses.load(model), topology)
integrator = mm.RPMDIntegrator(BEADS, 300 * unit.kelvin, 1 / unit.picosecond, 0.25 * unit.femtosecond)
simulation = app.Simulation(topology, system, integrator)
simulation.context.setPositions(start.positions)
simulation.context.setVelocitiesToTemperature(300 * unit.kelvin)
for bead in range(BEADS):
    integrator.setPositions(bead, start.positions)
integrator.step(steps)
beads = np.array(
    [
        integrator.getState(bead, getPositions=True).getPositions(asNumpy=True).value_in_unit(unit.angstrom)
        for bead in range(BEADS)
    ]
)
spread = np.sqrt(((beads - beads.mean(axis=0)) ** 2).sum(axis=2).mean(axis=0))
for name in ("H", "O"):
    print(f"radius of gyration of {name}: {spread[np.array(start.species) == name].mean():.3f} Å")
