"""What each soft symmetry is worth on few frames: errors of forces, predicted pump and a short run with each alone.

    python scripts/symmetries.py [--gradient agent] [--form quadratic] [--pairs 13] [--time 2] [-o runs/symmetries]

Trained on pairs of frames of liquid water 20 fs apart, evenly spaced; the penalties are of eight frames. Runs are of
64 H2O at 300 K, Langevin with 1/ps, 0.5 fs; a broken one says when it broke.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from pump import EXAMPLES, run

import openmm_duality as duality
from openmm_duality.inference.equations.inference import Inference
from openmm_duality.inference.fitting import solve_with_core

STRENGTHS = {"pump": 1e-2, "net-force": 30.0, "net-torque": 30.0, "work": 30.0}
RIDGE, CURVATURE = 1e-8, 1e-5
CASES = ((), *((name,) for name in STRENGTHS), *(("pump", name) for name in tuple(STRENGTHS)[1:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--form", default="quadratic")
    parser.add_argument("--gradient", default="agent", help="agent or mutual")
    parser.add_argument("--pairs", type=int, default=13, help="of training frames")
    parser.add_argument("--time", type=float, default=2.0, help="ps of each run; 0 for none")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/symmetries"), help="folder of the runs")
    arguments = parser.parse_args()
    train, test = duality.read(EXAMPLES / "water64-cnnp").split(0.2)
    first = np.linspace(0, len(train) - 2, arguments.pairs).astype(int)
    chosen = train[np.sort(np.concatenate([first, first + 1]))]
    others = {name: strength for name, strength in STRENGTHS.items() if name != "pump"}
    choices = {"cutoff": 0.59, "members": 0, "ridge": RIDGE, "curvature": CURVATURE, "stress_weight": 0.0}
    settings = duality.Settings(
        form=arguments.form, gradient=arguments.gradient, pump=STRENGTHS["pump"], symmetries=others, **choices
    )
    equations = Inference.of([duality.DataSet(chosen)], settings)
    for case in CASES:
        strengths = {name: STRENGTHS[name] if name in case else 0.0 for name in STRENGTHS}
        losses = solve_with_core(equations, [{"ridge": RIDGE, "curvature": CURVATURE, **strengths}])
        errors = duality.evaluate(losses, test, at_most=4)
        text = f"{' and '.join(case) or 'none':20s} force RMSE {errors.force_rmse['all']:6.1f} meV/Å"
        text += f", on molecules {errors.force_rmse['molecular']:6.1f}, predicted pump {errors.pump:8.3f}"
        if arguments.time:
            found = run(losses, test, arguments.output / "-".join([arguments.gradient, *case]), arguments.time, 1.0)
            text += f", ran {found['ran_ps']:.2f} ps {found['reason']}"
        print(text, flush=True)


if __name__ == "__main__":
    main()
