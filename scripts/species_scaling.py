"""Coefficients, memory, time of inference and cost of a step against the number of species: the figure and its numbers.

python scripts/species_scaling.py [--species 1 2 3 4 5 6 7 8] [--size small] [-o docs/species-scaling]

The data are made here: a model alloy of up to eight fcc metals, whose energies are those of a second-moment potential,
E = Σ_i [Σ_j A e^{−p(r/r_0 − 1)} − √(Σ_j ξ² e^{−2q(r/r_0 − 1)})]. All sets have the same lattice, density, number of
atoms and number of frames. Regularisation strengths are given, so that the seconds are those of one accumulation and
solution; a model has no committee. The figure shows what other load on the machine changes least: seconds of processor
time, and the fastest blocks of steps. Each inference runs in a process of its own, whose largest
resident memory is given. Where a form has more coefficients than --most, only their number is given.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list

import openmm_duality as duality
from openmm_duality.benchmark import Effort
from openmm_duality.benchmark.cases import Case
from openmm_duality.benchmark.interleaved import time_interleaved
from openmm_duality.benchmark.machine import describe_machine, peak_memory
from openmm_duality.benchmark.worker import save_start
from openmm_duality.dynamics.structures import Start
from openmm_duality.files import atomic_write
from openmm_duality.inference.equations.channel_selection import SIZES
from openmm_duality.inference.equations.layout import Layout
from openmm_duality.losses.forms import FORMS
from openmm_duality.report.scaling import species_figure
from openmm_duality.report.style import png
from openmm_duality.units import ELECTRONVOLT

METALS = ("Ni", "Cu", "Rh", "Pd", "Ag", "Ir", "Pt", "Au")
LATTICE, REACH = 3.8, 6.0  # Å: lattice constant, and distance at which the potential ends
RADIUS = 2.75 * np.linspace(0.97, 1.03, len(METALS))  # r_0 of like atoms, Å
STRENGTH = np.linspace(0.8, 1.2, len(METALS))
A, XI, P, Q = 0.1, 1.2, 10.5, 3.0  # A and ξ in eV
FUNCTIONS = {"moment": (28, 8)}  # radial functions of the pair part and of the moments, by default
ROUNDS = 3  # of timed steps, each of all models, so that a busy spell of the machine spoils no model in all of them
FIXED = {"ridge": 1e-7, "curvature": 1e-6, "cutoff": 0.6, "members": 0}


def energy_and_forces(atoms: Atoms) -> tuple[float, Any]:
    """Energy in eV and forces in eV/Å, shape (N, 3), of the model alloy."""
    i, j, r, vectors = neighbor_list("ijdD", atoms, REACH)
    kinds = np.array([METALS.index(name) for name in atoms.get_chemical_symbols()])
    r_0 = 0.5 * (RADIUS[kinds[i]] + RADIUS[kinds[j]])
    strength = np.sqrt(STRENGTH[kinds[i]] * STRENGTH[kinds[j]])
    inside = 1.0 - (r / REACH) ** 2
    smooth, slope = inside**3, -6.0 * r / REACH**2 * inside**2
    repulsion = strength * A * np.exp(-P * (r / r_0 - 1.0))
    bonding = (strength * XI) ** 2 * np.exp(-2.0 * Q * (r / r_0 - 1.0))
    density = np.bincount(i, bonding * smooth, len(atoms))
    derivative = repulsion * (slope - P / r_0 * smooth)
    derivative -= bonding * (slope - 2.0 * Q / r_0 * smooth) / (2.0 * np.sqrt(density[i]))
    pull = (derivative / r)[:, None] * vectors
    forces = np.zeros((len(atoms), 3))
    np.add.at(forces, i, pull)
    np.add.at(forces, j, -pull)
    return float((repulsion * smooth).sum() - np.sqrt(density).sum()), forces


def alloy(n_species: int) -> Atoms:
    """64 sites of an fcc lattice, occupied at random by equal numbers of the species, as far as possible."""
    atoms = bulk("Cu", "fcc", a=LATTICE, cubic=True) * (2, 2, 4)
    names = np.resize(METALS[:n_species], len(atoms))
    atoms.set_chemical_symbols(np.random.default_rng(n_species).permutation(names).tolist())
    return atoms


def frames_of(n_species: int, n_frames: int) -> Any:
    """Frames of the alloy, every atom displaced at random by 0.15 Å, and the cell strained by up to 3 %."""
    rng = np.random.default_rng(100 + n_species)
    perfect = alloy(n_species)
    displaced, labels = [], []
    for _ in range(n_frames):
        atoms = perfect.copy()
        atoms.set_cell(perfect.cell * rng.uniform(0.97, 1.03), scale_atoms=True)
        atoms.positions += rng.normal(scale=0.15, size=atoms.positions.shape)
        displaced.append(atoms)
        labels.append(energy_and_forces(atoms))
    return duality.Frames(
        species=tuple(perfect.get_chemical_symbols()),
        masses=perfect.get_masses(),
        positions=0.1 * np.array([atoms.positions for atoms in displaced]),
        times=np.zeros(n_frames),
        steps=np.arange(n_frames),
        cells=0.1 * np.array([np.array(atoms.cell) for atoms in displaced]),
        forces=10.0 * ELECTRONVOLT * np.array([forces for _, forces in labels]),
        energies=ELECTRONVOLT * np.array([energy for energy, _ in labels]),
        source=("model alloy",),
    )


def infer(n_species: int, n_frames: int, choices: dict[str, Any], model: Path) -> dict[str, Any]:
    """Infer and save a model; give the coefficients, the seconds and the largest memory of this process."""
    frames = frames_of(n_species, n_frames)
    begin, cpu = time.perf_counter(), time.process_time()
    losses = duality.infer(frames, **FIXED, **choices)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    losses.save(model, overwrite=True)
    (table,) = losses.metadata["errors"]["train"].values()
    return {
        "coefficients": losses.metadata["coefficients"],
        "seconds": seconds,
        "cpu_seconds": cpu,
        "memory_mib": peak_memory(),
        "train_force_rmse": table["force_rmse"]["all"],
        "channels": losses.metadata.get("channels"),
    }


def time_steps(points: list[dict[str, Any]], folder: Path) -> None:
    """Add the fastest block of steps of all rounds to the points that have a model, in µs per atom and step."""
    for number in range(ROUNDS):
        for point in points:
            if "seconds" in point:
                model = folder / f"{point['form']}-{point['species']}.safetensors"
                found = fastest_step(model, point["form"], point["species"])
                point["fastest"] = min(point.get("fastest", found), found)
        print(f"steps timed, round {number + 1} of {ROUNDS}", flush=True)


def fastest_step(model: Path, form: str, n_species: int) -> float:
    """Fastest block of steps of a model in µs per atom and step: fused, CPU platform, 1,024 atoms, perfect alloy."""
    atoms = alloy(n_species)
    start = Start(0.1 * atoms.positions, tuple(atoms.get_chemical_symbols()), 0.1 * np.array(atoms.cell))
    start = start.repeated((4, 2, 2))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "start.npz"
        save_start(file, start)
        case = Case(f"duality:{form}", "CPU", "fused", str(model))
        (row,) = time_interleaved([case], file, 0, len(start.species), Effort(repeats=5, seconds=0.2))
    if not row.blocks:
        raise SystemExit(f"{form}, {n_species} species: {row.error}")
    return 1e3 * min(row.blocks) / row.atoms


def count(form: str, n_species: int) -> int | None:
    """Number of coefficients of a form whose layout does not depend on the data."""
    if form not in FUNCTIONS:
        return None
    layout = Layout(FORMS[form], "collective", n_species, *FUNCTIONS[form])
    return sum(map(layout.size, layout.groups))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--species", type=int, nargs="+", default=list(range(1, len(METALS) + 1)))
    parser.add_argument("--forms", nargs="+", default=["channels", "moment"], choices=["channels", "moment"])
    parser.add_argument("--size", choices=list(SIZES), default="small", help="of channels")
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--most", type=int, default=9000, help="coefficients of a model that is inferred")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/species-scaling"), help="no suffix")
    arguments = parser.parse_args()
    if not all(1 <= n <= len(METALS) for n in arguments.species):
        parser.error(f"there are 1 to {len(METALS)} species")
    points = []
    with tempfile.TemporaryDirectory() as folder:
        for n in arguments.species:
            for form in arguments.forms:
                point: dict[str, Any] = {"form": form, "species": n, "coefficients": count(form, n)}
                if (point["coefficients"] or 0) <= arguments.most:
                    choices = {"form": form, **({"size": arguments.size} if form == "channels" else {})}
                    model = Path(folder) / f"{form}-{n}.safetensors"
                    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                        point |= pool.submit(infer, n, arguments.frames, choices, model).result()
                points.append(point)
                print({name: value for name, value in point.items() if name != "channels"}, flush=True)
        time_steps(points, Path(folder))
    content = {
        "machine": describe_machine(),
        "atoms": {"data": len(alloy(1)), "timed": 1024},
        "frames": arguments.frames,
        "size": arguments.size,
        "settings": FIXED,
        "points": points,
    }
    with atomic_write(arguments.output.with_suffix(".json"), overwrite=True) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")
    with atomic_write(arguments.output.with_suffix(".png"), overwrite=True) as temporary:
        temporary.write_bytes(png(species_figure(content)))


if __name__ == "__main__":
    main()
