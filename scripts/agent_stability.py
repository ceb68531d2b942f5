"""The paper's learning rule, losses `quadratic` with the gradient `agent`: stability and error by regularisation.

For each ridge: the force error on held-out liquid, how long 64 H2O remain intact at 300 K (Nosé–Hoover, 0.5 fs), and
the energy that the losses add per ps, which is what the heat bath removes.

    python scripts/agent_stability.py [--time 5] [--ridges 1e-7,1e-5,…] [-o runs/agent-stability]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from run_log import columns

import openmm_duality as duality
from openmm_duality.inference.configuration import InferenceConfig

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
TIMESTEP = 0.5e-3  # ps


def added_energy(directory: Path) -> float:
    """Energy that the heat bath removes, in kJ/mol per atom and ps: slope of its energy over the second half."""
    time, potential, kinetic, conserved = columns(
        directory, "time_ps", "potential_energy", "kinetic_energy", "conserved_quantity"
    )
    half = len(time) // 2
    bath = (conserved - potential - kinetic)[half:]
    atoms = json.loads((directory / "run.json").read_text())["atoms"]
    return float(np.polyfit(time[half:], bath, 1)[0] / atoms) if len(bath) > 10 else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time", type=float, default=5.0, help="ps of each run")
    parser.add_argument("--ridges", default="1e-9,1e-7,1e-5,1e-4,1e-3,1e-2,2e-2,3e-2,5e-2,1e-1")
    parser.add_argument("--form", default="quadratic")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/agent-stability"))
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    config = InferenceConfig.load(EXAMPLES / "water.yaml")
    sets, held_out = config.read()
    start = duality.read_start(duality.read(EXAMPLES / "water64-cnnp"))
    rows = []
    for ridge in arguments.ridges.split(","):
        losses = duality.infer(
            sets, form=arguments.form, gradient="agent", cutoff=config.settings.cutoff, ridge=float(ridge)
        )
        error = duality.evaluate(losses, held_out["liquid"], at_most=60).force_rmse["all"]
        topology = duality.create_topology(start.species, None, start.cell)
        directory = arguments.output / f"ridge-{ridge}"
        result = duality.simulate(
            duality.create_system(losses, topology, platform="CPU"),
            topology,
            start.positions,
            duality.NoseHooverLearningIntegrator(300.0, 10.0, TIMESTEP),
            directory,
            steps=round(arguments.time / TIMESTEP),
            platform="CPU",
            seed=1,
            limits=duality.Limits.of(losses),
        )
        row = {
            "ridge": float(ridge),
            "curvature": [s["curvature"] for s in losses.metadata["regularisation"]],
            "force_rmse_mev_per_angstrom": error,
            "ran_ps": result.steps_done * TIMESTEP,
            "reason": result.reason,
            "added_energy_kj_per_mol_atom_ps": added_energy(directory),
        }
        rows.append(row)
        print(
            f"ridge {ridge:>6}  error {error:6.1f} meV/Å  ran {row['ran_ps']:6.3f} ps  "
            f"adds {row['added_energy_kj_per_mol_atom_ps']:8.3f} kJ/mol per atom and ps  {result.reason}",
            flush=True,
        )
    (arguments.output / "summary.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
