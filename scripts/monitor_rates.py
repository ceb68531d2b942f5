"""False alarms of the monitor per check and per ns, at several sizes, against the rates that it states.

python scripts/monitor_rates.py MODEL [--monitoring MODEL] [--molecules 64,512,4096] [--atom-checks 500000]

Learning dynamics of MODEL at 300 K, from copies of a frame of `water64-cnnp` that 1 ps at 400 K and 1 ps at 300 K have
made unlike each other, with a check every 50 fs by the domain and the committee of another model. For every check the
smallest setting of `Monitor(false_alarms=…)` is found at which it raises an alarm; a line has the settings, and in how
many checks there was one.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from openmm import Platform, app, unit

import openmm_duality as duality
from openmm_duality.geometry.cells import supercell
from openmm_duality.learning.monitor import PER_ATOM_TESTS, Monitor
from openmm_duality.losses import AgentLosses

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
TIMESTEP, INTERVAL, EQUILIBRATION = 0.5e-3, 100, 2000  # ps, steps, steps at each temperature
SETTINGS = (1e-3, 1e-2, 1e-1, 1.0)  # alarms per check


def main() -> None:
    """Print a line for every size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--monitoring", help="the model whose domain and committee are tested; MODEL by default")
    parser.add_argument("--molecules", default="64,512,4096")
    parser.add_argument("--atom-checks", type=float, default=5e5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    losses = AgentLosses.load(given.model)
    monitoring = AgentLosses.load(given.monitoring) if given.monitoring else losses
    frames, found = duality.read(EXAMPLES / "water64-cnnp"), []
    for molecules in map(int, given.molecules.split(",")):
        copies = round((molecules / 64) ** (1 / 3))
        positions, species, cell = supercell(frames.positions[500], frames.species, frames.cell(500), 3 * (copies,))
        topology = duality.create_topology(species, cell=cell)
        integrator = duality.LangevinLearningIntegrator(400.0, 5.0, TIMESTEP)
        system = duality.create_system(losses, topology, backend="fused")
        simulation = app.Simulation(topology, system, integrator, Platform.getPlatformByName("CPU"))
        simulation.context.setPositions(positions)
        simulation.context.setVelocitiesToTemperature(400.0, 1)
        for temperature in (400.0, 300.0):
            integrator.setTemperature(temperature)
            simulation.step(EQUILIBRATION)
        monitor, shares = Monitor(monitoring, species), []
        for _ in range(round(given.atom_checks / len(species))):
            simulation.step(INTERVAL)
            state = simulation.context.getState(positions=True)
            at = state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
            shares.append(monitor.shares(np.asarray(at), cell))
        least = np.array(shares) * PER_ATOM_TESTS * len(species)
        row = {
            "molecules": molecules,
            "checks": len(least),
            "alarms": {str(one): int((least.min(axis=1) < one).sum()) for one in SETTINGS},
            "by_test": {
                name: [int((least[:, k] < one).sum()) for one in SETTINGS]
                for k, name in enumerate(("distances", "environments", "forces"))
            },
            "least": least.min(axis=0).tolist(),
        }
        found.append(row)
        print(json.dumps(row), flush=True)
        if given.json:
            given.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
