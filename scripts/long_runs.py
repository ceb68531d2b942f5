"""Long runs of a model: 64 H2O for 100 ps and 512 H2O for 10 ps, NVT at 300 K, with every molecule checked.

Before that, 20 ps are run and left out: 512 H2O start as eight copies of 64, which decorrelate slowly. Prints for each
run how it ended, and the drift of the energies with standard errors; the same is written to FOLDER/summary.json. A
killed script resumes.

    python scripts/long_runs.py MODEL [-o runs/long] [--time 100] [--large 10] [--backend BACKEND]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from run_log import drift

import openmm_duality as duality

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
TIMESTEP = 0.5e-3  # ps
EQUILIBRATION = 20.0  # ps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/long"))
    parser.add_argument("--time", type=float, default=100.0, help="ps of 64 H2O")
    parser.add_argument("--large", type=float, default=10.0, help="ps of 512 H2O")
    parser.add_argument("--backend", help="fused where it can be by default")
    arguments = parser.parse_args()
    losses = duality.AgentLosses.load(arguments.model)
    start = duality.read_start(duality.read(EXAMPLES / "water64-cnnp"))
    results = []
    for copies, time in ((1, arguments.time), (2, arguments.large)):
        if not time:
            continue
        begin = start if copies == 1 else start.repeated((copies, copies, copies))
        atoms = len(begin.species)
        topology = duality.create_topology(begin.species, None, begin.cell)
        directory = arguments.output / f"{atoms // 3}-h2o"
        result = duality.simulate(
            duality.create_system(losses, topology, backend=arguments.backend, platform="CPU"),
            topology,
            begin.positions,
            duality.NoseHooverLearningIntegrator(300.0, 10.0, TIMESTEP),
            directory,
            steps=round((EQUILIBRATION + time) / TIMESTEP),
            report_interval=40,
            platform="CPU",
            seed=1,
            species=begin.species,
            limits=duality.Limits.of(losses),
        )
        # J/mol per atom and ps, with standard errors
        potential, conserved = (
            [1e3 * x / atoms for x in drift(directory, name, EQUILIBRATION)]
            for name in ("potential_energy", "conserved_quantity")
        )
        results.append(
            {
                "molecules": atoms // 3,
                "ps": result.steps_done * TIMESTEP,
                "status": result.status,
                "reason": result.reason,
                "ms_per_step": result.ms_per_step,
                "potential_energy_drift_j_per_mol_atom_ps": potential,
                "conserved_quantity_drift_j_per_mol_atom_ps": conserved,
            }
        )
        print(
            f"{atoms // 3} H2O: {result.steps_done * TIMESTEP:g} ps, {result.status} {result.reason}\n"
            f"  drift in J/mol per atom and ps: potential energy {potential[0]:.2f} ± {potential[1]:.2f}, "
            f"conserved quantity {conserved[0]:.3f} ± {conserved[1]:.3f}; {result.ms_per_step:.2f} ms per step",
            flush=True,
        )
    (arguments.output / "summary.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
