"""A force of your own beside the losses: a spring that holds two oxygen atoms 0.35 nm apart (umbrella sampling).

python examples/own_forces.py water.safetensors 20000
"""

import sys
from pathlib import Path

import numpy as np
import openmm as mm
from openmm import app, unit

import openmm_duality as duality

model, steps = sys.argv[1], int(sys.argv[2])
start = duality.read_start(Path(__file__).parent / "water64.xyz")
topology = duality.create_topology(start.species, cell=start.cell)
system = duality.create_system(duality.AgentLosses.load(model), topology)

oxygens = [k for k, name in enumerate(start.species) if name == "O"]
pair = oxygens[:2]
spring = mm.CustomBondForce("0.5 * k * (r - r0)^2")
spring.addGlobalParameter("k", 5000.0)  # kJ/mol/nm²
spring.addGlobalParameter("r0", 0.35)  # nm
spring.addBond(*pair, [])
spring.setUsesPeriodicBoundaryConditions(True)
system.addForce(spring)

integrator = duality.LangevinLearningIntegrator(300 * unit.kelvin, 5 / unit.picosecond, 0.5 * unit.femtosecond)
simulation = app.Simulation(topology, system, integrator)
simulation.context.setPositions(start.positions)
simulation.context.setVelocitiesToTemperature(300 * unit.kelvin)
distances = []
for _ in range(10):
    simulation.step(max(1, steps // 10))
    positions = simulation.context.getState(positions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer)
    apart = positions[pair[1]] - positions[pair[0]]
    apart -= np.diag(start.cell) * np.round(apart / np.diag(start.cell))
    distances.append(np.linalg.norm(apart))
print(f"O–O distance: {np.mean(distances):.3f} nm")
