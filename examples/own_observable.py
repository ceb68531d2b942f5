"""An observable of your own: from some frames to one number of each, compared with error bars and a p value.

openmm-duality compare own-run examples/water64-cnnp --observable examples/own_observable.py:neighbours
python examples/own_observable.py water.safetensors 20000
"""

import sys
from pathlib import Path

import openmm_duality as duality


def neighbours(frames):
    """Number of oxygen atoms within 3.3 Å of an oxygen atom, in every frame."""
    found = []
    for atoms in frames.to_ase():
        oxygens = atoms[atoms.symbols == "O"]
        found.append((oxygens.get_all_distances(mic=True) < 3.3).sum() / len(oxygens) - 1)
    return found


if __name__ == "__main__":
    from openmm import unit

    model, steps = sys.argv[1], int(sys.argv[2])
    folder = Path(__file__).parent
    losses = duality.AgentLosses.load(model)
    start = duality.read_start(folder / "water64.xyz")
    topology = duality.create_topology(start.species, cell=start.cell)
    integrator = duality.NoseHooverLearningIntegrator(300 * unit.kelvin, 10 / unit.picosecond, 0.5 * unit.femtosecond)
    # a folder with trajectory, log and checkpoint; called again it goes on
    run = duality.simulate(
        duality.create_system(losses, topology),
        topology,
        start.positions,
        integrator,
        "own-run",
        steps=steps,
        report_interval=max(1, steps // 100),
        limits=duality.Limits.of(losses),
    )
    reference = duality.read_cp2k(folder / "water64-cnnp" / "water64")[::10]
    comparison = duality.compare(run.directory, reference, observables=[neighbours], progress=False)
    own = comparison.own["neighbours"]
    print(f"{run.message}\nNeighbours of an oxygen atom, with standard errors:")
    for name, found in (("run", own.run.average), ("reference", own.reference.average)):
        print(f"{name}: {found.mean:.2f} ± {found.error:.2f}")
