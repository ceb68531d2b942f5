"""A large box from a small one: 512 water molecules, and the time of a step.

python examples/large_box.py water.safetensors 2000
"""

import sys
import time
from pathlib import Path

from openmm import app, unit

import openmm_duality as duality

model, steps = sys.argv[1], int(sys.argv[2])
start = duality.read_start(Path(__file__).parent / "water64.xyz").repeated((2, 2, 2))
topology = duality.create_topology(start.species, cell=start.cell)
system = duality.create_system(duality.AgentLosses.load(model), topology)
timestep = 0.5 * unit.femtosecond
integrator = duality.LangevinLearningIntegrator(300 * unit.kelvin, 5 / unit.picosecond, timestep)
simulation = app.Simulation(topology, system, integrator)
simulation.context.setPositions(start.positions)
simulation.context.setVelocitiesToTemperature(300 * unit.kelvin)
simulation.step(1)  # compiles what is compiled
begin = time.perf_counter()
simulation.step(steps)
seconds = (time.perf_counter() - begin) / steps
per_day = 86400 / seconds * timestep.value_in_unit(unit.nanosecond)
print(f"{len(start.species) // 3} molecules: {1e3 * seconds:.2f} ms per step, {per_day:.2f} ns per day")
