"""Force errors on held-out frames of water, with and without a baseline of fixed charges, at several cutoffs.

python scripts/baseline.py [--cutoffs 0.35,0.5] [--form moment] [--save FOLDER]

The baselines are flexible TIP3P with PME, and its charges alone. The regularisation is what cross-validation chose.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import openmm as mm

import openmm_duality as duality
from openmm_duality.benchmark.water import as_water, nonbonded_alone, tip3p_system, tip3p_topology
from openmm_duality.losses.baseline import Baseline
from openmm_duality.reference.summary import component_rms

EXAMPLES = Path(__file__).parents[1] / "examples"


def charges_of(system: mm.System) -> mm.System:
    """A System with the charges of another, and no other forces."""
    alone, force = nonbonded_alone(system)
    for k in range(force.getNumParticles()):
        charge, sigma, _ = force.getParticleParameters(k)
        force.setParticleParameters(k, charge, sigma, 0.0)
    return alone


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cutoffs", default="0.35,0.5")
    parser.add_argument("--form", default="moment")
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    frames = duality.read(EXAMPLES / "water64-cnnp")
    train, test = frames.split(test_fraction=0.2)
    train, test = train[::6], test[::5]
    water = as_water(duality.read_start(frames))
    system, _ = tip3p_system(tip3p_topology(water), water.cell, "pme", rigid=False)
    if options.save is not None:
        options.save.mkdir(exist_ok=True)
    for cutoff in map(float, options.cutoffs.split(",")):
        for name, baseline in (("none", None), ("charges", charges_of(system)), ("tip3p", system)):
            choices = {"form": options.form, "cutoff": cutoff, "ridge": 1e-7, "curvature": 1.0, "members": 0}
            losses = duality.infer(train, baseline=baseline, **choices)
            table = duality.evaluate(losses, test)
            left = test if baseline is None else Baseline.of(baseline).subtracted_from(test)
            errors = ", ".join(f"{key} {value:.1f}" for key, value in table.force_rmse.items())
            print(f"{cutoff:g} nm, {name}: RMS force {component_rms(left.forces):.0f}, RMSE {errors} meV/Å", flush=True)
            if options.save is not None:
                losses.save(options.save / f"{name}-{cutoff:g}.safetensors")


if __name__ == "__main__":
    main()
