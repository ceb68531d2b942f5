"""A slab of water and its vapour, learned with a short cutoff, with and without a baseline of long range.

    python scripts/water_slab.py [-o runs/water-slab] [--time 150] [--cutoff 0.45] [--figure docs/water-slab]

The reference is flexible TIP3P with PME, whose electrostatics have a long range. The baseline is that of another model:
charges and Lennard-Jones of SPC/E (H. J. C. Berendsen, J. R. Grigera and T. P. Straatsma, J. Phys. Chem. 91, 6269
(1987)), without bonds. Losses are inferred from frames of the slab at 300 and 500 K and from distorted ones, with and
without it, and run as the reference is run (Langevin, 300 K, 1 fs). Printed and drawn are the errors of forces on
held-out frames, the fluctuations of the charge density by wave vector along the normal, and the electrostatic
potential across the slab, with error bars from blocks of time. A killed run resumes when called again.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openmm as mm
from openmm import unit

import openmm_duality as duality
from openmm_duality.benchmark.water import nonbonded_alone, tip3p_system, tip3p_topology, water_box
from openmm_duality.cp2k.distorting import Displaced, Distortion, Pushed, Rotated, Stretched, distort
from openmm_duality.dynamics import Start
from openmm_duality.files import atomic_write
from openmm_duality.losses.baseline import Baseline
from openmm_duality.observables.runs import read_run
from openmm_duality.report.figures import png
from openmm_duality.report.slab import slab_figure
from openmm_duality.units import BOLTZMANN

MOLECULES, VACUUM = 128, 2.2  # vacuum: edges of the liquid cube that are added along z
TEMPERATURE, HOT, TIMESTEP, FRICTION = 300.0, 500.0, 1e-3, 1.0  # K, K, ps, 1/ps
REPORT = 0.1  # ps
BLOCKS = 5
WAVES = 12  # of the shortest wave vectors along the normal
GRID = 300  # points of the profile across the cell
PERMITTIVITY = 5.72765e-4  # vacuum permittivity in e²/(kJ/mol)/nm
VOLT = 96.48533  # kJ/mol/e
SPCE_CHARGE, SPCE_SIGMA, SPCE_EPSILON = 0.4238, 0.3166, 0.650  # of H in e; of O in nm and kJ/mol
RECIPE = (
    Distortion(40, stretched=Stretched((0.85, 1.5), 10)),
    Distortion(30, rotated=Rotated(6), closest=0.14),
    Distortion(40, pushed=Pushed(("O", "O"), (0.21, 0.26), 4), closest=0.14),
    Distortion(30, displaced=Displaced(0.006)),
)


def slab() -> Start:
    """Liquid water between two surfaces normal to z."""
    box = water_box(MOLECULES)
    assert box.cell is not None
    edge = box.cell[2, 2]
    cell = np.diag([edge, edge, (1 + VACUUM) * edge])
    return Start(box.positions + np.array([0.0, 0.0, 0.5 * VACUUM * edge]), box.species, cell)


def run(
    system: mm.System,
    start: Start,
    folder: Path,
    time: float,
    temperature: float = TEMPERATURE,
    limits: duality.Limits | None = None,
) -> duality.Frames:
    """Positions of a run as frames without forces, up to where it stopped itself if it did."""
    topology = tip3p_topology(start)
    result = duality.simulate(
        system,
        topology,
        start.positions,
        duality.LangevinLearningIntegrator(temperature, FRICTION, TIMESTEP),
        folder,
        steps=round(time / TIMESTEP),
        report_interval=round(REPORT / TIMESTEP),
        platform="CPU",
        seed=1,
        species=start.species,
        limits=limits,
    )
    print(f"{folder.name}: {result.message}", flush=True)
    read = read_run(folder).trajectory
    positions = np.concatenate([chunk.positions for chunk in read]).astype(np.float64)
    cells = np.repeat(np.asarray(start.cell)[None], len(positions), axis=0)
    return duality.Frames(start.species, read.masses, positions, read.times, np.arange(len(positions)), cells=cells)


def nonbonded_of_spce(system: mm.System) -> mm.System:
    """Charges and Lennard-Jones of SPC/E with the PME and exclusions of a System of water, and nothing else."""
    alone, force = nonbonded_alone(system)
    for k in range(0, force.getNumParticles(), 3):
        force.setParticleParameters(k, -2 * SPCE_CHARGE, SPCE_SIGMA, SPCE_EPSILON)
        for hydrogen in (k + 1, k + 2):
            force.setParticleParameters(hydrogen, SPCE_CHARGE, 1.0, 0.0)
    return alone


def labelled(frames: duality.Frames, reference: Baseline) -> duality.Frames:
    """Frames with energies and forces of the reference."""
    found = [reference.evaluate(frames.positions[t], frames.cell(t)) for t in range(len(frames))]
    energies, forces = zip(*found, strict=True)
    return replace(frames, energies=np.array(energies), forces=np.array(forces))


def observables(frames: duality.Frames, charges: np.ndarray) -> dict[str, Any]:
    """Charge fluctuations and the potential, each with standard errors from blocks of time.

    The fluctuations are ⟨|δρ(k)|²⟩/(ε₀ V kT k²), ρ(k) = Σ q exp(ikz), V the volume of the liquid: 1 − 1/ε(k) of a bulk.
    """
    assert frames.cells is not None
    edge, height = frames.cells[0, 0, 0], frames.cells[0, 2, 2]
    weights = frames.masses / frames.masses.sum()
    z = frames.positions[:, :, 2] - (frames.positions[:, :, 2] @ weights)[:, None]  # molecules are whole
    k = 2 * np.pi / height * np.arange(1, WAVES + 1)
    density = np.array([np.exp(1j * np.outer(k, row)) @ charges for row in z])
    density -= density.mean(axis=0)
    kt = BOLTZMANN * TEMPERATURE
    volume = edge**3
    power = np.abs(density) ** 2 / (PERMITTIVITY * volume * kt * k**2)
    # the potential from the Fourier coefficients of the mean charge density, ∇²φ = −ρ/ε₀
    m = 2 * np.pi / height * np.arange(1, GRID // 2)
    place = (np.arange(GRID) / GRID - 0.5) * height
    profiles = []
    for block in np.array_split(z, BLOCKS):
        coefficient = np.mean([np.exp(-1j * np.outer(m, row)) @ charges for row in block], axis=0)
        wave = coefficient / (PERMITTIVITY * edge**2 * height * m**2) * np.exp(-0.5 * (0.02 * m) ** 2)
        profile = 2 * np.real(wave @ np.exp(1j * np.outer(m, place))) / VOLT
        profiles.append(profile - profile[np.abs(place) > 0.46 * height].mean())
    blocks = np.array([block.mean(axis=0) for block in np.array_split(power, BLOCKS)])
    total = charges @ frames.positions
    variance = (total - total.mean(axis=0)) ** 2 / (PERMITTIVITY * volume * kt)
    parts = np.array([block.mean(axis=0) for block in np.array_split(variance, BLOCKS)])

    def with_error(values: np.ndarray) -> dict[str, Any]:
        error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
        return {"mean": _rounded(values.mean(axis=0)), "standard_error": _rounded(error)}

    return {
        "wave_vector_per_nm": _rounded(k),
        "charge_fluctuations": with_error(blocks),
        "z_nm": _rounded(place),
        "potential_V": with_error(np.array(profiles)),
        "dipole_variance_xyz": with_error(parts),
    }


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{value:.5g}") for value in values]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/water-slab"))
    parser.add_argument("--time", type=float, default=150.0, help="ps of the reference; learned runs have a third")
    parser.add_argument("--discard", type=float, default=10.0, help="ps of each run")
    parser.add_argument("--cutoff", type=float, default=0.45, help="of the losses, in nm")
    parser.add_argument("--form", default="moment")
    parser.add_argument("--figure", type=Path, default=Path("docs/water-slab"))
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    start = slab()
    system, _ = tip3p_system(tip3p_topology(start), np.asarray(start.cell), "pme", rigid=False)
    reference = Baseline.of(system)
    nonbonded = next(force for force in system.getForces() if isinstance(force, mm.NonbondedForce))
    charges = np.array(
        [
            nonbonded.getParticleParameters(k)[0].value_in_unit(unit.elementary_charge)
            for k in range(system.getNumParticles())
        ]
    )
    runs = {"reference": run(system, start, arguments.output / "reference", arguments.time)}
    hot = run(system, start, arguments.output / "hot", 40.0, HOT)
    liquid = runs["reference"][round(5.0 / REPORT) :: 10]
    train, test = liquid.split(test_fraction=0.3)
    far = distort(train[::5], RECIPE, 1)[0]
    sets = {
        "slab": (train[:: max(1, len(train) // 70)], test[:: max(1, len(test) // 20)]),
        "500 K": (hot[100:320:5], hot[330::5]),
        "distorted": (far[:100], far[100::2]),
    }
    sets = {name: tuple(labelled(part, reference) for part in parts) for name, parts in sets.items()}
    data = [duality.DataSet(parts[0], 0.2 if name == "distorted" else 1.0, name) for name, parts in sets.items()]
    content: dict[str, Any] = {"cutoff_nm": arguments.cutoff, "form": arguments.form, "force_rmse_meV_per_A": {}}
    for name, baseline in (("without", None), ("with", nonbonded_of_spce(system))):
        path = arguments.output / f"{name}.safetensors"
        if not path.exists():
            choices = {"form": arguments.form, "cutoff": arguments.cutoff, "members": 0}
            duality.infer(data, baseline=baseline, progress=True, **choices).save(path)
        losses = duality.AgentLosses.load(path)
        tables = {part: duality.evaluate(losses, frames[1]) for part, frames in sets.items()}
        content["force_rmse_meV_per_A"][name] = {part: table.force_rmse for part, table in tables.items()}
        for part, table in tables.items():
            print(
                f"{name}, {part}: RMSE {table.force_rmse['all']:.1f} meV/Å, net force on molecules "
                f"{table.force_rmse['molecular']:.1f}; RMS force to learn {table.force_rms['all']:.0f}"
            )
        made = duality.create_system(losses, tip3p_topology(start), platform="CPU")
        limits = duality.Limits.of(losses)
        runs[name] = run(made, start, arguments.output / name, arguments.time / 3, limits=limits)
    for name, frames in runs.items():
        kept = frames[round(arguments.discard / REPORT) :]
        content[name] = {"ps": len(kept) * REPORT, **observables(kept, charges)}
        found = content[name]
        print(f"{name}: {found['ps']:.1f} ps")
        for what in ("charge_fluctuations", "dipole_variance_xyz"):
            rows = zip(found[what]["mean"], found[what]["standard_error"], strict=True)
            print(f"  {what}: " + ", ".join(f"{mean:.2f} ± {error:.2f}" for mean, error in rows))
        middle = np.abs(found["z_nm"]) < 0.5
        print(f"  potential in the middle: {np.array(found['potential_V']['mean'])[middle].mean():.3f} V")
    with atomic_write(arguments.figure.with_suffix(".json"), overwrite=True) as temporary:
        temporary.write_text(json.dumps(content) + "\n")
    with atomic_write(arguments.figure.with_suffix(".png"), overwrite=True) as temporary:
        temporary.write_bytes(png(slab_figure(content)))


if __name__ == "__main__":
    main()
