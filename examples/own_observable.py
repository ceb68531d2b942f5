"""An observable of your own, from a run in a folder: the number of neighbours of an oxygen atom, with an error bar.

python examples/own_observable.py water.safetensors 20000
"""

import sys
from pathlib import Path

import mdtraj
import numpy as np
from openmm import unit

import openmm_duality as duality

model, steps = sys.argv[1], int(sys.argv[2])
losses = duality.AgentLosses.load(model)
start = duality.read_start(Path(__file__).parent / "water64.xyz")
topology = duality.create_topology(start.species, cell=start.cell)
integrator = duality.NoseHooverLearningIntegrator(300 * unit.kelvin, 10 / unit.picosecond, 0.5 * unit.femtosecond)
# a folder with trajectory, log and checkpoint; called again it goes on
run = duality.simulate(
    duality.create_system(losses, topology),
    topology,
    start.positions,
    integrator,
    "run",
    steps=steps,
    report_interval=max(1, steps // 100),
    limits=duality.Limits.of(losses),
)
trajectory = mdtraj.load(str(run.directory / "trajectory.dcd"), top=str(run.directory / "topology.pdb"))
oxygens = trajectory.topology.select("element O")
pairs = np.array([(i, j) for k, i in enumerate(oxygens) for j in oxygens[k + 1 :]])
near = mdtraj.compute_distances(trajectory, pairs) < 0.33  # nm, the first minimum of g(r)
neighbours = 2.0 * near.sum(axis=1) / len(oxygens)
blocks = [block.mean() for block in np.array_split(neighbours, 5)]
print(f"{run.message}\nNeighbours of an oxygen atom: {np.mean(blocks):.2f} ± {np.std(blocks, ddof=1) / 5**0.5:.2f}")
