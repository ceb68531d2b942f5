"""Flexible TIP3P with PME, run with the start, integrator and reports of learned water, to be compared with it.

    python scripts/tip3p_run.py -o runs/tip3p [--start examples/water64-cnnp] [--time 10] [--report 0.004] [--seed 1]

Times in ps. A killed run resumes. `openmm-duality compare RUN DATA runs/tip3p` compares it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import openmm_duality as duality
from openmm_duality.benchmark.water import as_water, tip3p_system, tip3p_topology

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
TIMESTEP = 0.5e-3  # ps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/tip3p"))
    parser.add_argument("--start", type=Path, default=EXAMPLES / "water64-cnnp", help="reference data; its last frame")
    parser.add_argument("--time", type=float, default=10.0)
    parser.add_argument("--temperature", type=float, default=300.0, help="in K")
    parser.add_argument("--friction", type=float, default=1.0, help="of the Nosé–Hoover chain, in 1/ps")
    parser.add_argument("--report", type=float, default=4e-3, help="time between frames")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    water = as_water(duality.read_start(duality.read(arguments.start)))
    topology = tip3p_topology(water)
    assert water.cell is not None  # or it would not be water to TIP3P
    system, cutoff = tip3p_system(topology, water.cell, "pme", rigid=False)
    result = duality.simulate(
        system,
        topology,
        water.positions,
        duality.NoseHooverLearningIntegrator(arguments.temperature, arguments.friction, TIMESTEP),
        arguments.output,
        steps=round(arguments.time / TIMESTEP),
        report_interval=round(arguments.report / TIMESTEP),
        platform="CPU",
        seed=arguments.seed,
        species=water.species,
        save_velocities=True,
        metadata={"model": {"name": f"flexible TIP3P, PME, {cutoff:g} nm"}},
    )
    print(result.message)


if __name__ == "__main__":
    main()
