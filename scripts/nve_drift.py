"""Energy conservation over 10 ps: NVE at 0.25 fs and the Nosé–Hoover quantity, fitted slopes per atom.

python scripts/nve_drift.py MODEL [--time 10] [-o runs/nve-drift]
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import numpy as np

import openmm_duality as duality

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
TIMESTEP = 0.25e-3  # ps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--time", type=float, default=10.0, help="ps of each run")
    parser.add_argument("--platform", default="Reference", help="Reference integrates in double precision")
    parser.add_argument("--precision", default="double", help="of the losses: double or single")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/nve-drift"))
    arguments = parser.parse_args()
    losses = duality.AgentLosses.load(arguments.model)
    start = duality.read_start(duality.read(EXAMPLES / "water64-cnnp"))
    topology = duality.create_topology(start.species, None, start.cell)
    integrators = {
        "nve": duality.VerletLearningIntegrator(TIMESTEP),
        "nose-hoover": duality.NoseHooverLearningIntegrator(300.0, 10.0, TIMESTEP),
    }
    for name, integrator in integrators.items():
        directory = arguments.output / name
        duality.simulate(
            duality.create_system(losses, topology, precision=arguments.precision),
            topology,
            start.positions,
            integrator,
            directory,
            steps=round(arguments.time / TIMESTEP),
            report_interval=40,
            platform=arguments.platform,
            temperature=300.0,
            seed=1,
        )
        with open(directory / "log.csv") as file:
            rows = list(csv.DictReader(file))
        time = np.array([float(row["time_ps"]) for row in rows])
        conserved = np.array([float(row["conserved_quantity"]) for row in rows]) / len(start.species)
        slope, _ = np.polyfit(time, conserved, 1)
        result = {"slope_kj_per_mol_atom_ps": float(slope), "fluctuation_kj_per_mol_atom": float(np.std(conserved))}
        (directory / "drift.json").write_text(json.dumps(result, indent=1) + "\n")
        print(f"{name}: slope {slope:.2e} kJ/mol per atom and ps over {time[-1]:g} ps", flush=True)


if __name__ == "__main__":
    main()
