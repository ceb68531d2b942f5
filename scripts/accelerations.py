"""Inference without forces: a CP2K trajectory of every step, fitted to its accelerations and to its forces.

bash scripts/cp2k_every_step.sh runs/water64-every-step
python scripts/accelerations.py runs/water64-every-step
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import openmm_duality as duality
from openmm_duality.inference.equations.targets import count_samples
from openmm_duality.inference.errors import format_tables

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="CP2K project with positions and forces of every step")
    arguments = parser.parse_args()
    frames = duality.read(arguments.data)
    test = duality.read(EXAMPLES / "water64-cnnp").split()[1][::4]
    without = replace(frames, forces=None)
    every = max(1, (len(frames) - 2) // count_samples(without))
    for form in ("pair", "quadratic"):
        for gradient in ("collective", "agent"):
            tables = {
                name: duality.evaluate(duality.infer(data, form=form, gradient=gradient, cutoff=0.6), test)
                for name, data in (("forces", frames[1:-1:every]), ("accelerations", without))
            }
            ratio = tables["accelerations"].force_rmse["all"] / tables["forces"].force_rmse["all"]
            print(f"\n{form}, {gradient}: accelerations/forces {ratio:.3f}\n{format_tables(tables)}", flush=True)


if __name__ == "__main__":
    main()
