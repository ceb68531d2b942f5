"""Water at constant pressure: a barostat that scales molecules, and the density in the log. The model knows stresses.

python examples/npt.py water.safetensors 20000
"""

import sys
from pathlib import Path

import numpy as np
from openmm import app, unit

import openmm_duality as duality

model, steps = sys.argv[1], int(sys.argv[2])
start = duality.read_start(Path(__file__).parent / "water64.xyz")
topology = duality.create_topology(start.species, cell=start.cell)
system = duality.create_system(duality.AgentLosses.load(model), topology)
molecules = np.arange(len(start.species)).reshape(-1, 3)  # O, H, H of every molecule
duality.add_barostat(system, 1 * unit.bar, 300 * unit.kelvin, molecules=molecules)
integrator = duality.LangevinLearningIntegrator(300 * unit.kelvin, 1 / unit.picosecond, 0.5 * unit.femtosecond)
simulation = app.Simulation(topology, system, integrator)
simulation.context.setPositions(start.positions)
simulation.context.setVelocitiesToTemperature(300 * unit.kelvin)
every = max(1, steps // 10)
simulation.reporters.append(app.StateDataReporter(sys.stdout, every, step=True, temperature=True, density=True))
simulation.step(steps)
