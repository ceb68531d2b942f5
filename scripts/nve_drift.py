"""Energy conservation: NVE and the Nosé–Hoover quantity, slopes with their errors per atom and per degree of freedom.

python scripts/nve_drift.py MODEL [--time 10] [--timestep 0.25] [--precision double] [-o runs/nve-drift]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from run_log import columns, drift

import openmm_duality as duality
from openmm_duality.units import BOLTZMANN

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--time", type=float, default=10.0, help="ps of each run")
    parser.add_argument("--timestep", type=float, default=0.25, help="in fs")
    parser.add_argument("--platform", default="Reference", help="Reference integrates in double precision")
    parser.add_argument("--precision", default="double", help="of the losses: double or single")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/nve-drift"))
    arguments = parser.parse_args()
    losses, timestep = duality.AgentLosses.load(arguments.model), 1e-3 * arguments.timestep
    start = duality.read_start(duality.read(EXAMPLES / "water64-cnnp"))
    topology = duality.create_topology(start.species, None, start.cell)
    integrators = {
        "nve": duality.VerletLearningIntegrator(timestep),
        "nose-hoover": duality.NoseHooverLearningIntegrator(300.0, 10.0, timestep),
    }
    for name, integrator in integrators.items():
        directory = arguments.output / name
        duality.simulate(
            duality.create_system(losses, topology, precision=arguments.precision, platform=arguments.platform),
            topology,
            start.positions,
            integrator,
            directory,
            steps=round(arguments.time / timestep),
            report_interval=40,
            platform=arguments.platform,
            temperature=300.0,
            seed=1,
        )
        slope, error = drift(directory, "conserved_quantity")
        (conserved,) = columns(directory, "conserved_quantity")
        atoms = len(start.species)
        freedom = json.loads((directory / "run.json").read_text())["degrees_of_freedom"]
        thermal = [1e3 * x / (freedom * BOLTZMANN * 300.0) for x in (slope, error)]
        result = {
            "slope_kj_per_mol_atom_ps": [slope / atoms, error / atoms],
            "slope_kt_per_ns_dof": thermal,
            "fluctuation_kj_per_mol_atom": float(np.std(conserved)) / atoms,
        }
        (directory / "drift.json").write_text(json.dumps(result, indent=1) + "\n")
        print(
            f"{name}, {arguments.time:g} ps: {slope / atoms:.2e} ± {error / atoms:.1e} kJ/mol per atom and ps, "
            f"{thermal[0]:.4f} ± {thermal[1]:.4f} kT per ns and degree of freedom",
            flush=True,
        )


if __name__ == "__main__":
    main()
