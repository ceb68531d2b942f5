"""Windows of water for `comparison_rates.py`: runs of the models at other temperatures and densities, cut into pieces.

    python scripts/comparison_runs.py moment.safetensors -o runs/rates/300K --windows 12
    python scripts/comparison_runs.py moment.safetensors -o runs/rates/330K --windows 3 --temperature 330
    python scripts/comparison_runs.py moment.safetensors -o runs/rates/+3% --windows 2 --density 1.03
    python scripts/comparison_runs.py coupled.safetensors -o runs/rates/coupled --windows 5

Every window of 20 ps is one file of frames with velocities, every 4 fs. A run goes on where its last window ended, so
it may be killed, or made longer later. Molecules are moved with the cell where the density is another, and 5 ps are
left out before the first window. The time step is 1 fs by default, twice that of a run to be believed: windows are
compared with windows of the same step alone, and the same time costs half.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import openmm as mm

import openmm_duality as duality
from openmm_duality.dynamics.structures import Start, thermal_velocities
from openmm_duality.learning.stability import compressed
from openmm_duality.reference import Frames

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
EQUILIBRATION = 5.0  # ps
WINDOW = 20.0  # ps
FRICTION = 1.0  # 1/ps, as in water.sh
INTERVAL = 0.004  # ps between frames


def window(context: mm.Context, start: Start, masses: np.ndarray, timestep: float, begin: float) -> Frames:
    """Run for one window and keep its frames."""
    count, every = round(WINDOW / INTERVAL), round(INTERVAL / timestep)
    positions, velocities = np.empty((2, count, len(masses), 3))
    for t in range(count):
        context.getIntegrator().step(every)
        state = context.getState(positions=True, velocities=True)
        positions[t] = state.getPositions(asNumpy=True)._value
        velocities[t] = state.getVelocities(asNumpy=True)._value
    return Frames(
        species=start.species,
        masses=masses,
        positions=positions,
        velocities=velocities,
        times=begin + INTERVAL * np.arange(1, count + 1),
        steps=every * np.arange(1, count + 1),
        cells=np.tile(start.cell, (count, 1, 1)),
        timestep=timestep,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--windows", type=int, default=1)
    parser.add_argument("--temperature", type=float, default=300.0, help="in K")
    parser.add_argument("--density", type=float, default=1.0, help="times that of the reference")
    parser.add_argument("--timestep", type=float, default=1.0, help="in fs")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    losses, timestep = duality.AgentLosses.load(arguments.model), 1e-3 * arguments.timestep
    reference = duality.read(EXAMPLES / "water64-cnnp", forces=False)
    start = compressed(losses, duality.read_start(reference), arguments.density ** (-1 / 3))
    topology = duality.create_topology(start.species, None, start.cell)
    system = duality.create_system(losses, topology, platform="CPU")
    integrator = duality.NoseHooverLearningIntegrator(arguments.temperature, FRICTION, timestep)
    integrator.setRandomNumberSeed(arguments.seed)
    context = mm.Context(system, integrator, mm.Platform.getPlatformByName("CPU"))
    arguments.output.mkdir(parents=True, exist_ok=True)
    done = sorted(arguments.output.glob("window-*.safetensors"))
    begin = 0.0
    if done:
        last = Frames.load(done[-1])
        begin = float(last.times[-1])
        context.setPositions(last.positions[-1])
        context.setVelocities(last.velocities[-1])
    else:
        context.setPositions(start.positions)
        context.setVelocities(thermal_velocities(reference.masses, arguments.temperature, arguments.seed))
        integrator.step(round(EQUILIBRATION / timestep))
    for k in range(len(done), arguments.windows):
        frames = window(context, start, reference.masses, timestep, begin)
        begin = float(frames.times[-1])
        frames.save(arguments.output / f"window-{k:02d}.safetensors")
        print(f"{arguments.output}: window {k} done", flush=True)


if __name__ == "__main__":
    main()
