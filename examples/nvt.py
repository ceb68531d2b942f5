"""Water at constant volume and temperature, with the integrator and the reporters of a plain OpenMM script.

python examples/nvt.py water.safetensors 20000
"""

import sys
from pathlib import Path

from openmm import app, unit

import openmm_duality as duality

model, steps = sys.argv[1], int(sys.argv[2])
start = duality.read_start(Path(__file__).parent / "water64.xyz")
topology = duality.create_topology(start.species, cell=start.cell)
system = duality.create_system(duality.AgentLosses.load(model), topology)
integrator = duality.NoseHooverLearningIntegrator(300 * unit.kelvin, 10 / unit.picosecond, 0.5 * unit.femtosecond)
simulation = app.Simulation(topology, system, integrator)
simulation.context.setPositions(start.positions)
simulation.context.setVelocitiesToTemperature(300 * unit.kelvin)
every = max(1, steps // 10)
simulation.reporters += [
    app.DCDReporter("nvt.dcd", every, enforcePeriodicBox=False),  # the System declares no bonds to keep whole
    app.StateDataReporter(sys.stdout, every, step=True, potentialEnergy=True, temperature=True, speed=True),
]
simulation.step(steps)
